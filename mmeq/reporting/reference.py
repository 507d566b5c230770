"""The row that all others of a table are compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmeq.errors import MmeqError, did_you_mean

if TYPE_CHECKING:
    from mmeq.reporting.tables import Row, Table

DEFAULT = ("joint", "concat")
"""Method and fusion that everybody compares with."""


def find_references(tables: Sequence[Table], wanted: str | None = None) -> None:
    """Set the reference of every table, or remark that it has none.

    Args:
        tables: with their rows.
        wanted: its label; None: method joint with fusion concat.

    Raises:
        MmeqError: when no table has this row, or one has several that could be meant.
    """
    for table in tables:
        found = candidates(table, wanted)
        if len(found) == 1:
            table.reference = found[0]
            table.rows.sort(key=lambda row: row is not table.reference)  # stable
        elif found:
            several = ", ".join(f"{row.label!r}" for row in found)
            if wanted is not None:
                raise MmeqError(
                    f"--reference {wanted!r} could be several rows of {table.title}: {several}"
                )
            table.remarks.append(
                f"No differences: {several} are all of method joint with fusion concat; choose one "
                "by --reference."
            )
        else:
            name = "method joint with fusion concat" if wanted is None else f"{wanted!r}"
            table.remarks.append(f"No differences: there is no run of {name} here.")
    if wanted is not None and not any(table.reference for table in tables):
        known = {row.label for table in tables for row in table.rows}
        raise MmeqError(
            f"--reference {wanted!r}: no row has this label{did_you_mean(wanted, known)}"
        )


def candidates(table: Table, wanted: str | None) -> list[Row]:
    """Return the rows that could be meant: by label, else by method and fusion.

    Args:
        table: with its rows.
        wanted: label; None: "joint concat".
    """
    rows = table.rows
    if wanted is None:
        named = [row for row in rows if plain(row.label) == " ".join(DEFAULT)]
        found = named or [row for row in rows if (row.first.method, row.first.fusion) == DEFAULT]
    else:
        exact = [row for row in rows if plain(row.label) == plain(wanted)]
        named = [r for r in rows if plain(f"{r.first.method} {r.first.fusion}") == plain(wanted)]
        found = exact or named
    # Of several the one whose label names no option: it is what the others vary.
    usual = [row for row in found if "=" not in row.label]
    return usual if len(usual) == 1 else found


def plain(label: str) -> str:
    """Return a label without its separators, so that it can be typed.

    Examples:
        >>> plain("joint · concat") == plain("joint, concat") == plain("joint concat")
        True
    """
    return " ".join(re.split(r"[\s·,]+", label.strip()))
