"""All methods under one budget: tune, train and report what is missing (`make comparison`).

A cell is a data set and a row. For each of 2 splits its learning rate is chosen between two values
by the accuracy on that split's validation part (seed 100, none of the table's), then it is trained
with 5 seeds. A finished run is not run again. `experiment=comparison` is the same as a sweep. The
page is what `python -m mmeq.report` makes of the runs.
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
from engine.sweep import QUIET  # noqa: E402

from mmeq.config.paths import groups  # noqa: E402
from mmeq.files import write_json, write_text  # noqa: E402

MARK = "<!-- table -->"
RATES, SPLITS, SEEDS, TUNING_SEED = ("0.001", "0.003"), (0, 1), range(5), 100
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
SHAPLEY = ("method=shapley", "method.pace=step", "method.weigh=equal", "method.weight=1")
"""As it was measured, before the default changed."""
FUSIONS = ("concat", "memory", "sum", "gated", "film", "late")


def rows(data: str, epochs: int) -> dict[str, list[str]]:
    """Row → options: every method that there is, the joint fusions, each modality alone.

    What counts epochs is scaled from the published 100 to `epochs`.
    """
    modalities = DATA[data][2]
    own = {"joint", "shapley", "unimodal"}
    fusions = {fusion: [f"fusion={fusion}"] for fusion in FUSIONS}
    fusions["memory"] += ["fusion.gain=1", "fusion.align=feature"]
    out = {f"joint-{fusion}": ["method=joint", *given] for fusion, given in fusions.items()}
    out |= {f"shapley-{fusion}": [*SHAPLEY, *fusions[fusion]] for fusion in FUSIONS[:2]}
    out["default"] = ["method=shapley"]
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

    part: str
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
        return runs / self.part / self.data / self.row / name


def work_through(cells: list[Cell], runs: Path, jobs: int) -> list[str]:
    """Run what is missing; return what failed."""
    failed = []
    with closing(pool.run(cells, runs, jobs)) as ended:
        for number, (cell, folder, done) in enumerate(ended, 1):
            name = f"{cell.part} {cell.data} {cell.row} {folder.name}"
            print(f"[{number}/{len(cells)}] {name}: {'done' if done else 'FAILED'}", flush=True)
            if not done:
                failed.append(f"{name}, see {pool.said(folder)}")
    return failed


def chosen(tuning: Path, split: int) -> dict[str, object]:
    """The learning rate of the best validation accuracy on a split, once both are run.

    No test is read.
    """
    found = {}
    for path in sorted(tuning.glob(f"*_split-{split}_*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        rate = float(path.parent.name.partition("lr-")[2])
        found[rate] = results["validation"]["accuracy"]["value"]
    best = max(sorted(found), key=lambda rate: found[rate]) if len(found) == len(RATES) else None
    return {"rate": best, "validation": found}


def page(runs: Path) -> None:
    """Write the report of the finished runs; once every cell is run, into README.md."""
    cells = [runs / "table" / data / row for data in DATA for row in rows(data, DATA[data][1])]
    wanted = len(SEEDS) * len(SPLITS)
    lacking = [cell for cell in cells if len([*cell.glob("*/results.json")]) < wanted]
    home = runs if lacking else HERE
    rates = {
        f"{path.parent.name}/{path.name}, split {split}": chosen(path, split)
        for path in sorted((runs / "tuning").glob("*/*"))
        for split in SPLITS
        if any(path.glob(f"*_split-{split}_*/results.json"))
    }
    write_json(home / "rates.json", rates)
    ignored = ["--ignore", "optim.optimizer.lr"]
    command = [sys.executable, "-m", "mmeq.report", str(runs / "table"), *ignored]
    done = subprocess.run([*command, "--output", str(home)], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"the report failed with status {done.returncode}")
    if lacking:
        print(f"{len(lacking)} of {len(cells)} rows are not whole: the report is {home}/report.md")
        return
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").split(MARK)[0]
    table = (HERE / "report.md").read_text(encoding="utf-8")
    write_text(readme, f"{head}{MARK}\n\n{table}")


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
        runs, begins = arguments.runs.resolve(), tuple(arguments.rows.split(","))
        asked = [
            (data, row)
            for data in arguments.data.split(",")
            for row in rows(data, DATA[data][1])
            if row.startswith(begins)
        ]
        tuning = [
            Cell("tuning", *which, rate, TUNING_SEED, split)
            for which in asked
            for split in SPLITS
            for rate in RATES
        ]
        failed = work_through(tuning, runs, arguments.jobs)
        table = []
        for data, row in asked:
            folder = runs / "tuning" / data / row
            for split in SPLITS:
                rate = next((r for r in RATES if float(r) == chosen(folder, split)["rate"]), None)
                if rate is not None:
                    table += [Cell("table", data, row, rate, seed, split) for seed in SEEDS]
        failed += work_through(table, runs, arguments.jobs)
    page(arguments.runs)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
