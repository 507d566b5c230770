"""What each change of the engine brought: the commits before and after it, measured in turn.

Every commit is cloned, and every round starts each of them once as a fresh process on one thread,
which trains and validates the same jobs and tells the CPU seconds of each: medians of three after
a warm-up. CPU seconds, since a busy machine blurs them less; with one thread they are the time that
passes. ``python experiments/bench/changes.py`` writes changes.json; about 15 minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JOBS: dict[str, tuple[str, ...]] = {
    "alternating, MLP x 3": ("dataset=mfeat", "fusion=memory"),
    "joint, MLP x 3": ("dataset=mfeat", "method=joint", "fusion=memory"),
    "alternating, MLP x 6": (
        *("dataset=synthetic", "dataset.samples=1400", "dataset.sources=6", "dataset.snr=3"),
        "fusion=memory",
    ),
    "validation, MLP x 3, N=2000": (
        *("dataset=synthetic", "dataset.samples=6000", "trainer.limit_train_batches=1"),
        "fusion=memory",
    ),
    "joint, ResNet-18": (
        *("dataset=emoji", "backbone=resnet18", "dataset.modalities=[image]", "method=joint"),
        *("fusion=concat", "batch_size=16", "trainer.limit_train_batches=2"),
        "trainer.limit_val_batches=1",
    ),
    "alternating, ResNet-18 and transformer, D=512": (
        *("dataset=emoji", "backbone=resnet18", "batch_size=32", "fusion=memory"),
        *("trainer.limit_train_batches=3", "trainer.limit_val_batches=1"),
    ),
}
"""Job → overrides; its training epoch is timed, of a validation the validation."""


@dataclass(frozen=True)
class Change:
    """A change: the commit that made it, and what was expected of it before it was measured."""

    what: str
    commit: str
    job: str
    expected: str


START = "b0ce2da"
CHANGES = (
    Change(
        "optimizers with the fused kernel",
        "d7a08e5",
        "alternating, MLP x 3",
        "0.4 ms less of a step's 3.7 ms (0.55 against 0.14 ms in a loop of steps alone): 0.89",
    ),
    Change(
        "clipping in one call for all gradients",
        "d6571e5",
        "alternating, MLP x 3",
        "14 norms and 14 products less to call: 0.97",
    ),
    Change(
        "targets of a step made once; losses of a batch added as one tensor",
        "73c5d02",
        "alternating, MLP x 3",
        "0.1 ms of a step for the targets, 8 small operations for the losses: 0.96",
    ),
    Change(
        "memory: pairs aligned as one batch, readout before the mean, outputs where coalitions end",
        "f102f52",
        "alternating, MLP x 6",
        "5 pairs a step, 8 operations each, forwards and backwards: 0.80",
    ),
    Change(
        "resamples of the bootstrap drawn once, not each epoch",
        "d8351c0",
        "validation, MLP x 3, N=2000",
        "45 of the 312 ms that a validation of 2,560 samples took went into draws: 0.86",
    ),
    Change(
        "convolutions in channels-last layout",
        "c28f258",
        "joint, ResNet-18",
        "0.89, as of torchvision's ResNet-18 alone",
    ),
    Change(
        "no step waits for the device",
        "04a4194",
        "alternating, MLP x 3",
        "nothing on the CPU: 1.00; what it is for, a GPU, was not at hand",
    ),
    Change(
        "names of a batch not walked through; one product for the moments; no look for a driver",
        "db2c8a0",
        "joint, MLP x 3",
        "0.5 ms of a batch's 6 ms for the names, 0.16 for the driver, 0.2 for the moments: 0.86",
    ),
    Change(
        "correlations of the pairs that are asked for, not of all",
        "df92584",
        "alternating, ResNet-18 and transformer, D=512",
        "ten passes over 1024 × 1024 numbers less a batch, two over 512 × 512 more: 0.97",
    ),
    Change(
        "what the gates make of a state computed once for all prefixes that follow it",
        "4d5a49e",
        "validation, MLP x 3, N=2000",
        "9 products of 12 at M=3, of which elementwise work hides most at D=64: 0.98",
    ),
    Change(
        "channels-last for pictures of 192 x 192 and more alone",
        "e45fb03",
        "joint, ResNet-18",
        "its pictures have 48 x 48: what channels-last cost there comes back, 0.91",
    ),
)
"""In the order in which they were made; each is measured against the one before."""


def seconds(overrides: tuple[str, ...], validation: bool) -> float:
    """CPU seconds of a job's training epoch, or of its validation: the median of three."""
    import lightning
    from hydra import compose, initialize_config_dir

    from mmeq.config import build, conf_dir, validate

    class Clock(lightning.Callback):
        """Of the last epochs."""

        def __init__(self) -> None:
            self.training: list[float] = []
            self.validation: list[float] = []

        def on_train_epoch_start(self, *_: Any) -> None:
            """Start."""
            self.begun = time.process_time()

        def on_validation_start(self, *_: Any) -> None:
            """The training part ends."""
            self.between = time.process_time()
            self.training.append(self.between - self.begun)

        def on_validation_end(self, *_: Any) -> None:
            """Stop."""
            self.validation.append(time.process_time() - self.between)

    watching = ("console", "figures", "missing", "record", "predictions", "monitor")
    given = [*overrides, "trainer.accelerator=cpu", "trainer.max_epochs=4"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*given, *(f"callbacks.{name}=null" for name in watching)])
    for option, value in {"pace": "step", "weigh": "equal"}.items():
        if option in cfg.method:  # most commits know no other, and name none
            cfg.method[option] = value
    validate(cfg)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = build(cfg, Path(folder))
        run.trainer.callbacks.insert(0, clock)
        run.trainer.fit(run.module, datamodule=run.datamodule)
    return statistics.median((clock.validation if validation else clock.training)[1:])


