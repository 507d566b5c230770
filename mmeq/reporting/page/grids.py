"""Grids of a row: places in the training order by epoch, and its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mmeq.reporting.dashboard.charts import ticks
from mmeq.reporting.page.curves import past
from mmeq.reporting.page.material import Shown

WIDTH, LEFT, RIGHT, TOP, CELL, FOOT = 440, 92, 8, 4, 24, 32
LETTERS = 12
SIDE = 3
"""Letters of a class that fit over its column."""


@dataclass(frozen=True)
class Square:
    """An epoch and modality in coordinates; ``shade`` is 1 for the first place, 0 for the last."""

    x: float
    y: float
    shade: float
    told: str


@dataclass(frozen=True)
class Orders:
    """A heat map in coordinates."""

    title: str
    described: str
    squares: Sequence[Square]
    names: Sequence[tuple[float, str]]
    ticks: Sequence[tuple[float, str]]
    step: float
    height: int
    width: int = WIDTH
    left: int = LEFT
    cell: int = CELL
    bottom: int = 0


def orders(shown: Shown) -> Orders | None:
    """Return the mean place of each modality in the order of each epoch; None without epochs."""
    runs = [history["order"] for history in past(shown)]
    names = shown.row.first.modalities
    length = min((len(run) for run in runs), default=0)
    if not length or len(names) < 2:
        return None
    places = [
        [fmean(run[epoch].index(m) + 1 for run in runs) for epoch in range(length)]
        for m in range(len(names))
    ]
    step = (WIDTH - LEFT - RIGHT) / length
    squares = [
        Square(
            round(LEFT + step * epoch, 2),
            TOP + CELL * m,
            round((len(names) - place) / (len(names) - 1), 3),
            f"{names[m]}, epoch {epoch + 1}: mean place {place:.3g}",
        )
        for m in range(len(names))
        for epoch, place in enumerate(places[m])
    ]
    bottom = TOP + CELL * len(names)
    shown_ticks = ticks(1, length, 6, whole=True) if length > 1 else [1.0]
    return Orders(
        shown.label,
        f"Mean places, first epoch: {told(names, places, 0)}; last: {told(names, places, -1)}.",
        squares,
        [(TOP + CELL * (m + 0.5), cut(name, LETTERS)) for m, name in enumerate(names)],
        [(round(LEFT + step * (e - 0.5), 2), f"{e:g}") for e in shown_ticks if e >= 1],
        round(step, 3),
        height=bottom + FOOT,
        bottom=bottom,
    )


def told(names: Sequence[str], places: Sequence[Sequence[float]], epoch: int) -> str:
    """Say the places of one epoch."""
    return ", ".join(
        f"{name} {place[epoch]:.3g}" for name, place in zip(names, places, strict=True)
    )


def cut(name: str, letters: int) -> str:
    """Return the beginning of a name that is longer than so many letters.

    Examples:
        >>> cut("methylation", 6), cut("rna", 6)
        ('methy…', 'rna')
    """
    return name if len(name) <= letters else name[: letters - 1] + "…"


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix, summed over runs; ``rows`` are shares of the true class.

    A class that no sample has has None.
    """

    classes: Sequence[str]
    rows: Sequence[Sequence[float | None]]
    counts: Sequence[int]
    runs: int

    @property
    def long(self) -> bool:
        """Whether names of classes are too long to stand side by side."""
        return any(len(name) > SIDE for name in self.classes)


def confusion(shown: Shown) -> Confusion | None:
    """Return the matrix of a row; None where no run has kept one, or their classes differ."""
    lines = [line for line in shown.lines if line.get("confusion")]
    if not lines or len({tuple(line["classes"]) for line in lines}) > 1:
        return None
    count = len(lines[0]["classes"])
    total = [[sum(line["confusion"][t][a] for line in lines) for a in range(count)]
             for t in range(count)]  # fmt: skip
    sums = [sum(row) for row in total]
    shares = [
        [value / whole if whole else None for value in row]
        for row, whole in zip(total, sums, strict=True)
    ]
    return Confusion(lines[0]["classes"], shares, sums, len(lines))
