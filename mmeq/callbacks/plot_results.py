"""Figures of a test as pure functions: a report's entry or arrays in, a Figure out.

Shape suffixes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mmeq.callbacks.plotting import COLOURS, new_figure, numbers, scale_of, styled

BARS = 31  # coalitions drawn as one bar each: five modalities


@styled
def plot_coalitions(entry: Mapping[str, Any]) -> Figure:
    """Draw the game's value of every coalition, sorted by size, with 95 % intervals.

    Up to five modalities each coalition is a bar; beyond, each size is a column of points, with the
    best and the worst coalition named, since hundreds of bars tell nobody anything.
    """
    game, names = entry["game"], list(entry["phi"])
    rows = [
        (
            0 if key == "none" else key.count("+") + 1,
            key,
            values[game],
            values["low"],
            values["high"],
        )
        for key, values in entry["values"].items()
    ]
    scale, _ = scale_of(game)
    label = {"nll": "NLL (nats)", "accuracy": "accuracy (%)", "macro_f1": "macro F1 (%)"}.get(
        game, game
    )
    empty = next(scale * value for size, _, value, *_ in rows if size == 0)
    rows = [row for row in rows if row[0] > 0]
    draw = _coalition_bars if len(rows) <= BARS else _coalition_points
    return draw(rows, names, empty, scale, label)


def _coalition_bars(
    rows: list[Any], names: list[str], empty: float, scale: float, label: str
) -> Figure:
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    figure, axes = new_figure(8, 1.5 + 0.3 * len(rows))
    shades = mpl.colormaps["Blues"](np.linspace(0.35, 0.85, len(names)))
    values = scale * numbers([row[2] for row in rows])
    low, high = (scale * np.abs(numbers([row[i] for row in rows])) for i in (3, 4))
    low, high = np.minimum(low, high), np.maximum(low, high)
    places = np.arange(len(rows)) + 0.5 * np.cumsum([0, *(a[0] != b[0] for a, b in pairwise(rows))])
    axes.barh(places, values, color=[shades[row[0] - 1] for row in rows], height=0.78)
    axes.hlines(places, low, high, color="#222222", lw=1.3)
    right = np.nanmax(np.where(np.isfinite(high), high, values))
    for place, value in zip(places, values, strict=True):
        text = f"{value:.1f}" if scale == 100 else f"{value:.3f}"
        axes.text(right * 1.015, place, text, va="center", fontsize=9)
    axes.axvline(empty, color="#555555", linestyle="--", linewidth=1.2)
    axes.annotate(
        "best constant", (empty, 1), xycoords=("data", "axes fraction"), xytext=(3, -1),
        textcoords="offset points", fontsize=8, color="#555555", va="bottom", ha="center",
    )  # fmt: skip
    axes.set_yticks(places, [row[1].replace("+", " + ") for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, max(right, empty) * 1.1)
    axes.set_ylim(places[-1] + 0.7, -0.7)
    axes.set_xlabel(label)
    axes.set_title("Test: every coalition of modalities", pad=16)
    return figure


def _coalition_points(
    rows: list[Any], names: list[str], empty: float, scale: float, label: str
) -> Figure:
    figure, axes = new_figure(10, 5.6)
    means = []
    for size in range(1, len(names) + 1):
        part = sorted((row for row in rows if row[0] == size), key=lambda row: row[2])
        values = scale * numbers([row[2] for row in part])
        spread = np.zeros(1) if len(part) == 1 else (np.arange(len(part)) * 0.618 % 1 - 0.5) * 0.5
        axes.scatter(size + spread, values, s=16, color=COLOURS[0], alpha=0.45, lw=0)
        axes.hlines(values.mean(), size - 0.32, size + 0.32, color=COLOURS[1], lw=2.4)
        means.append(values.mean())
        ends = [(part[-1], values[-1], 7, "bottom"), (part[0], values[0], -7, "top")]
        if size == 1:  # longer names would overlap their neighbours
            for row, value, shift, side in ends:
                axes.annotate(
                    row[1], (size, value), xytext=(0, shift), textcoords="offset points",
                    ha="center", va=side, fontsize=9,
                )  # fmt: skip
        elif size == len(names) - 1:
            for row, value, shift, side in ends:
                absent = next(name for name in names if name not in row[1].split("+"))
                axes.annotate(
                    f"without {absent}", (size, value), xytext=(0, shift),
                    textcoords="offset points", ha="center", va=side, fontsize=9,
                )  # fmt: skip
    axes.plot(range(1, len(names) + 1), means, color=COLOURS[1], lw=1.2, label="mean of the size")
    axes.axhline(empty, color="#555555", linestyle="--", linewidth=1.2, label="best constant")
    axes.set_xticks(range(1, len(names) + 1))
    axes.set_xlabel("modalities in the coalition")
    axes.set_ylabel(label)
    axes.margins(y=0.12)
    axes.set_title("Test: every coalition of modalities, by size")
    axes.legend(loc="upper left")
    return figure


@styled
def plot_confusion(labels_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix of all modalities together: rows are true classes, in percent.

    Args:
        labels_N: true classes [N].
        predicted_N: predicted classes [N].
        classes: their names [C].
    """
    count = len(classes)
    table = np.zeros((count, count), dtype=int)
    np.add.at(table, (labels_N, predicted_N), 1)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.42 * count, 4.2, 13))
    figure, axes = new_figure(side + 0.9, side)
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the true class")
    if count <= 20:
        size = 9 if count <= 12 else 7
        for (i, j), number in np.ndenumerate(table):
            if number:
                colour = "white" if share[i, j] > 0.55 else "#222222"
                axes.text(j, i, str(number), ha="center", va="center", color=colour, fontsize=size)
    if count <= 60:
        long = max(len(name) for name in classes) > 3
        size = 9 if count <= 30 else 6
        axes.set_xticks(range(count), classes, rotation=90 if long else 0, fontsize=size)
        axes.set_yticks(range(count), classes, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    right = 100 * np.trace(table) / max(table.sum(), 1)
    axes.set_title(f"Test: {right:.1f} % of {table.sum()} right")
    return figure
