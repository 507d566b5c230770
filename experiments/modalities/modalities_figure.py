"""The figure of four and more modalities, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.figure import COLOURS
from engine.spread import Interval, interval
from matplotlib.figure import Figure
from modalities_page import (
    AGREEMENT,
    ORDERS,
    SHOWN,
    Line,
    differs,
    gap,
    groups,
    numbers,
    present,
)


def figure(runs: Sequence[Line], times: Sequence[Line]) -> Figure:
    """Agreement and accuracy against orders, cost of predictions and of training against M."""
    plot = Figure(figsize=(9, 7.4), layout="constrained")
    axes = plot.subplots(2, 2)
    draw_orders(axes[0][0], runs)
    draw_gaps(axes[0][1], runs)
    draw_predictions(axes[1][0], times)
    draw_epochs(axes[1][1], times)
    return plot


def bars(ax: Any, x: Sequence[float], found: Sequence[Interval], **style: Any) -> None:
    """Estimates with their intervals."""
    ends = [[abs(one[k] - one[0]) for one in found] for k in (1, 2)]
    ax.errorbar(x, [one[0] for one in found], ends, capsize=2, lw=1.3, ms=4, **style)


def draw_orders(ax: Any, runs: Sequence[Line]) -> None:
    """Predictions that agree with the reference, against the number of orders."""
    drawn = [x for x in groups(runs) if x[:2] in (("synthetic", 4), ("synthetic", 6),
             ("synthetic", 8), ("synthetic", 10), ("mfeat", 4), ("mfeat", 6))]  # fmt: skip
    for number, (data, size, found) in enumerate(drawn):
        names = ["memory_guided", *(n for n in found[0]["strategies"] if n.startswith("sampled"))]
        names = [name for name in names if differs(found, name)]
        agreed = [interval([100 * x for x in numbers(found, name, AGREEMENT)]) for name in names]
        orders = [numbers(found, name, ORDERS)[0] for name in names]
        style = "--" if data == "mfeat" else "-"
        bars(ax, orders, agreed, color=COLOURS[number], ls=style, marker="o",
             label=f"{data}, M={size}")  # fmt: skip
    ax.set(xscale="log", xlabel="orders averaged (1: memory_guided)")
    ax.set_xticks([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64])
    ax.minorticks_off()
    ax.set_ylabel("predictions equal to all (or 512) orders, %")
    ax.legend(fontsize=8, frameon=False)


def draw_gaps(ax: Any, runs: Sequence[Line]) -> None:
    """Accuracy less that of the reference, against M, synthetic data."""
    own = [(size, found) for data, size, found in groups(runs) if data == "synthetic"]
    for number, name in enumerate(SHOWN):
        if name not in present(runs, SHOWN):
            continue
        found = [(size, gap(lines, name)) for size, lines in own if differs(lines, name)]
        bars(ax, [size + 0.11 * (number - 2) for size, _ in found], [x for _, x in found],
             color=COLOURS[number], ls="", marker="osD^v"[number], label=name)  # fmt: skip
    ax.axhline(0, color="0.45", lw=0.9, ls="--", zorder=0)
    ax.set(xlabel="modalities (synthetic)", ylabel="accuracy less that of the reference, points")
    ax.legend(fontsize=8, frameon=False, ncols=2)


def draw_predictions(ax: Any, times: Sequence[Line]) -> None:
    """Seconds of predictions to those of one pass."""
    names = ("reference", "cyclic", "per_sample", "sampled 8", "sampled 64", "adaptive 64")
    for number, name in enumerate(names):
        found = [(x["modalities"], x["predictions"].get(name)) for x in times]
        found = [(size, ends) for size, ends in found if ends]
        bars(ax, [size for size, _ in found], [ends for _, ends in found], color=COLOURS[number],
             marker="osD^vP"[number],
             label="hybrid" if name == "reference" else name)  # fmt: skip
    ax.set(yscale="log", xlabel="modalities", ylabel="CPU time of a prediction / one pass")
    ax.set_yticks([1, 2, 5, 10, 20, 50, 100, 200], [1, 2, 5, 10, 20, 50, 100, 200])
    ax.legend(fontsize=8, frameon=False)


def draw_epochs(ax: Any, times: Sequence[Line]) -> None:
    """Seconds of an alternating epoch to those of a joint one."""
    sizes = [line["modalities"] for line in times]
    bars(ax, sizes, [line["epoch"] for line in times], color=COLOURS[0], marker="o",
         label="measured")  # fmt: skip
    ax.plot(sizes, sizes, color="0.45", ls="--", lw=0.9, label="M steps for one")
    ax.set(xlabel="modalities (MLP encoders)", ylabel="epoch, alternating / joint")
    ax.legend(fontsize=8, frameon=False)
