"""The figure of Shapley approximation, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from approximation_page import (
    ESTIMATORS,
    METRICS,
    Line,
    by_budget,
    cells,
    column,
    differences,
    least,
    modalities,
    names,
)
from engine.figure import COLOURS
from engine.spread import interval, root
from matplotlib.figure import Figure


def figure(noise: Sequence[Line], orders: Sequence[Line]) -> Figure:
    """Sampling and validation noise, what the latter does to the ranking, and wrong orders."""
    plot = Figure(figsize=(9, 10.6), layout="constrained")
    axes = plot.subplots(3, 2)
    for ax, data in zip(axes[0], names(noise)[-2:], strict=False):
        draw_budgets(ax, data, modalities(noise, data))
    draw_samples(axes[1][0], noise, "weakest", "P(weakest found)")
    draw_samples(axes[1][1], noise, "tau", "Kendall τ to the reference")
    draw_orders(
        axes[2][0], orders, "accuracy", "test accuracy less that of the right order, points"
    )
    draw_orders(axes[2][1], orders, "edm", "test EDM less that of the right order, points")
    return plot


def draw_budgets(ax: Any, data: str, runs: Sequence[Line]) -> None:
    """RMSE against budget, and lines for the noise of validation samples."""
    for name, colour, marker in zip(ESTIMATORS, COLOURS, "osD^", strict=False):
        found = [
            (budget, interval(column(each, "mse"), root))
            for budget, estimator, each in by_budget(runs, "accuracy")
            if estimator == name and budget < 2 ** len(runs[0]["accuracy"]["phi"])
        ]
        ends = [[100 * abs(x[k] - x[0]) for _, x in found] for k in (1, 2)]
        y = [100 * x[0] for _, x in found]
        ax.errorbar(
            [b for b, _ in found], y, ends, color=colour, marker=marker, ms=4, lw=1.3, capsize=2,
            label=name.replace("_", " "),
        )  # fmt: skip
    for one in runs[0]["accuracy"]["sizes"]:
        size = one["samples"]
        if size not in (25, 100, 400, "all"):
            continue
        found = cells(runs, "accuracy", "sizes", samples=size)
        level = 100 * interval(column(found, "mse"), root)[0]
        ax.axhline(level, color="0.45", lw=0.9, ls="--", zorder=0)
        ax.text(1.0, level, f" n={one['n']}", transform=ax.get_yaxis_transform(), va="center",
                fontsize=8, color="0.3")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="coalitions evaluated", title=data)
    budgets = sorted(least(runs, "accuracy"))
    ax.set_xticks(budgets, [str(b) if b != 42 else "" for b in budgets], fontsize=8)
    ax.minorticks_off()
    ax.set_ylabel("RMSE of φ, points\n(dashed: exact φ of n validation samples)", fontsize=8.5)
    ax.legend(fontsize=8, frameon=False, loc="lower left")


def draw_samples(ax: Any, noise: Sequence[Line], key: str, what: str) -> None:
    """A figure against the number of validation samples."""
    for data, colour, marker in zip(names(noise), COLOURS, "osD", strict=False):
        runs = modalities(noise, data)
        sizes = runs[0]["accuracy"]["sizes"]
        found = [
            interval(column(cells(runs, "accuracy", "sizes", samples=one["samples"]), key))
            for one in sizes
        ]
        ends = [[abs(x[k] - x[0]) for x in found] for k in (1, 2)]
        ax.errorbar(
            [one["n"] for one in sizes], [x[0] for x in found], ends, color=colour, marker=marker,
            ms=4, lw=1.3, capsize=2, label=data,
        )  # fmt: skip
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="validation samples, exact φ", ylabel=what)
    ticks = [25, 50, 100, 200, 400, 1000, 4500]
    ax.set_xticks(ticks, list(map(str, ticks)), fontsize=8)
    ax.minorticks_off()
    ax.legend(fontsize=8, frameon=False, loc="lower right")


def draw_orders(ax: Any, orders: Sequence[Line], metric: str, what: str) -> None:
    """A metric of wrong orders less that of the right one."""
    marks: dict[tuple[str, str], Any] = {}
    rules = names(orders, "rule")[1:]
    for data, supervise, rule, gap in differences(orders):
        place = marks.setdefault((data, supervise), len(marks))
        mean, low, high = (METRICS[metric][0] * x for x in interval(gap[metric]))
        y = rules.index(rule) + 0.18 * place - 0.27
        ax.errorbar(
            mean, y, xerr=[[mean - low], [high - mean]], color=COLOURS[place], marker="osD^"[place],
            ms=5, capsize=2, lw=1.3, label=f"{data}, {supervise}" if rule == rules[0] else None,
        )  # fmt: skip
    ax.axvline(0, color="0.45", lw=0.9, ls="--", zorder=0)
    ax.set_yticks(range(len(rules)), rules, fontsize=8.5)
    ax.set_ylim(len(rules) + 0.3, -0.6)
    ax.set_xlabel(what)
    if marks:
        ax.legend(fontsize=7, frameon=False, ncols=2, loc="lower center", columnspacing=0.8,
                  handlelength=1.2, handletextpad=0.4)  # fmt: skip
