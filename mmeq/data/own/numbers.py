"""Columns of numbers as vectors in memory.

Shape suffixes: N samples.
"""

from __future__ import annotations

import numpy as np
import torch

from mmeq.data.columns import VectorColumn
from mmeq.data.own.kinds import Source
from mmeq.data.own.table import Table
from mmeq.errors import MmeqError


def vectors_of(table: Table, source: Source) -> tuple[VectorColumn, np.ndarray]:
    """Return the vectors that columns of numbers make, and bool [N] of the rows that have them.

    Args:
        table: N rows.
        source: of the columns.

    Raises:
        MmeqError: names row and column of a cell that is no finite number.
    """
    cells = [table.columns[name] for name in source.numbers]
    values = np.zeros((len(table), len(cells)), dtype=np.float32)
    present_N = np.ones(len(table), dtype=bool)
    for row, found in enumerate(zip(*cells, strict=True)):
        if all(cell is None for cell in found):
            present_N[row] = False
            continue
        for place, cell in enumerate(found):
            number = _number(cell)
            if not np.isfinite(number):
                raise MmeqError(
                    f"{table.place(row)}: {source.numbers[place]!r} is {cell!r}, expected a number "
                    "(a row without this modality leaves all its columns empty)"
                )
            values[row, place] = number
    return VectorColumn(torch.from_numpy(values)), present_N


def _number(cell: str | None) -> float:
    """NaN for what is none."""
    try:
        return float(np.float32(cell or "nan"))
    except ValueError:
        return float("nan")
