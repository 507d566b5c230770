"""Shapley approximation: two noises of φ, and what a wrong order costs.

``python experiments/approximation/run.py`` measures what is missing in results.jsonl, then draws
figure.png and writes the tables of README.md; ``--again`` measures everything anew.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import noise  # noqa: E402
import wrong  # noqa: E402
from approximation_figure import write_figure  # noqa: E402
from approximation_page import write_page  # noqa: E402
from cells import Cell, keyed, known, measure_missing  # noqa: E402
from trained import trained  # noqa: E402

from mmeq.files import write_text  # noqa: E402


def cells(settings: Mapping[str, Any]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each measurement: what identifies it, and its settings, of which `digest` is the key's part.

    By seed, so that all conditions have equal seeds where a run is broken off.
    """
    shared = {key: value for key, value in settings["noise"].items() if key != "data"}
    for data, given in settings["noise"]["data"].items():
        own = {key: value for key, value in given.items() if key not in ("seeds", "splits")}
        for seed in given["seeds"]:
            for split in given["splits"]:
                yield keyed(
                    {"part": "noise", "data": data, "seed": seed, "split": split}, shared | own
                )
    orders = settings["orders"]
    for seed, split, data, supervise, rule in itertools.product(
        *(orders[key] for key in ("seeds", "splits", "data", "supervise", "rules"))
    ):
        cell = {"part": "orders", "data": data, "supervise": supervise, "rule": rule}
        options = [*orders["options"], *orders["data"][data], *orders["rules"][rule]]
        options.append(f"method.supervise={supervise}")
        yield keyed({**cell, "seed": seed, "split": split}, {"options": options})


def measured(cell: Cell, own: Mapping[str, Any]) -> dict[str, Any]:
    """Train the model of a cell and measure."""
    options = [*own["options"], f"seed={cell['seed']}", f"dataset.split_seed={cell['split']}"]
    if cell["part"] == "noise":
        number = 10 * cell["seed"] + cell["split"]
        return noise.measured(trained(options, test=False), own, number)
    return wrong.measured(options)


def main(given: list[str] | None = None) -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the page")
    parser.add_argument("--only", default="", help="a part: noise or orders")
    parser.add_argument("--folder", type=Path, default=HERE, help="of sweep.yaml, results and page")
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    settings = yaml.safe_load((options.folder / "sweep.yaml").read_text(encoding="utf-8"))
    results = options.folder / "results.jsonl"
    if options.again:
        write_text(results, "")
    todo = list(cells(settings))
    if not options.page:
        measure_missing(results, todo, measured, options.only)
    lines = known(results, [cell for cell, _ in todo])
    write_page(options.folder, lines)
    write_figure(options.folder, lines)


if __name__ == "__main__":
    main()
