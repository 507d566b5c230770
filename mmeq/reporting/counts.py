"""Figures of a dataset's numbers as pure functions: classes, gaps, lengths. Sizes are in inches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmeq.reporting.lettering import drawable, fitted, own_font

NAMED = 40
"""More classes than these are drawn as a profile without names."""


@own_font
def plot_counts(report: Mapping[str, Any], colours: Sequence[str]) -> Figure:
    """Draw samples of each class and part, and the share of samples that lack each modality.

    Args:
        report: of `mmeq.data.inspection.examine`.
        colours: of train, validation, test and unused.
    """
    classes, parts = report["classes"], list(report["parts"])
    gaps = [entry for entry in report["modalities"] if any(entry["missing"].values())]
    sizes = [len(classes) if len(classes) <= NAMED else 16.0]
    sizes += [(0.3 + 0.6 * len(parts)) * len(gaps)] if gaps else []
    heights = [1.3 + 0.26 * size for size in sizes]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    above, *below = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=heights)[:, 0]
    if len(classes) <= NAMED:
        _class_bars(above, classes, parts, colours)
    else:
        _class_profile(above, classes, parts, colours)
    above.set_title(f"{report['dataset']['name']}: {report['samples']} samples by class", pad=22)
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=8, borderaxespad=0.2)
    for axes in below:
        _gaps(axes, gaps, report["parts"], colours)
    return figure


def _class_bars(
    axes: Axes, classes: Sequence[Mapping[str, Any]], parts: Sequence[str], colours: Sequence[str]
) -> None:
    places, begun = np.arange(len(classes)), np.zeros(len(classes))
    for part, colour in zip(parts, colours, strict=False):
        count = np.asarray([entry[part] for entry in classes], dtype=float)
        axes.barh(places, count, left=begun, color=colour, height=0.75, label=part)
        begun += count
    for place, total in enumerate(begun):
        axes.text(total, place, f" {total:.0f}", va="center", fontsize=8)
    names = [fitted(entry["name"], 2.4, 10, 1) for entry in classes]
    axes.set_yticks(places, names)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlim(0, max(begun.max() * 1.1, 1))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("samples")


def _class_profile(
    axes: Axes, classes: Sequence[Mapping[str, Any]], parts: Sequence[str], colours: Sequence[str]
) -> None:
    ordered = sorted(classes, key=lambda entry: -entry["total"])
    counts = np.asarray([[entry[part] for part in parts] for entry in ordered], dtype=float).T
    edges = np.arange(len(ordered) + 1)
    begun = np.zeros(len(ordered) + 1)
    for part, count, colour in zip(parts, counts, colours, strict=False):
        end = begun + np.append(count, count[-1])
        axes.fill_between(edges, begun, end, step="post", color=colour, lw=0, label=part)
        begun = end
    axes.set_xlim(0, len(ordered))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{len(ordered)} classes, the largest first (all: classes.csv)")
    axes.set_ylabel("samples")


def _gaps(
    axes: Axes, gaps: Sequence[Mapping[str, Any]], parts: Mapping[str, int], colours: Sequence[str]
) -> None:
    bar = 0.8 / len(parts)
    most = 0.0
    for k, (part, size) in enumerate(parts.items()):
        for row, entry in enumerate(gaps):
            gone = entry["missing"][part]
            share = 100 * gone / max(size, 1)
            place, most = row + (k - (len(parts) - 1) / 2) * bar, max(most, share)
            axes.barh(place, share, height=bar * 0.9, color=colours[k])
            axes.text(share, place, f" {gone} of {size}", va="center", fontsize=8)
    axes.set_yticks(range(len(gaps)), [drawable(entry["name"]) for entry in gaps])
    axes.set_ylim(len(gaps) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.25)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 100])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("samples without the modality (%)")
    axes.set_title("Missing modalities")


@own_font
def plot_lengths(
    measures: Sequence[tuple[str, str, np.ndarray, float | None]], colours: Sequence[str]
) -> Figure:
    """Draw a histogram a length, with its 5 %, 50 % and 95 % quantile.

    Args:
        measures: title, unit, values float [n], and how much of each stands in a batch (None: all).
        colours: of bars, median and what stands in a batch.
    """
    columns = min(3, len(measures))
    lines = -(-len(measures) // columns)
    figure = Figure(figsize=(4.6 * columns, 0.4 + 2.9 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(measures) :]:
        axes.set_visible(False)
    for axes, (title, unit, values, limit) in zip(panels, measures, strict=False):
        whole = bool((values == np.round(values)).all())
        low, high = values.min(), values.max()
        step = max(1, int(np.ceil((high - low + 1) / 40))) if whole else max(high - low, 1e-3) / 40
        edges = np.arange(low - step / 2 if whole else low, high + 1.01 * step, step)
        axes.hist(values, bins=edges, color=colours[0], lw=0)
        five, half, most = np.quantile(values, [0.05, 0.5, 0.95])
        axes.axvspan(five, most, color=colours[0], alpha=0.12, lw=0, label="5–95 %")
        axes.axvline(half, color=colours[1], lw=1.4, label=f"median {half:.3g}")
        if limit is not None:
            axes.axvline(limit, color=colours[2], lw=1.4, ls="--", label=f"in a batch {limit:g}")
        axes.set_title(drawable(title), pad=20)
        axes.set_xlabel(unit)
        axes.set_ylabel("samples")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3)
    return figure
