"""Shapley approximation: two noises of φ, and what a wrong order costs (`make approximation`)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.cells import Cell
from engine.trained import trained
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent))

import approximation_figure
import approximation_page
import noise
import wrong


def cells(settings: Mapping[str, Any]) -> Iterator[Cell]:
    """Each measurement.

    A split for each seed; by seed, so that all conditions have equal ones where a run is broken
    off.
    """
    shared = {key: value for key, value in settings["noise"].items() if key != "data"}
    for data, given in settings["noise"]["data"].items():
        own = {key: value for key, value in given.items() if key not in ("seeds", "splits")}
        for seed, split in zip(given["seeds"], given["splits"], strict=True):
            told = {"part": "noise", "data": data, "seed": seed, "split": split}
            yield Cell(told, shared | own)
    orders = settings["orders"]
    pairs = zip(orders["seeds"], orders["splits"], strict=True)
    for (seed, split), data, supervise, rule in itertools.product(
        pairs, *(orders[key] for key in ("data", "supervise", "rules"))
    ):
        told = {"part": "orders", "data": data, "supervise": supervise, "rule": rule}
        options = [*orders["options"], *orders["data"][data], *orders["rules"][rule]]
        options.append(f"method.supervise={supervise}")
        yield Cell({**told, "seed": seed, "split": split}, {"options": options})


def measured(cell: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Train the model of a cell and measure."""
    options = [*own["options"], f"seed={cell['seed']}", f"dataset.split_seed={cell['split']}"]
    if cell["part"] == "noise":
        number = 10 * cell["seed"] + cell["split"]
        return noise.measured(trained(options, test=False), own, number)
    return wrong.measured(options)


def text(lines: Sequence[dict[str, Any]]) -> str:
    """The tables."""
    return approximation_page.tables(*approximation_page.parted(lines))


def figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """The figure."""
    return approximation_figure.figure(*approximation_page.parted(lines))
