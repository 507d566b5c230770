"""Four and more modalities: which inference strategy, how many orders (`make modalities`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from engine.cells import Cell
from engine.trained import trained
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent))

import modalities_figure
import modalities_page
import strategies
import times

AT_ONCE = 1
"""What costs is measured with nothing beside it."""


def cells(settings: Mapping[str, Any]) -> Iterator[Cell]:
    """Each measurement; a split for each seed."""
    given = settings["strategies"]
    compared = {key: value for key, value in given.items() if key != "data"}
    for size in settings["times"]["modalities"]:
        own = {**settings["times"], "modalities": size, "compared": compared}
        yield Cell({"part": "times", "modalities": size}, own)
    for name, data in given["data"].items():
        for seed, split in zip(data["seeds"], data["splits"], strict=True):
            for size in data["modalities"]:
                own = {**compared, "options": [*data["options"], *chosen(data, size)]}
                told = {"part": "strategies", "data": name, "modalities": size}
                yield Cell({**told, "seed": seed, "split": split}, own)


def chosen(data: Mapping[str, Any], size: int) -> list[str]:
    """Overrides that give so many modalities."""
    if "views" in data:
        return [f"dataset.modalities=[{','.join(data['views'][:size])}]"]
    snr = ",".join(f"{x:.3f}" for x in np.linspace(*data["snr"], size))
    return [f"dataset.sources={size}", f"dataset.snr=[{snr}]"]


def measured(cell: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Train the model of a cell and measure."""
    if cell["part"] == "times":
        return times.measured(own, own["compared"])
    seeds = [f"seed={cell['seed']}", f"dataset.split_seed={cell['split']}"]
    return strategies.measured(trained([*own["options"], *seeds], test=False), own)


def text(lines: Sequence[dict[str, Any]]) -> str:
    """The tables."""
    return modalities_page.tables(*modalities_page.parted(lines))


def figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """The figure."""
    return modalities_figure.figure(*modalities_page.parted(lines))
