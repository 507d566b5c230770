"""The figure of `mmeq.callbacks.tuning`: norms, interference, drift and forgetting.

Shape suffixes: T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmeq.callbacks.dynamics import final, spikes
from mmeq.callbacks.plotting import MARKERS, colour, numbers, styled

History = Sequence[Mapping[str, Any]]


@styled
def plot_tuning(
    history: History, norms: Sequence[Mapping[str, np.ndarray]], spike: float, window: int
) -> Figure:
    """Draw a run's tuning in four panels.

    Args:
        history: lines of ``history.jsonl`` with ``tuning``.
        norms: of each epoch: gradient norms [T] of its steps by series.
        spike: times the running median that make a spike.
        window: steps of the running median.
    """
    history = [line for line in history if "tuning" in line]
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    ((top, beside), (below, last)) = figure.subplots(2, 2)
    _norms(top, norms, spike, window)
    _interference(figure, beside, final(history)["interference"])
    names = list(history[0]["tuning"]["drift"])
    drifts = {m: [line["tuning"]["drift"][m] for line in history] for m in names}
    _curves(below, history, drifts, "drift ‖θ − θ₀‖ / ‖θ₀‖", "Drift of each body")
    alone = {m: [line["values"].get(m, {}).get("accuracy") for line in history] for m in names}
    _curves(last, history, alone, "validation accuracy alone", "Each modality alone")
    return figure


def _norms(
    axes: Axes, epochs: Sequence[Mapping[str, np.ndarray]], spike: float, window: int
) -> None:
    series = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    for k, name in enumerate(sorted(series, key=lambda one: not one.startswith("encoder/"))):
        parts = [epoch.get(name, np.empty(0)) for epoch in epochs]
        at_T = np.concatenate([e + (np.arange(len(p)) + 0.5) / len(p) for e, p in enumerate(parts)])
        norm_T = np.concatenate(parts)
        found_T = spikes(norm_T, spike, window)
        axes.plot(at_T, norm_T, color=colour(k), lw=0.9, label=name.removeprefix("encoder/"))
        axes.plot(at_T[found_T], norm_T[found_T], "x", color=colour(k), ms=6)
    axes.set_yscale("log")
    axes.set_xlabel("epochs trained")
    axes.set_ylabel("gradient norm")
    axes.set_title(f"Gradient norms (crosses: above {spike:g} × running median)")
    if series:
        axes.legend(fontsize=8)


def _interference(
    figure: Figure, axes: Axes, changes: Mapping[str, Mapping[str, float | None]]
) -> None:
    rows = list(changes)
    columns = [key for key in changes[rows[0]] if key != "steps"] if rows else []
    table = 1000 * np.asarray([numbers([changes[row][key] for key in columns]) for row in rows])
    axes.grid(False)
    axes.set_title("Change of loss by a step (10⁻³ nats; red: forgets)")
    if not table.size:
        axes.text(0.5, 0.5, "no step was measured", ha="center", transform=axes.transAxes)
        return
    limit = max(float(np.abs(np.nan_to_num(table)).max()), 1e-9)
    image = axes.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        dark = abs(value) > 0.6 * limit
        shown = "n/a" if np.isnan(value) else f"{value:.2f}"
        axes.text(j, i, shown, ha="center", va="center", color="w" if dark else "k")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("loss of")
    axes.set_ylabel("step for")
    figure.colorbar(image, ax=axes, shrink=0.8)


def _curves(
    axes: Axes, history: History, curves: Mapping[str, Sequence[float | None]], label: str,
    title: str,
) -> None:  # fmt: skip
    epochs = [line["epoch"] + 1 for line in history]
    for m, (name, values) in enumerate(curves.items()):
        axes.plot(
            epochs, numbers(values), color=colour(m), marker=MARKERS[m % len(MARKERS)], ms=4,
            label=name,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.legend(fontsize=8)
