"""Tables as GitHub-flavoured Markdown, readable as plain text too."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmeq.reporting.columns import Cell, cells, heads
from mmeq.reporting.folders import Found
from mmeq.reporting.notes import notes
from mmeq.reporting.tables import Table


def markdown(tables: Sequence[Table], found: Found) -> str:
    """Return the whole report.

    Args:
        tables: as compared.
        found: for what is unfinished or damaged.
    """
    parts = []
    for table in tables:
        title = f"### {escape(table.title)}"
        parts += [title, escape(f"{table.protocol}; {', '.join(table.modalities)}"), grid(table)]
        parts.append("\n".join(f"- {escape(note)}" for note in notes(table)))
    for name, listed in (("Unfinished", found.unfinished), ("Damaged", found.damaged)):
        if listed:
            count = f"{len(listed)} run" + ("s" if len(listed) > 1 else "")
            parts.append(f"### {name}\n\n{count}, in no table:")
            parts.append(
                "\n".join(f"- {escape(f'{where}: {what}')}" for where, what in listed.items())
            )
    return "\n\n".join(parts) + "\n"


def grid(table: Table) -> str:
    """Return the table itself, its columns padded to one width."""
    rows = [[escape(head) for head in heads(table)]]
    for row in table.rows:
        shown = [written(cell) for cell in cells(table, row)]
        rows.append([escape(row.label), str(len(row.runs)), *shown])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def written(cell: Cell) -> str:
    """Put a cell together."""
    number = f"**{cell.number}**" if cell.best else cell.number
    number += r"\*" if cell.mark else ""
    number += f" ({cell.interval})" if cell.interval else ""
    return number + (f" {escape(cell.note)}" if cell.note else "")


def escape(text: str) -> str:
    r"""Return text in which Markdown finds no marks; an underscore within a word is none.

    Examples:
        >>> print(escape("ogm_ge a|b [x]_ *"))
        ogm_ge a\|b \[x]\_ \*
    """
    text = re.sub(r"([\\`*|<\[~])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)
