"""Rows as points with intervals, a panel a number and a data set."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from engine.numbers import MEASURES, Line, difference, estimate, table_of
from mmeq.files import write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
GREY = "#7F7F7F"


def dots(
    lines: Iterable[Line], reference: str, columns: Sequence[str] = ("EDM %", "missing")
) -> Figure:
    """Accuracy against the reference, and other numbers, by row; a line of panels a data set."""
    found = table_of(lines)
    tall = sum(len(rows) for rows in found.values())
    figure = Figure(figsize=(10, 0.24 * tall + 0.75 * len(found)), layout="constrained")
    heights = [len(rows) + 1 for rows in found.values()]
    axes = figure.subplots(
        len(found), 1 + len(columns), squeeze=False, height_ratios=heights, sharey="row"
    )
    for line, (data, rows) in enumerate(found.items()):
        labels = list(rows)
        gaps = [difference(rows[r], rows[reference], MEASURES["accuracy"]) for r in labels]
        numbers = [gaps]
        numbers += [[estimate(map(MEASURES[c], rows[r])) for r in labels] for c in columns]
        titles = [f"accuracy − {reference}, points", *columns]
        for ax, title, values in zip(axes[line], titles, numbers, strict=True):
            for place, value in enumerate(values):
                if not value.n:
                    continue
                colour = GREY if labels[place] == reference else COLOURS[0]
                ax.plot([value.low, value.high], [place, place], color=colour, lw=1.6)
                ax.plot(value.mean, place, "o", color=colour, ms=4.5)
            if values is gaps:
                ax.axvline(0, color=GREY, lw=0.8, ls="--")
                ax.set_yticks(range(len(labels)), labels, fontsize=8)
            ax.set_ylim(len(labels) - 0.5, -0.5)
            ax.tick_params(axis="x", labelsize=8)
            ax.grid(axis="x", color="#e4e4e4")
            ax.set_title(f"{data}: {title}" if values is gaps else title, fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    mpl.use("Agg")
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110, metadata={"Software": None})
    write_bytes(path, stream.getvalue())
