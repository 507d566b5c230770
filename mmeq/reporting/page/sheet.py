"""The table of the page: every cell with the number by which its column is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmeq.reporting.columns import NONE, Cell, cells, heads, used
from mmeq.reporting.page.material import Shown
from mmeq.reporting.statistics import Estimate
from mmeq.reporting.tables import Row, Table

LEAST = 0.001
"""A smaller p value is written as being below."""


@dataclass(frozen=True)
class Entry:
    """A cell; ``value`` sorts it, and is empty where there is nothing to sort by."""

    cell: Cell
    value: str


@dataclass(frozen=True)
class Sheet:
    """A table: titles of columns, and by row the entries after its label."""

    heads: Sequence[str]
    rows: Sequence[tuple[Shown, Sequence[Entry]]]


def sheet(table: Table, rows: Sequence[Shown]) -> Sheet:
    """Return the table with a column of adjusted p values beside the differences.

    Args:
        table: as compared.
        rows: its rows.
    """
    columns = [column.key for column in used(table)]
    titles = heads(table)
    place = columns.index("difference") + 1 if "difference" in columns else None
    if place is not None:
        titles.insert(place + 2, "p (Holm)")
    out = []
    for shown in rows:
        row = shown.row
        found = [row.estimates.get(key, Estimate()).mean for key in columns]
        line = [
            Entry(cell, value(mean)) for cell, mean in zip(cells(table, row), found, strict=True)
        ]
        if place is not None:
            line.insert(place, Entry(Cell(p_text(table, row)), value(row.p_holm)))
        count = len(row.runs)
        out.append((shown, [Entry(Cell(str(count)), str(count)), *line]))
    return Sheet(titles, out)


def value(number: float | None) -> str:
    """Return what a cell is sorted by."""
    return "" if number is None else f"{number:.9g}"


def p_text(table: Table, row: Row) -> str:
    """Return an adjusted p value; nothing for the reference."""
    if row is table.reference:
        return ""
    if row.p_holm is None:
        return NONE
    return f"< {LEAST}" if row.p_holm < LEAST else f"{row.p_holm:.3f}"
