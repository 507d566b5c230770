"""Contact sheet of a dataset's samples, as a pure function. Sizes are in inches.

Shape suffixes: T time or frames, F features, H height, W width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmeq.data.media.showing import Picture
from mmeq.reporting.lettering import fitted, own_font

ROW, GAP, SIDE, TOP, FOOT = 1.3, 0.14, 2.0, 0.95, 0.5
WIDEST = 32.0


@dataclass(frozen=True)
class Row:
    """One sample of a contact sheet.

    Attributes:
        id: its name.
        label: its class.
        part: train, validation or test.
        pictures: one a modality.
    """

    id: str
    label: str
    part: str
    pictures: Sequence[Picture]


@own_font
def contact_sheet(
    title: str, heads: Sequence[tuple[str, str]], rows: Sequence[Row], colours: Sequence[str]
) -> Figure:
    """Draw samples: a row a sample, a column a modality.

    Args:
        title: over all.
        heads: over each column: name of the modality, and what it is.
        rows: at least one.
        colours: of lines and bars.
    """
    columns = [[row.pictures[m] for row in rows] for m in range(len(heads))]
    widths = [max(_width(one) for one in column) for column in columns]
    rooms = [0.55 if any(p.along for p in c) else 0.0 for c in columns]
    scale = min(1.0, (WIDEST - SIDE) / (sum(widths) + sum(rooms) + GAP * len(heads)))
    widths = [scale * width for width in widths]
    width = max(SIDE + sum(widths) + sum(rooms) + GAP * (len(heads) + 1), 6.0)
    height = TOP + len(rows) * (ROW + GAP) + FOOT
    figure = Figure(figsize=(width, height))

    def panel(x: float, y: float, wide: float) -> Axes:
        axes: Axes = figure.add_axes(
            (x / width, 1 - (y + ROW) / height, wide / width, ROW / height)
        )
        axes.grid(visible=False)
        return axes

    _say(figure, GAP, 0.12, title, size=13, weight="bold")
    for r, row in enumerate(rows):
        y = TOP + r * (ROW + GAP)
        name = fitted(row.id, 0.88 * (SIDE - 2 * GAP), 9, 2)  # bold is wider
        _say(figure, GAP, y + 0.05, name, size=9, weight="bold")
        below = y + 0.12 + 0.165 * (1 + name.count("\n"))
        label = fitted(row.label, SIDE - 2 * GAP, 9, 2)
        _say(figure, GAP, below, f"{label}\n{row.part}", size=9, color="#444444")
    x = SIDE
    for m, ((name, form), column) in enumerate(zip(heads, columns, strict=True)):
        x += rooms[m] * scale
        bold = fitted(name, 0.88 * widths[m], 10, 1)
        _say(figure, x, TOP - 0.26, bold, size=10, weight="bold", va="bottom")
        _say(figure, x, TOP - 0.07, fitted(form, widths[m], 9, 1), size=9, color="#444444",
             va="bottom")  # fmt: skip
        limits = _limits(column)
        for r, one in enumerate(column):
            axes = panel(x, TOP + r * (ROW + GAP), widths[m])
            _draw(axes, one, widths[m], limits, colours)
        if scaled := [one for one in column if one.across]:
            _scale(axes, scaled[-1], widths[m])
        x += widths[m] + GAP
    return figure


def _say(figure: Figure, x: float, y: float, text: str, size: float, **options: Any) -> None:  # noqa: ANN401
    """Write at a place that is counted from the upper left corner."""
    width, height = figure.get_size_inches()
    options = {"va": "top", "linespacing": 1.15, **options}
    figure.text(x / width, 1 - y / height, text, fontsize=size, **options)


def _width(one: Picture) -> float:
    """How wide a cell this picture wants."""
    if one.form == "frames":
        assert one.values is not None
        frames, height, wide = one.values.shape[:3]
        return float(min(frames * ROW * wide / height + 0.04 * (frames - 1), 7.0))
    return {"map": 2.7, "lines": 2.7, "bars": 1.9, "text": 2.9}.get(one.form, 1.3)


def _limits(column: Sequence[Picture]) -> tuple[float, float]:
    """Ends of the colours of a column's maps: 1 % and 99.5 % of what is no filling up."""
    steps = [one.values.T for one in column if one.form == "map" and one.values is not None]
    told = [step for one in steps for step in one if step.std() > 0]
    if not told:
        return 0.0, 1.0
    low, high = np.quantile(np.concatenate(told), [0.01, 0.995])
    return float(low), float(max(high, low + 1e-9))


