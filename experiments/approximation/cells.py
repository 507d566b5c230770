"""Measurements that are kept: a line of results.jsonl for each cell, keyed by its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmeq.files import append_line, json_line, keep_lines, read_jsonl

Cell = dict[str, Any]


def keyed(cell: Cell, own: dict[str, Any]) -> tuple[Cell, dict[str, Any]]:
    """A cell with the digest of its settings: changed ones are measured anew."""
    text = json.dumps(own, sort_keys=True)
    return {**cell, "digest": hashlib.sha256(text.encode()).hexdigest()[:8]}, own


def known(path: Path, wanted: Sequence[Cell]) -> list[dict[str, Any]]:
    """The lines of results that belong to wanted cells."""
    return [x for x in read_jsonl(path) if any(cell.items() <= x.items() for cell in wanted)]


def measure_missing(
    path: Path,
    todo: Sequence[tuple[Cell, dict[str, Any]]],
    measure: Callable[[Cell, Mapping[str, Any]], dict[str, Any]],
    part: str = "",
) -> None:
    """Measure the cells that have no line yet; a kill costs the cell under way alone.

    Args:
        path: of the results.
        todo: cells and their settings.
        measure: from both to what is found.
        part: only cells whose part begins so.
    """
    keep_lines(path, lambda _: True)  # without the end that a kill has torn
    done = known(path, [cell for cell, _ in todo])
    missing = [
        (cell, own)
        for cell, own in todo
        if cell["part"].startswith(part) and not any(cell.items() <= x.items() for x in done)
    ]
    for number, (cell, own) in enumerate(missing, 1):
        append_line(path, json_line({**cell, **measure(cell, own)}))
        print(f"[{number}/{len(missing)}] {' '.join(map(str, cell.values()))}", flush=True)
