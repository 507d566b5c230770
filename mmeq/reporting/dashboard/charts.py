"""Line charts as geometry: numbers in, SVG coordinates out; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#882255", "#999933", "#7F7F7F", "#332288", "#AA4466",
)  # fmt: skip
"""Of the figures in a run folder, so that a modality has one colour everywhere."""
WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 34
Point = tuple[float, float | None, float | None, float | None]
"""Epoch (or another number along the x axis), value, low and high."""


@dataclass(frozen=True)
class Line:
    """One curve; ``low`` and ``high`` of its points make the band.

    ``row`` is the row of a table that it belongs to, by which a page may hide it.
    """

    name: str
    points: Sequence[Point]
    colour: str
    dashed: bool = False
    row: str = ""


@dataclass(frozen=True)
class Mark:
    """A point that tells its numbers when a pointer rests on it."""

    x: float
    y: float
    told: str


@dataclass(frozen=True)
class Curve:
    """A line in coordinates: pieces between gaps, the bands of them, and marks."""

    name: str
    colour: str
    dashed: bool
    pieces: Sequence[str]
    bands: Sequence[str]
    marks: Sequence[Mark]
    row: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure in coordinates; ticks are (position, text)."""

    title: str
    label: str
    curves: Sequence[Curve]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    zero: float | None
    best: float | None
    along: str = "epoch"
    described: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def colour(index: int) -> str:
    """Return the colour of a modality by its place among them."""
    return COLOURS[index % len(COLOURS)]


def chart(
    title: str,
    label: str,
    lines: Sequence[Line],
    span: tuple[float, float],
    best: int | None = None,
    whole: bool = False,
    down: bool = False,
    along: str = "epoch",
    marked: bool = True,
    described: str = "",
) -> Chart:
    """Lay out a line chart over the epochs.

    Args:
        title: what it shows.
        label: of the y axis.
        lines: the curves.
        span: ends of the y axis; what lies beyond is drawn at the edge.
        best: epoch that is marked.
        whole: ticks are whole numbers.
        down: the y axis grows downwards.
        along: label of the x axis.
        marked: points tell their numbers.
        described: what a reader who sees no figure is told.
    """
    epochs = sorted({point[0] for line in lines for point in line.points})
    first, last = (epochs[0], epochs[-1]) if epochs else (0, 1)
    first, last = (first - 1, last + 1) if first == last else (first, last)
    bottom, top = span if span[0] < span[1] else (span[0] - 0.5, span[1] + 0.5)

    def across(epoch: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (epoch - first) / (last - first), 2)

    def up(value: float) -> float:
        share = (min(max(value, bottom), top) - bottom) / (top - bottom)
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (share if down else 1 - share), 2)

    curves = []
    for line in lines:
        pieces, bands, marks = [], [], []
        for run in unbroken(line.points):
            pieces.append(" ".join(f"{across(e)},{up(v)}" for e, v, _, _ in run))
            ends = [
                (e, low, high) for e, _, low, high in run if low is not None and high is not None
            ]
            there = [f"{across(e)},{up(high)}" for e, _, high in ends]
            back = [f"{across(e)},{up(low)}" for e, low, _ in reversed(ends)]
            bands += [" ".join([*there, *back])] if len(ends) > 1 else []
            for epoch, value, low, high in run if marked else ():
                ends_told = "" if None in (low, high) else f" ({low:.4g} to {high:.4g})"
                told = f"{line.name}, {along} {epoch:g}: {value:.4g}{ends_told}"
                marks.append(Mark(across(epoch), up(value), told))
        curves.append(Curve(line.name, line.colour, line.dashed, pieces, bands, marks, line.row))
    return Chart(
        title,
        label,
        curves,
        [(across(e), f"{e:g}") for e in ticks(first, last, 6, whole=True) if e in epochs],
        [(up(v), f"{v:.10g}") for v in ticks(bottom, top, 5, whole=whole)],
        up(0) if bottom < 0 < top else None,
        None if best is None else across(best),
        along,
        described,
    )


def unbroken(
    points: Sequence[Point],
) -> list[list[tuple[float, float, float | None, float | None]]]:
    """Return the runs of points that have a value."""
    runs: list[list[tuple[float, float, float | None, float | None]]] = [[]]
    for epoch, value, low, high in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((epoch, value, low, high))
    return [run for run in runs if run]


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return round numbers from low to high, at the most so many and one.

    Examples:
        >>> ticks(0, 1, 5), ticks(1, 20, 6, whole=True)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [5.0, 10.0, 15.0, 20.0])
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    start = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - start
    return [round((start + k) * step, 10) + 0.0 for k in range(count + 1)]


def span(values: Iterable[float | None], *, floor: float | None = None) -> tuple[float, float]:
    """Return the ends of an axis that holds these values.

    Args:
        values: None where one is undefined.
        floor: a value that is in it all the same.
    """
    known = [value for value in values if value is not None]
    known += [] if floor is None else [floor]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = 0.04 * (high - low) or 0.5
    return (low if low == floor else low - room), (high if high == floor else high + room)
