"""Figures of a dataset as pure functions: contact sheet, counts, lengths. Sizes are in inches.

Shape suffixes: T time or frames, F features, H height, W width, C classes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmeq.data.media.showing import Picture

P = ParamSpec("P")
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that figures look alike everywhere."""
NAMED = 40
"""More classes than these are drawn as a profile without names."""
ROW, GAP, SIDE, TOP, FOOT = 1.3, 0.14, 2.0, 0.95, 0.5
WIDEST = 32.0
BOX = "\N{WHITE SQUARE}"


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


def _own_font(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw foreign text as it is: one font, no mathematics between dollar signs."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context({"font.family": FONT, "text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn


@functools.cache
def _font() -> tuple[FT2Font, frozenset[int]]:
    font = FT2Font(findfont(FontProperties(family=FONT)))
    return font, frozenset(font.get_charmap())


def drawable(text: str) -> str:
    """Return the text in one line, with a box for each character that the font lacks."""
    _, known = _font()
    return "".join(c if ord(c) in known else BOX for c in " ".join(text.split()))


@functools.cache
def _advance(character: str) -> float:
    """Width of a character in units of the font size."""
    font, _ = _font()
    font.set_size(12, 72)
    return float(font.load_char(ord(character)).linearHoriAdvance) / 65536 / 12


def fitted(text: str, inches: float, size: float, most: int) -> str:
    """Return the text in lines that fit; what is too much ends in an ellipsis.

    Args:
        text: any.
        inches: width of a line.
        size: of the font, in points.
        most: lines.
    """
    room, lines, width = inches * 72 / size, [""], 0.0
    for word in re.findall(r"\S+ ?", drawable(text)):
        wide = sum(map(_advance, word.rstrip()))
        if width + wide > room and lines[-1]:
            lines, width = [*lines, ""], 0.0
        for character in word:
            if width + _advance(character) > room and character != " ":
                lines, width = [*lines, ""], 0.0
            lines[-1] += character
            width += _advance(character)
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and sum(map(_advance, lines[-1])) + _advance("…") > room:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return "\n".join(line.rstrip() for line in lines)


@_own_font
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


@_own_font
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


@_own_font
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