def _scale(axes: Axes, one: Picture, width: float) -> None:
    """Put the horizontal scale of a column under its lowest cell, whatever that holds."""
    axes.set_xlim(*one.span)
    axes.xaxis.set_major_locator(MaxNLocator(max(2, int(width / 0.45))))
    axes.tick_params(axis="x", labelsize=8, length=2.5, pad=2, labelbottom=True)
    axes.set_xlabel(one.across, fontsize=8, labelpad=1)


def _draw(
    axes: Axes,
    one: Picture,
    width: float,
    limits: tuple[float, float],
    colours: Sequence[str],
) -> None:
    """Draw one cell."""
    if one.form in ("missing", "broken", "text", "frames"):
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        {"text": _text, "frames": _frames}.get(one.form, _empty)(axes, one, width)
        return
    assert one.values is not None
    if one.form == "map":
        axes.set_facecolor("#F6F6F6")
        axes.imshow(
            one.values, aspect="auto", origin="lower", cmap="magma", interpolation="antialiased",
            extent=(*one.span, *one.rise), vmin=limits[0], vmax=limits[1],
        )  # fmt: skip
        axes.set_ylabel(one.along, fontsize=8, labelpad=2)
        if one.ticks:
            axes.set_yticks(list(one.ticks), list(one.ticks.values()))
        else:
            axes.locator_params(axis="y", nbins=4)
    elif one.form == "bars":
        axes.fill_between(
            np.arange(len(one.values) + 1), np.append(one.values, one.values[-1:]), step="post",
            color=colours[0], lw=0,
        )  # fmt: skip
        axes.axhline(0, color="#555555", lw=0.6)
        axes.set_xlim(*one.span)
        axes.set_ylabel(one.along, fontsize=8, labelpad=2)
        axes.locator_params(axis="y", nbins=4)
    else:
        places = np.linspace(*one.span, len(one.values), endpoint=False)
        for line, colour in zip(one.values.T, colours, strict=False):
            axes.plot(places, line, lw=0.6, color=colour)
        axes.set_xlim(*one.span)
        axes.set_yticks([])
    axes.tick_params(labelsize=8, length=2.5, pad=2, labelbottom=False)
    axes.xaxis.set_major_locator(MaxNLocator(max(2, int(width / 0.45))))


def _frames(axes: Axes, one: Picture, width: float) -> None:
    """Frames side by side with a white line between them."""
    assert one.values is not None
    line = max(1, round(one.values.shape[2] * 0.03))
    white = np.full((one.values.shape[1], line, 3), 255, dtype=np.uint8)
    strip = [part for frame in one.values for part in (frame, white)][:-1]
    axes.imshow(np.concatenate(strip, axis=1), interpolation="antialiased")
    axes.set_anchor("NW")


def _text(axes: Axes, one: Picture, width: float) -> None:
    words = fitted(one.text, width - 0.14, 8.5, 8)
    axes.set_facecolor("#F6F6F6")
    axes.text(
        0.06 / width, 0.95, words or "(empty)", transform=axes.transAxes, va="top",
        fontsize=8.5, linespacing=1.2, color="#222222" if words else "#888888", clip_on=True,
    )  # fmt: skip


def _empty(axes: Axes, one: Picture, width: float) -> None:
    """A hatched cell that says why nothing is there."""
    broken = one.form == "broken"
    shade, edge = ("#F6D9D0", "#D55E00") if broken else ("#EDEDED", "#BBBBBB")
    axes.add_patch(
        Rectangle((0, 0), 1, 1, transform=axes.transAxes, fc=shade, ec=edge, hatch="///", lw=0)
    )
    words = fitted(f"broken: {one.text}" if broken else "missing", width - 0.3, 8.5, 6)
    axes.text(
        0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center",
        fontsize=8.5, color="#222222", bbox={"fc": "white", "ec": "none", "alpha": 0.85, "pad": 2},
    )  # fmt: skip
