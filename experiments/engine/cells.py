"""Questions that measure other than runs of `mmeq.train`: a cell is a line of results.jsonl.

Their folder has a measure.py with

    cells(settings)        of sweep.yaml: each cell, by `Cell`
    measured(told, own)    what is found of a cell, as one JSON object
    text(lines)            and `figure(lines)`, of the page
    AT_ONCE                optional: how many are measured at once, at most
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from engine.sweep import slug
from mmeq.files import write_json

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One measurement: what it is told apart by, and its settings, of which a digest is part."""

    told: Line
    own: Line

    @cached_property
    def named(self) -> dict[str, Any]:
        """How its line begins."""
        text = json.dumps(self.own, sort_keys=True)
        return {**self.told, "digest": hashlib.sha256(text.encode()).hexdigest()[:8]}

    @property
    def key(self) -> frozenset[tuple[str, Any]]:
        """With other settings a kept line is stale."""
        return frozenset(self.named.items())

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(f"{key} {value}" for key, value in self.told.items())

    def folder(self, runs: Path) -> Path:
        """Where what is found lies at first."""
        return runs / "_".join(slug(str(value)) for value in self.named.values())


class Measured:
    """A question, as its measure.py and sweep.yaml have it."""

    needed = ("part", "digest")

    def __init__(self, home: Path, module: ModuleType) -> None:
        self.name, self.home, self.module = home.name, home, module
        self.most: int | None = getattr(module, "AT_ONCE", None)
        settings = yaml.safe_load((home / "sweep.yaml").read_text(encoding="utf-8"))
        self.cells: list[Cell] = list(module.cells(settings))
        self.names = {name for cell in self.cells for name in cell.named}

    def jobs(self) -> list[Cell]:
        """All cells."""
        return self.cells

    def key(self, line: Line) -> frozenset[tuple[str, Any]]:
        """What `Cell.key` is of its cell."""
        return frozenset((name, line[name]) for name in self.names & line.keys())

    def work(self, cell: Cell, folder: Path) -> None:
        """Measure a cell."""
        found = self.module.measured(cell.told, cell.own)
        write_json(folder / "results.json", {**cell.named, **found})

    def line(self, cell: Cell, folder: Path) -> dict[str, Any]:
        """What was found of it."""
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))

    def more(self, results: Path) -> str:
        """Nothing else can be made of its lines."""
        return ""

    def page(self, kept: Sequence[Line]) -> tuple[str, dict[str, Any]]:
        """Text and figures."""
        return self.module.text(kept), {"figure": self.module.figure(kept)}
