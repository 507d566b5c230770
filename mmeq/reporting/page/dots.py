"""Dot plots: the rows of a table beneath each other, a mean with its interval each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmeq.reporting.columns import COLUMNS, Column, printed
from mmeq.reporting.dashboard.charts import span, ticks
from mmeq.reporting.page.material import Shown

WIDTH, LEFT, RIGHT, STEP, TOP, FOOT = 440, 162, 12, 22, 8, 34
LETTERS = 21
"""Of a label that stand beside its dot; the end of a long one tells most."""
DRAWN = ("accuracy", "edm", "missing")
NAMES = {
    "accuracy": "Test accuracy",
    "edm": "Test EDM",
    "missing": "Mean test accuracy, some modalities missing",
}
UNITS = {"accuracy": "accuracy (%)", "edm": "EDM (%), 0 is balance", "missing": "accuracy (%)"}


@dataclass(frozen=True)
class Dot:
    """A row in coordinates; ``low`` and ``high`` are None without an interval."""

    label: str
    short: str
    colour: str
    y: float
    x: float
    low: float | None
    high: float | None
    told: str


@dataclass(frozen=True)
class Plot:
    """A dot plot in coordinates; ``reference`` is where that row's mean lies."""

    title: str
    label: str
    dots: Sequence[Dot]
    ticks: Sequence[tuple[float, str]]
    reference: float | None
    height: int
    width: int = WIDTH
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = 0


def plots(rows: Sequence[Shown], reference: str | None) -> list[Plot]:
    """Return the plots of accuracy, EDM and missing modalities, those of which rows have numbers.

    Args:
        rows: of a table.
        reference: label of its reference.
    """
    columns = {column.key: column for column in COLUMNS}
    made = [plot(rows, columns[key], reference) for key in DRAWN]
    return [one for one in made if one is not None]


def plot(rows: Sequence[Shown], column: Column, reference: str | None) -> Plot | None:
    """Return the plot of one column; None where no row has a number."""
    found = [(shown, shown.row.estimates.get(column.key)) for shown in rows]
    known = [(s, e) for s, e in found if e is not None and e.mean is not None]
    if not known:
        return None
    scale = column.scale
    low, high = span(scale * v for _, e in known for v in (e.mean, e.low, e.high) if v is not None)

    def across(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low), 2)

    dots = []
    middle = None
    for place, (shown, found_here) in enumerate(known):
        mean = found_here.mean or 0.0
        interval = [v for v in (found_here.low, found_here.high) if v is not None]
        told = f"{shown.label}: {printed(mean, column)}"
        if len(interval) == 2:
            told += f" ({printed(interval[0], column)} to {printed(interval[1], column)})"
        x_ends: list[float | None] = [across(scale * value) for value in interval] or [None]
        x = across(scale * mean)
        middle = x if shown.label == reference else middle
        y = TOP + STEP * (place + 0.5)
        dots.append(
            Dot(shown.label, short(shown.label), shown.colour, y, x, x_ends[0], x_ends[-1], told)
        )
    bottom = TOP + STEP * len(dots)
    return Plot(
        NAMES[column.key],
        UNITS[column.key],
        dots,
        [(across(v), f"{v:.10g}".replace("-", "−")) for v in ticks(low, high, 5)],
        middle,
        height=bottom + FOOT,
        bottom=bottom,
    )


def short(label: str) -> str:
    """Return a label that fits beside a dot.

    Examples:
        >>> short("shapley · method.supervise=sequential")
        'shapley …e=sequential'
    """
    if len(label) <= LETTERS:
        return label
    head = (LETTERS - 1) * 2 // 5
    return f"{label[:head]}…{label[head + 1 - LETTERS :]}"
