"""All methods under one budget: train and report what is missing (`make comparison`).

A cell is a row on a data set, with a seed and the split that goes with it. It is trained with each
of two learning rates, and the one of the better accuracy on the split's validation part is the
table's. A finished run is not run again. `experiment=comparison` is much the same as a sweep. The
tables are what `python -m mmeq.report` makes of the runs; `ranks.py` sums them up.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: two runs share two cores

import argparse
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from engine import pool  # noqa: E402
from engine.page import put  # noqa: E402
from engine.runs import module_of  # noqa: E402
from engine.sweep import QUIET  # noqa: E402

from mmeq.config.paths import groups  # noqa: E402
from mmeq.files import write_json, write_text  # noqa: E402

MARK = "<!-- table -->"
RATES = ("0.001", "0.003")
PAIRS = [(seed, 600 + seed) for seed in range(10)]
"""(seed, split) of the runs: no other question's splits, and none of those that chose a default."""
SMALL_EMOJI = [
    "dataset.size=16",
    "backbone.encoders.image.channels=8",
    "backbone.encoders.image.blocks=3",
    "backbone.encoders.text.buckets=4096",
]
DATA: dict[str, tuple[list[str], int, list[str]]] = {
    "mfeat": (["dataset=mfeat"], 20, ["fou", "zer", "mor"]),
    "mfeat150": (["dataset=mfeat", "dataset.train_size=150"], 20, ["fou", "zer", "mor"]),
    "brca": (["dataset=brca"], 15, ["rna", "mirna", "methylation"]),
    "emoji": (["dataset=emoji", *SMALL_EMOJI], 12, ["image", "text"]),
}
"""Data → options, epochs, modalities."""
SCHEDULES: dict[str, dict[str, int]] = {
    "aug": {"every": 20},
    "d_and_r": {"every": 20},
    "di_mml": {"contrast_from": 20},
    "gblend": {"super_epoch": 10},
    "inforeg": {"smooth": 10},
    "ogm_ge": {"end": 50},
    "opm": {"warmup": 5},
    "pmr": {"end": 50, "early": 10},
    "reconboost": {"alternation": 4, "rectification": 4},
    "smv": {"warmup": 5},
}
"""Method → options that place something in the run, as published for the field's 100 epochs.

What smooths noise over epochs (the window of mslr, the patience of mses) stays as it is.
"""
FUSIONS = ("concat", "memory", "sum", "gated", "film", "late")


def rows(data: str, epochs: int) -> dict[str, list[str]]:
    """Row → options: every method that there is, the joint fusions, each modality alone.

    What counts epochs is scaled from the published 100 to `epochs`.
    """
    modalities = DATA[data][2]
    weight = 0.3 * len(modalities)  # as many unimodal losses as the steps of `shapley` have
    own = {"joint", "shapley", "unimodal"}
    out = {f"joint-{fusion}": ["method=joint", f"fusion={fusion}"] for fusion in FUSIONS}
    out["joint-unimodal"] = ["method=joint", "fusion=concat", f"method.weight={weight:.1f}"]
    out |= {f"shapley-{fusion}": ["method=shapley", f"fusion={fusion}"] for fusion in FUSIONS[:2]}
    out["paper"] = ["experiment=paper"]
    for method in groups()["method"]:
        if method not in own:
            scaled = {
                option: max(1, round(value * epochs / 100))
                for option, value in SCHEDULES.get(method, {}).items()
            }
            out[method] = [f"method={method}", *(f"method.{o}={v}" for o, v in scaled.items())]
    for name in modalities:
        out[f"alone-{name}"] = ["method=unimodal", f"method.modality={name}", "fusion=late"]
    return out


