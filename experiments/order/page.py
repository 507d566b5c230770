"""Orders under each loss of a step: accuracy, EDM and missing modalities."""

from __future__ import annotations

from collections.abc import Sequence

from engine.figure import COLOURS, GREY
from engine.numbers import MEASURES, Line, difference, estimate, table_of
from engine.page import markdown, tables
from engine.sweep import Sweep
from matplotlib.figure import Figure

LOSSES = ("final", "sequential", "unimodal", "prefixes")
ORDERS = ("shapley", "unimodal", "banzhaf", "random", "fixed", "strong first")
SHOWN = ("accuracy", "EDM %", "missing")


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """Each order less shapley order under the same loss; then the whole tables."""
    out, compared, apart = [], 0, 0
    for data, rows in table_of(lines).items():
        body = []
        for loss in LOSSES:
            for order in ORDERS[1:]:
                if f"{order} · {loss}" not in rows:
                    continue
                pair = rows[f"{order} · {loss}"], rows[f"shapley · {loss}"]
                gaps = [difference(*pair, MEASURES[name]) for name in SHOWN]
                compared, apart = compared + len(gaps), apart + sum(g.apart for g in gaps)
                told = [f"**{g.text()}**" if g.apart else g.text() for g in gaps]
                body.append([loss, order, *told])
        head = ["loss of a step", "order less shapley order", *SHOWN]
        out.append(f"### {data}: what another order changes\n\n{markdown(head, body)}")
    out.append(
        f"{compared} paired differences, {apart} of them with an interval that leaves 0 out (one "
        "in twenty would by chance). With two modalities shapley, unimodal and banzhaf order are "
        "the same order, so that these rows agree to the last digit.\n"
    )
    return "\n".join([*out, tables(lines, sweep.reference)])


def figure(lines: Sequence[Line], sweep: Sweep) -> Figure:
    """A panel a data set and number; losses side by side, orders by colour."""
    found = table_of(lines)
    drawn = Figure(figsize=(11, 2.7 * len(found)), layout="constrained")
    axes = drawn.subplots(len(found), len(SHOWN), squeeze=False)
    for line, (data, rows) in zip(axes, found.items(), strict=True):
        for ax, name in zip(line, SHOWN, strict=True):
            for place, loss in enumerate(LOSSES):
                for shift, order in enumerate(ORDERS):
                    value = estimate(map(MEASURES[name], rows.get(f"{order} · {loss}", ())))
                    if not value.n:
                        continue
                    x = place + 0.13 * (shift - 2.5)
                    ax.plot([x, x], [value.low, value.high], color=COLOURS[shift], lw=1.6)
                    ax.plot(x, value.mean, "o", color=COLOURS[shift], ms=4,
                            label=order if not place else None)  # fmt: skip
            base = estimate(map(MEASURES[name], rows.get("joint", ())))
            ax.axhline(base.mean, color=GREY, ls="--", lw=0.9, label="joint")
            ax.set_xticks(range(len(LOSSES)), LOSSES, fontsize=8)
            ax.set_title(f"{data}: {name}", fontsize=9)
            ax.tick_params(labelsize=8)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=7, frameon=False, ncols=2)
    return drawn
