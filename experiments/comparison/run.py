"""All methods under one budget: tune, train and report what is missing (`make comparison`).

A cell is a data set and a row. For each of 2 splits its learning rate is chosen between two values
by the accuracy on that split's validation part (seed 100, none of the table's), then it is trained
with 5 seeds. Each step is a sweep of the preset `experiment=comparison`, so that a finished run is
not run again and a broken one goes on. The page is what `python -m mmeq.report` makes of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mmeq.train
from mmeq.config.paths import groups
from mmeq.files import write_json, write_text

HERE = Path(__file__).parent
MARK = "<!-- table -->"
RATES, SPLITS, SEEDS, TUNING_SEED = ("1e-3", "3e-3"), (0, 1), "0,1,2,3,4", 100
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
    own = {"joint", "shapley", "unimodal"}
    out = {f"joint-{fusion}": ["method=joint", f"fusion={fusion}"] for fusion in FUSIONS}
    out |= {f"shapley-{fusion}": ["method=shapley", f"fusion={fusion}"] for fusion in FUSIONS[:2]}
    out["paper"] = ["+method=shapley", "+experiment=paper"]
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


def sweep(folder: Path, data: str, row: list[str], *swept: str) -> None:
    """Run the preset as a person would; what is finished is skipped."""
    options, epochs, _ = DATA[data]
    preset = "experiment=comparison"
    if "+experiment=paper" in row:  # two experiments at once, the later one wins
        preset, row = "experiment=[paper,comparison]", ["method=shapley"]
    subdir = "seed-${seed}_split-${dataset.split_seed}_lr-${optim.optimizer.lr}"
    sys.argv = [
        *("mmeq.train", "-m", preset, *options, *row, f"trainer.max_epochs={epochs}"),
        *(f"hydra.sweep.dir={folder}", f"hydra.sweep.subdir={subdir}", *swept),
    ]
    mmeq.train.main()


def cell(runs: Path, data: str, name: str) -> None:
    """Tune and train one row on one data set, each sweep in a process of its own."""
    row = rows(data, DATA[data][1])[name]
    tuning, table = (runs / part / data / name for part in ("tuning", "table"))
    log = runs / "logs" / f"{data}-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        for folder, rates, seeds in (
            (tuning, RATES, TUNING_SEED),
            (table, None, SEEDS),
        ):
            rate = chosen(tuning, split)["rate"] if rates is None else ",".join(rates)
            swept = [f"optim.optimizer.lr={rate}", f"seed={seeds}", f"dataset.split_seed={split}"]
            work = partial(sweep, folder, data, row, *swept)
            if forked(work, log):
                sys.exit(f"{data} {name}, split {split}: {folder.parts[-3]} failed, see {log}")


def forked(work: Callable[[], Any], log: Path) -> int:
    """Call a function in a forked child whose output goes to a file; return its exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        with log.open("ab") as stream:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
        try:
            work()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def chosen(tuning: Path, split: int) -> dict[str, object]:
    """The learning rate of the best validation accuracy on a split; no test is read."""
    found = {}
    for path in sorted(tuning.glob(f"*_split-{split}_*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        rate = float(path.parent.name.partition("lr-")[2])
        found[rate] = results["validation"]["accuracy"]["value"]
    return {"rate": max(sorted(found), key=lambda rate: found[rate]), "validation": found}


def pool(cells: list[tuple[str, str]], runs: Path, jobs: int) -> list[str]:
    """Work through the cells, some at a time, in forks of this process; return what failed."""
    running: dict[int, tuple[str, str]] = {}
    failed = []

    def wait() -> None:
        pid, status = os.wait()
        data, name = running.pop(pid)
        print(f"{data} {name}: {'failed' if status else 'done'}", flush=True)
        if status:
            failed.append(f"{data} {name}")

    for data, name in cells:
        if len(running) >= jobs:
            wait()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                cell(runs, data, name)
                status = 0
            except SystemExit as leaving:
                print(leaving.code, file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        running[pid] = (data, name)
    while running:
        wait()
    return failed


def page(runs: Path) -> None:
    """Write the report of the finished runs and put it into README.md."""
    import mmeq.report

    rates = {
        f"{path.parent.name}/{path.name}, split {split}": chosen(path, split)
        for path in sorted((runs / "tuning").glob("*/*"))
        for split in SPLITS
        if any(path.glob(f"*_split-{split}_*/results.json"))
    }
    write_json(HERE / "rates.json", rates)
    ignored = ["--ignore", "optim.optimizer.lr"]
    sys.argv = ["mmeq.report", str(runs / "table"), *ignored, "--output", str(HERE)]
    if status := forked(mmeq.report.main, runs / "logs" / "report.log"):
        sys.exit(f"the report failed with status {status}: see {runs / 'logs' / 'report.log'}")
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
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        mmeq.train.load()
        begins = tuple(arguments.rows.split(","))
        cells = [
            (data, row)
            for data in arguments.data.split(",")
            for row in rows(data, DATA[data][1])
            if row.startswith(begins)
        ]
        failed = pool(cells, arguments.runs.resolve(), arguments.jobs)
    page(arguments.runs)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
