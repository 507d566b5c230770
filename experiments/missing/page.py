"""Accuracy when modalities are missing: the dominant one, every pattern, random rates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from engine.figure import COLOURS
from engine.numbers import Line, difference, estimate, percent, table_of
from engine.page import markdown, tables
from engine.sweep import Sweep
from matplotlib.figure import Figure


def pattern(line: Line, left: Sequence[str]) -> float | None:
    """Accuracy with these modalities alone."""
    return percent(line["test"]["values"].get("+".join(left)))


def without(strong: str, line: Line) -> float | None:
    """Accuracy when the dominant modality is missing."""
    return pattern(line, [name for name in line["modalities"] if name != strong])


def rate(line: Line, share: str) -> float | None:
    return percent((line.get("missing") or {}).get(share))


def dominant(lines: Sequence[Line]) -> str:
    """The modality of the highest φ on the validation part, mean over runs."""
    names = lines[0]["modalities"]
    mean = {m: estimate(line["validation"]["phi"][m] for line in lines).mean for m in names}
    return max(mean, key=lambda m: mean[m])


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """Dominant dropped, rates, and the whole table."""
    out, compared = [], 0
    for data, rows in table_of(lines).items():
        base = rows[sweep.reference]
        strong = dominant(base)
        dropped = partial(without, strong)
        rates = list(base[0].get("missing") or {})
        shown = [r for r in rates if float(r) in (0.1, 0.3, 0.5, 0.7)]
        body = []
        for label, here in rows.items():
            gap = difference(here, base, dropped)
            value = estimate(map(dropped, here))
            cells = [estimate(rate(line, r) for line in here).text() for r in shown]
            told = "" if here is base else f"**{gap.text()}**" if gap.apart else gap.text()
            body.append([label, value.text(), told, *cells])
            compared += here is not base
        head = ["row", f"without {strong}", f"− {sweep.reference}"]
        head += [f"{100 * float(r):g} % missing" for r in shown]
        out.append(f"### {data}: {strong} dropped, and random rates\n\n{markdown(head, body)}")
    out.append(
        f"The dropped modality is the one of the highest φ of {sweep.reference} on validation. "
        f"{compared} comparisons. Random rates: every modality is missing with this probability, "
        "at least one stays.\n"
    )
    return "\n".join([*out, tables(lines, sweep.reference)])


def figure(lines: Sequence[Line], sweep: Sweep) -> Figure:
    """Accuracy against the rate, a panel a data set."""
    found = table_of(lines)
    drawn = Figure(figsize=(3 * len(found), 3.4), layout="constrained")
    axes = drawn.subplots(1, len(found), squeeze=False)[0]
    for ax, (data, rows) in zip(axes, found.items(), strict=True):
        for shift, (label, here) in enumerate(rows.items()):
            rates = [r for r in here[0].get("missing") or {}]
            points = [estimate(percent(line["test"]["accuracy"]) for line in here)]
            points += [estimate(rate(line, r) for line in here) for r in rates]
            x = [0.0, *(100 * float(r) for r in rates)]
            ax.plot(x, [p.mean for p in points], "o-", ms=3, color=COLOURS[shift], label=label)
            low, high = [p.low for p in points], [p.high for p in points]
            ax.fill_between(x, low, high, color=COLOURS[shift], alpha=0.12, lw=0)
        ax.set_title(data, fontsize=9)
        ax.set_xlabel("missing at random, %", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy, %", fontsize=8)
    axes[0].legend(fontsize=6.5, frameon=False)
    return drawn