class Cell(NamedTuple):
    """One run of a row: with a rate, a seed and a split."""

    data: str
    row: str
    rate: str
    seed: int
    split: int

    @property
    def options(self) -> list[str]:
        """What it is called with."""
        own, epochs, _ = DATA[self.data]
        given = rows(self.data, epochs)[self.row]
        return [
            *own, *given, *QUIET, "callbacks.missing=null", f"trainer.max_epochs={epochs}",
            f"optim.optimizer.lr={self.rate}", f"seed={self.seed}",
            f"dataset.split_seed={self.split}",
        ]  # fmt: skip

    def folder(self, runs: Path) -> Path:
        """Where it runs."""
        name = f"seed-{self.seed}_split-{self.split}_lr-{self.rate}"
        return runs / self.data / self.row / name


def work_through(cells: list[Cell], runs: Path, jobs: int) -> list[str]:
    """Run what is missing; return what failed."""
    failed = []
    with closing(pool.run(cells, runs, jobs)) as ended:
        for number, (cell, folder, done) in enumerate(ended, 1):
            name = f"{cell.data} {cell.row} {folder.name}"
            print(f"[{number}/{len(cells)}] {name}: {'done' if done else 'FAILED'}", flush=True)
            if not done:
                failed.append(f"{name}, see {pool.said(folder)}")
    return failed


def chosen(rates: list[Cell], runs: Path) -> tuple[Cell, dict[str, float]]:
    """Which of the rates of a cell has the best validation accuracy, and what each has.

    The lower rate of two as good. No test is read.
    """
    found = {}
    for cell in rates:
        results = json.loads((cell.folder(runs) / "results.json").read_text(encoding="utf-8"))
        found[cell.rate] = results["validation"]["accuracy"]["value"]
    return max(rates, key=lambda cell: found[cell.rate]), found


def asked(data: list[str], begins: tuple[str, ...]) -> list[list[Cell]]:
    """The cells of data sets and of rows that begin so, each with all rates.

    Pair by pair, so that what is cut off has the same pairs of every row.
    """
    return [
        [Cell(name, row, rate, seed, split) for rate in RATES]
        for seed, split in PAIRS
        for name in data
        for row in rows(name, DATA[name][1])
        if row.startswith(begins)
    ]


def page(runs: Path) -> None:
    """Write the report of the cells whose rates are all run; once that is each, into README.md."""
    cells = asked(list(DATA), ("",))
    whole = [c for c in cells if all((r.folder(runs) / "results.json").is_file() for r in c)]
    if not whole:
        sys.exit(f"{runs} has no cell of which both rates are run")
    home = HERE if len(whole) == len(cells) else runs
    taken = {c[0][:2] + c[0][3:]: chosen(c, runs) for c in whole}
    rates: dict[str, dict[str, object]] = {}
    for (data, row, _, split), (best, found) in taken.items():
        told = {"rate": float(best.rate), "validation": found}
        rates.setdefault(f"{data}/{row}", {})[f"split {split}"] = told
    write_json(home / "rates.json", rates)
    folders = [str(best.folder(runs)) for best, _ in taken.values()]
    command = [sys.executable, "-m", "mmeq.report", *folders, "--ignore", "optim.optimizer.lr"]
    done = subprocess.run([*command, "--output", str(home)], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"the report failed with status {done.returncode}")
    if home == runs:
        print(f"{len(whole)} of {len(cells)} cells are whole: the report is {home}/report.md")
        return
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").split(MARK)[0]
    table = (HERE / "report.md").read_text(encoding="utf-8")
    write_text(readme, f"{head}{MARK}\n\n{table}")
    put(readme, module_of(HERE, "ranks").table(), "ranks")


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--data", default=",".join(DATA), help="which data sets, by comma")
    parser.add_argument("--rows", default="", help="rows whose name starts with one of these")
    parser.add_argument("--page", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    failed = []
    if not arguments.page:
        data, begins = arguments.data.split(","), tuple(arguments.rows.split(","))
        if unknown := sorted({*data} - {*DATA}):
            parser.error(f"--data: {', '.join(unknown)} is none of {', '.join(DATA)}")
        flat = [run for cell in asked(data, begins) for run in cell]
        if not flat:
            parser.error(f"--rows: no row begins with {arguments.rows}")
        failed = work_through(flat, arguments.runs.resolve(), arguments.jobs)
    page(arguments.runs)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
