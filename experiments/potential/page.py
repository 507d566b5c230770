"""Any-order oracle, its control by chance, and what each strategy closes of the gap."""

from __future__ import annotations

from collections.abc import Sequence

from engine.figure import COLOURS, GREY
from engine.numbers import Estimate, Line, estimate, percent, table_of
from engine.page import markdown, tables
from engine.sweep import Sweep
from matplotlib.figure import Figure


def told(line: Line, key: str) -> float | None:
    return percent((line.get("strategies") or {}).get(key))


def gain(line: Line, strategy: str) -> float | None:
    """Accuracy of a strategy less that of hybrid, in points."""
    found = (line.get("strategies") or {}).get("accuracy", {})
    if strategy not in found or "hybrid" not in found:
        return None
    return 100 * (found[strategy] - found["hybrid"])


def names(rows: Sequence[Line]) -> list[str]:
    found = (rows[0].get("strategies") or {}).get("accuracy", {})
    return [name for name in found if name != "hybrid"]


def bold(value: Estimate) -> str:
    return f"**{value.text(2)}**" if value.apart else value.text(2)


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """Oracle and control; gains of the strategies over hybrid; the share of the gap they close."""
    out, compared = [], 0
    for data, rows in table_of(lines).items():
        body, gains = [], []
        for label, here in rows.items():
            hybrid = estimate(
                percent((line.get("strategies") or {}).get("accuracy", {}).get("hybrid"))
                for line in here
            )
            cells = [estimate(told(line, k) for line in here) for k in ("oracle", "gap", "excess")]
            body.append([label, hybrid.text(), *(cell.text() for cell in cells)])
            for name in names(here):
                value = estimate(gain(line, name) for line in here)
                closed = estimate(
                    percent((line["strategies"]["closed"]).get(name)) for line in here
                )
                gains.append([label, name, bold(value), closed.text(0)])
                compared += 1
        head = ["row", "hybrid", "any-order oracle", "gap", "gap beyond chance"]
        out.append(f"### {data}\n\n{markdown(head, body)}")
        head = ["row", "strategy", "less hybrid, points", "share of the gap closed, %"]
        out.append(markdown(head, gains))
    out.append(
        "The oracle knows the label and takes any order that is right. Gap beyond chance: less "
        "what as many random answers that agree as much would gain (see "
        "`mmeq.inference.oracle`); below 0, orders differ less usefully than chance. "
        f"{compared} comparisons.\n"
    )
    return "\n".join([*out, tables(lines, sweep.reference)])


def figure(lines: Sequence[Line], sweep: Sweep) -> Figure:
    """Gap, gap beyond chance, and the best strategy's gain, by data set and row."""
    found = table_of(lines)
    drawn = Figure(figsize=(3 * len(found), 3.2), layout="constrained")
    axes = drawn.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for ax, (data, rows) in zip(axes, found.items(), strict=True):
        for place, here in enumerate(rows.values()):
            bars = {
                "oracle − hybrid": estimate(told(line, "gap") for line in here),
                "beyond chance": estimate(told(line, "excess") for line in here),
            }
            for name in names(here):
                bars[f"{name} − hybrid"] = estimate(gain(line, name) for line in here)
            for shift, (name, value) in enumerate(bars.items()):
                x = place + 0.11 * (shift - len(bars) / 2)
                colour = COLOURS[shift % len(COLOURS)]
                ax.plot([x, x], [value.low, value.high], color=colour, lw=1.6)
                ax.plot(x, value.mean, "o", ms=4, color=colour, label=None if place else name)
        ax.axhline(0, color=GREY, lw=0.8, ls="--")
        ax.set_xticks(range(len(rows)), [r.replace(" ", "\n") for r in rows], fontsize=8)
        ax.set_title(data, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("points of accuracy", fontsize=8)
    axes[0].legend(fontsize=6.5, frameon=False)
    return drawn