def measure() -> None:
    """In a process of its own: all jobs, by whatever mmeq is on the path; told as one line."""
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found = {name: seconds(given, name.startswith("validation")) for name, given in JOBS.items()}
    print(json.dumps(found), flush=True)


def measured(tree: Path) -> dict[str, float]:
    """The same of a clone."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--measure"],
        cwd=tree, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def cloned(commit: str, place: Path) -> Path:
    """A clone of this repository at a commit."""
    folder = place / commit
    git: Callable[..., Any] = lambda *given: subprocess.run(  # noqa: E731
        ["git", *given], check=True, capture_output=True
    )
    git("clone", "--quiet", "--no-checkout", str(ROOT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", commit)
    return folder


def main() -> None:
    """Measure all commits in turn and write changes.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure()
        return
    from environment import environment
    from measure import line

    from mmeq.files import write_json

    commits = [START, *(change.commit for change in CHANGES)]
    with tempfile.TemporaryDirectory() as folder:
        trees = {commit: cloned(commit, Path(folder)) for commit in commits}
        rounds = []
        for number in range(given.rounds):
            rounds.append({commit: measured(tree) for commit, tree in trees.items()})
            print(f"round {number + 1} of {given.rounds}", flush=True)

    def against(before: str, after: str, job: str) -> dict[str, Any]:
        a, b = ([one[commit][job] for one in rounds] for commit in (after, before))
        return line(job, a, b)

    found = [
        {
            **{"what": change.what, "commit": change.commit, "expected": change.expected},
            "lines": [against(before, change.commit, job) for job in JOBS],
            "job": change.job,
        }
        for before, change in zip(commits, CHANGES, strict=False)
    ]
    whole = [against(START, commits[-1], job) for job in JOBS]
    results = {"environment": {**environment(), "threads": 1}, "from": START, "to": commits[-1]}
    write_json(HERE / "changes.json", {**results, "changes": found, "all": whole})


if __name__ == "__main__":
    main()
