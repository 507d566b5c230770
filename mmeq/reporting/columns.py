"""The columns of a table and the words in its cells, for every format that a person reads."""

from __future__ import annotations

from dataclasses import dataclass

from mmeq.reporting.statistics import Estimate
from mmeq.reporting.tables import Row, Table

NONE = "–"
SHORT = 18
"""A longer label does not stand in the head of a column."""


@dataclass(frozen=True)
class Column:
    """How one estimate is printed.

    Attributes:
        key: of `Row.estimates`.
        head: title; ``{}`` stands for the reference.
        digits: after the point.
        scale: 100 turns a share into percent.
        interval: whether it is printed.
        best: which mean is the best: 1 the largest, -1 the least, 0 none.
    """

    key: str
    head: str
    digits: int = 1
    scale: float = 1.0
    interval: bool = False
    best: int = 0


COLUMNS = (
    Column("accuracy", "accuracy", scale=100, interval=True, best=1),
    Column("difference", "− {}", scale=100, interval=True),
    Column("macro_f1", "macro-F1", scale=100, best=1),
    Column("nll", "NLL", digits=3, best=-1),
    Column("ece", "ECE", digits=3, best=-1),
    Column("edm", "EDM %", interval=True, best=-1),
    Column("capacity", "EDM % to capacity", interval=True, best=-1),
    Column("missing", "missing", scale=100, interval=True, best=1),
    Column("without", "worst removal", scale=100, best=1),
    Column("time", "time / {}", digits=2),
    Column("memory", "memory / {}", digits=2),
)


@dataclass(frozen=True)
class Cell:
    """A cell in parts, for a format to put together.

    Attributes:
        number: the mean; empty where there is nothing to say.
        interval: ``low to high``; empty where none is printed.
        best: the best of its column.
        mark: the difference survives the correction for several comparisons.
        note: what else stands in it.
    """

    number: str
    interval: str = ""
    best: bool = False
    mark: bool = False
    note: str = ""


def used(table: Table) -> list[Column]:
    """Return the columns in which some row has a number."""
    return [
        column
        for column in COLUMNS
        if any(row.estimates.get(column.key, Estimate()).mean is not None for row in table.rows)
    ]


def heads(table: Table, name: str | None = None) -> list[str]:
    """Return the titles of label, runs and the used columns.

    Args:
        table: whose.
        name: what stands for the reference; None: its label, if that is short.
    """
    label = table.reference.label if table.reference else ""
    name = name or (label if len(label) <= SHORT else "reference")
    return ["method", "runs", *(column.head.format(name) for column in used(table))]


def cells(table: Table, row: Row) -> list[Cell]:
    """Return the cells of a row, in the order of the used columns."""
    return [_cell(table, row, column) for column in used(table)]


def _cell(table: Table, row: Row, column: Column) -> Cell:
    if column.key == "difference" and row is table.reference:
        return Cell("")
    found = row.estimates.get(column.key, Estimate())
    if found.mean is None:
        return Cell(NONE)
    interval = ""
    if column.interval:
        ends = [printed(end, column) for end in (found.low, found.high) if end is not None]
        interval = " to ".join(ends) or NONE
    return Cell(
        printed(found.mean, column),
        interval,
        best=_is_best(table, found.mean, column),
        mark=column.key == "difference" and row.significant,
        note=(row.lost or "") if column.key == "without" else "",
    )


def _is_best(table: Table, mean: float, column: Column) -> bool:
    """Whether a mean is the best as printed; none is where all are the same."""
    means = [row.estimates.get(column.key, Estimate()).mean for row in table.rows]
    known = [value for value in means if value is not None]
    if column.best == 0 or len({printed(value, column) for value in known}) < 2:
        return False
    best = max(known) if column.best > 0 else min(known)
    return printed(best, column) == printed(mean, column)


def printed(value: float, column: Column) -> str:
    """Return a number with a real minus sign, and none before zero.

    Examples:
        >>> printed(-0.0123, COLUMNS[1]), printed(-0.0001, COLUMNS[1])
        ('−1.2', '0.0')
    """
    text = f"{round(column.scale * value, column.digits) + 0.0:.{column.digits}f}"
    return text.replace("-", "−")
