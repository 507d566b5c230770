"""Figures over the epochs as pure functions: lines of ``history.jsonl`` in, a Figure out.

Shape suffixes: M modalities, E epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmeq.callbacks.plotting import (
    COLOURS,
    MARKERS,
    NAMES,
    colour,
    new_figure,
    numbers,
    scale_of,
    styled,
)

History = Sequence[Mapping[str, Any]]

PANEL = 5  # modalities that one panel of lines and bands can hold


def _band(axes: Axes, epochs: np.ndarray, low: np.ndarray, high: np.ndarray, shade: str) -> None:
    if len(epochs) > 1:
        axes.fill_between(epochs, low, high, color=shade, alpha=0.15, lw=0)
    else:
        axes.vlines(epochs, low, high, color=shade, alpha=0.5, lw=2)


def _epochs(history: History, axes: Axes) -> np.ndarray:
    epochs = np.asarray([line["epoch"] + 1 for line in history])
    axes.set_xlabel("epoch")
    if len(epochs) > 1:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(epochs[0], epochs[-1])
    else:
        axes.set_xticks(epochs)
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    return epochs


def _style(m: int, epochs: int) -> dict[str, Any]:
    return {
        "color": colour(m),
        "marker": MARKERS[m % len(MARKERS)],
        "markersize": 5,
        "markevery": max(1, epochs // 12),
        "linewidth": 1.8,
        "clip_on": False,
    }


def _mark_best(axes: Axes, best: int | None) -> None:
    if best is not None:
        axes.axvline(best + 1, color="#555555", linestyle=":", linewidth=1.2, zorder=1)
        axes.annotate(
            "best", (best + 1, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", fontsize=8, color="#555555",
        )  # fmt: skip


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0)


@styled
def plot_shapley(history: History, best: int | None = None) -> Figure:
    """φ of every modality over the epochs, with 95 % bands; the dashed line is an equal split.

    One panel up to five modalities; beyond, one small panel each, since the bands would cover
    one another.

    Args:
        history: lines of ``history.jsonl``.
        best: epoch (from 0) whose checkpoint was kept.
    """
    game, names = history[-1]["game"], list(history[-1]["phi"])
    scale, unit = scale_of(game)
    label = f"Shapley value φ ({NAMES.get(game, game)}, {unit})"
    phi_ME, low_ME, high_ME = (
        np.stack([scale * numbers([line["phi"][n][key] for line in history]) for n in names])
        for key in ("value", "low", "high")
    )
    if len(names) > PANEL:
        return _shapley_panels(history, names, label, (phi_ME, low_ME, high_ME))
    figure, axes = new_figure(8, 4.4)
    epochs = _epochs(history, axes)
    for m, name in enumerate(names):
        _band(axes, epochs, low_ME[m], high_ME[m], colour(m))
        axes.plot(epochs, phi_ME[m], label=name, **_style(m, len(epochs)))
    axes.plot(epochs, phi_ME.mean(0), "--", color="#555555", lw=1.3, label="equal split")
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_ylabel(label)
    axes.set_title("What each modality contributes")
    _mark_best(axes, best)
    _legend(axes)
    return figure


def _shapley_panels(
    history: History, names: list[str], label: str, curves: tuple[np.ndarray, ...]
) -> Figure:
    phi_ME, low_ME, high_ME = curves
    across = 3 if len(names) <= 9 else 4
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.9 * across, 1.2 + 1.8 * down), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for m, axes in enumerate(grid):
        if m >= len(names):
            axes.set_visible(False)
            continue
        epochs = _epochs(history, axes)
        axes.set_xlabel("epoch" if m + across >= len(names) else "")
        axes.tick_params(labelbottom=m + across >= len(names))
        axes.plot(epochs, phi_ME.T, color="#CFCFCF", lw=0.7, zorder=1)
        _band(axes, epochs, low_ME[m], high_ME[m], colour(m))
        axes.plot(epochs, phi_ME[m], color=colour(m), lw=1.8)
        axes.plot(epochs, phi_ME.mean(0), "--", color="#555555", lw=1)
        axes.set_title(names[m], color=colour(m))
    figure.supylabel(label, fontsize=10)
    figure.suptitle("What each modality contributes (dashed: equal split)", fontsize=11)
    return figure


@styled
def plot_edm(history: History, best: int | None = None) -> Figure:
    """Draw EDM over the epochs with its 95 % band: 0 is balance."""
    figure, axes = new_figure(8, 3.6)
    epochs = _epochs(history, axes)
    edm, low, high = (
        numbers([line["edm"][key] for line in history]) for key in ("value", "low", "high")
    )
    _band(axes, epochs, low, high, COLOURS[0])
    axes.plot(epochs, edm, **_style(0, len(epochs)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("EDM (%), 0 is balance")
    axes.set_title("Distance from equilibrium, with 95 % interval")
    _mark_best(axes, best)
    return figure


@styled
def plot_order(history: History, best: int | None = None) -> Figure:
    """Draw the place of every modality in the training order, epoch by epoch.

    Rank lines while they can be followed by eye; a heat map for many modalities or epochs.
    """
    names = list(history[-1]["phi"])
    places_ME = np.asarray([[line["order"].index(n) + 1 for line in history] for n in names])
    figure, axes = new_figure(8, 1.6 + 0.38 * len(names))
    epochs = _epochs(history, axes)
    axes.set_title("Training order (1 is trained first)")
    if len(names) > PANEL or len(epochs) > 30:
        ends = (epochs[0] - 0.5, epochs[-1] + 0.5, len(names) - 0.5, -0.5)
        image = axes.imshow(
            places_ME, aspect="auto", cmap="viridis", extent=ends, vmin=1, vmax=max(2, len(names))
        )
        axes.set_xlim(ends[:2])
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
        bar = figure.colorbar(image, ax=axes, ticks=range(1, len(names) + 1), label="place")
        bar.ax.invert_yaxis()
        return figure
    for m, name in enumerate(names):
        style = {**_style(m, len(epochs)), "linewidth": 3, "markersize": 7, "markevery": 1}
        axes.plot(epochs, places_ME[m], **style)
        axes.annotate(
            name, (epochs[-1], places_ME[m, -1]), xytext=(10, 0), textcoords="offset points",
            va="center", color=colour(m), fontweight="bold", annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(len(names) + 0.5, 0.5)
    axes.set_yticks(range(1, len(names) + 1))
    axes.set_ylabel("place in the order")
    _mark_best(axes, best)
    return figure


@styled
def plot_losses(history: History, best: int | None = None) -> Figure:
    """Draw the mean training losses of every epoch and the validation NLL."""
    figure, axes = new_figure(8, 4.2)
    epochs = _epochs(history, axes)
    modalities = list(history[-1]["phi"])
    names = sorted({name for line in history for name in line["losses"]})
    for k, name in enumerate(names):
        loss = numbers([line["losses"].get(name) for line in history])
        modality = name.rpartition("/")[2]
        if modality in modalities:  # the colour that it has in every figure
            style = _style(modalities.index(modality), len(epochs))
        else:
            style = {**_style(k, len(epochs)), "color": "#222222", "linewidth": 2.2}
        axes.plot(epochs, loss, label=name, **style)
    nll = numbers([line["nll"]["value"] for line in history])
    axes.plot(epochs, nll, "--", color="#555555", lw=1.6, label="validation NLL")
    axes.set_ylabel("loss (nats)")
    axes.set_title("Losses")
    _mark_best(axes, best)
    _legend(axes)
    return figure
