"""Four and more modalities: which inference strategy, how many orders, and what training costs.

``python experiments/modalities/run.py`` measures what is missing in results.jsonl, then draws
figure.png and writes the tables of README.md; ``--again`` measures everything anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "approximation")]

import strategies  # noqa: E402
import times  # noqa: E402
from cells import Cell, keyed, known, measure_missing  # noqa: E402
from modalities_figure import write_figure  # noqa: E402
from modalities_page import write_page  # noqa: E402
from trained import trained  # noqa: E402

from mmeq.files import write_text  # noqa: E402


def cells(settings: Mapping[str, Any]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each measurement: what identifies it, and its settings."""
    given = settings["strategies"]
    compared = {key: value for key, value in given.items() if key != "data"}
    for size in settings["times"]["modalities"]:
        own = {**settings["times"], "modalities": size, "compared": compared}
        yield keyed({"part": "times", "modalities": size}, own)
    for name, data in given["data"].items():
        for seed in data["seeds"]:
            for split in data["splits"]:
                for size in data["modalities"]:
                    own = {**compared, "options": [*data["options"], *chosen(data, size)]}
                    cell = {"part": "strategies", "data": name, "modalities": size}
                    yield keyed({**cell, "seed": seed, "split": split}, own)


def chosen(data: Mapping[str, Any], size: int) -> list[str]:
    """Overrides that give so many modalities."""
    if "views" in data:
        return [f"dataset.modalities=[{','.join(data['views'][:size])}]"]
    snr = ",".join(f"{x:.3f}" for x in np.linspace(*data["snr"], size))
    return [f"dataset.sources={size}", f"dataset.snr=[{snr}]"]


def measured(cell: Cell, own: Mapping[str, Any]) -> dict[str, Any]:
    """Train the model of a cell and measure."""
    if cell["part"] == "times":
        return times.measured(own, own["compared"])
    seeds = [f"seed={cell['seed']}", f"dataset.split_seed={cell['split']}"]
    return strategies.measured(trained([*own["options"], *seeds], test=False), own)


def main(given: list[str] | None = None) -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the page")
    parser.add_argument("--only", default="", help="a part: strategies or times")
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
