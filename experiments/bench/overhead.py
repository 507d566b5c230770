"""What a run costs beside training: seconds to its first batch, and the record of each epoch.

Starts are fresh processes. The record is measured within one run: its epochs are in turn without
any record, with the default one (console off), and with a logger more; an epoch lasts until the
next begins, so it has all that is written at its end. Beside the ratio, which has what goes on in
the background too, stands the time that passes in the record's own hooks, loggers and the disk
included: a busy machine blurs it less. How much it blurs the ratios shows in epochs without record
against others without. Written to overhead.json (overhead-quick.json with --quick).
"""

from __future__ import annotations

import functools
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import script
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from measure import in_turn, line

from mmeq.callbacks.guard import LossGuard
from mmeq.callbacks.router import FitRouter
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.config import Run, build, cli, conf_dir, validate
from mmeq.loggers import finish_loggers, log_config

TRAINS = (LossGuard, ShapleyScheduler, FitRouter, ModelCheckpoint)
"""Callbacks that are part of training; all others watch and record."""
LOGGERS = ("csv", "tensorboard", "wandb")
TOLD = {
    "again": "none again",
    "record": "default record",
    **{name: f"record, logger={name}" for name in LOGGERS},
}
FIRST = """
import os, runpy, sys, time
from mmeq.module import MultimodalModule

def told(*_):
    print(time.time(), flush=True)
    os._exit(0)

MultimodalModule.training_step = told
sys.argv[0] = "mmeq.train"
runpy.run_module("mmeq.train", run_name="__main__")
"""
"""Leaves where the first training batch would be trained, and says when that was."""
STARTS = {
    "python -c 'import lightning.pytorch'": ["-c", "import lightning.pytorch"],
    "python -m mmeq.train --help": ["-m", "mmeq.train", "--help"],
    "python -m mmeq.train, to its first batch": ["-c", FIRST],
    "python -m mmeq.train dataset=emoji, to its first batch": ["-c", FIRST, "dataset=emoji"],
}
JOBS = {
    "mfeat": (),
    "synthetic": ("dataset=synthetic", "dataset.samples={samples}"),
}
Parts = tuple[list[Callback], list[Logger]]


def starts(repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds that starting takes, each program in turn."""
    with tempfile.TemporaryDirectory() as place:
        runs = {
            name: lambda given=given: seconds_to_start(given, Path(place))
            for name, given in STARTS.items()
        }
        for name, found in in_turn(runs, repeats).items():
            spread = {"lowest": min(found), "highest": max(found), "repeats": repeats}
            yield {"name": name, "seconds": statistics.median(found), **spread}
            print(
                f"{name:<66} {statistics.median(found):6.2f} s  "
                f"({min(found):.2f} to {max(found):.2f})",
                flush=True,
            )


def seconds_to_start(given: list[str], place: Path) -> float:
    """Start a program; seconds until its end, or until the first batch where it tells that."""
    folder = tempfile.mkdtemp(dir=place)
    own = [f"hydra.run.dir={folder}/run", "trainer.accelerator=cpu"] if FIRST in given else []
    begun = time.time()
    done = subprocess.run(
        [sys.executable, *given, *own], cwd=folder, capture_output=True, text=True, check=True
    )
    return (float(done.stdout.splitlines()[-1]) if own else time.time()) - begun


class Turns(Callback):
    """Gives each epoch other callbacks and loggers, in rounds of random order, and times it.

    Args:
        kinds: name → callbacks and loggers.
        rounds: so many; the first warms up and is dropped.

    Attributes:
        seconds: of the epochs of each kind.
        recording: of those, what passed in the hooks of callbacks that watch.
    """

    def __init__(self, kinds: dict[str, Parts], rounds: int) -> None:
        self.kinds = kinds
        draw = random.Random(0)
        order = [draw.sample(list(kinds), len(kinds)) for _ in range(rounds + 1)]
        self.turns = [kind for one in order for kind in one]
        self.seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        self.recording: dict[str, list[float]] = {kind: [] for kind in kinds}
        self.spent = 0.0
        for callback in kinds["record"][0]:
            if not isinstance(callback, TRAINS):
                for hook in filter(lambda name: name.startswith("on_"), dir(Callback)):
                    setattr(callback, hook, self.timed(getattr(callback, hook)))

    def timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return the hook, its time added to what is spent."""

        @functools.wraps(hook)
        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return hook(*given, **named)
            finally:
                self.spent += time.perf_counter() - begun

        return timed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch before, begin another; it is the first callback of each kind."""
        now, epoch = time.perf_counter(), trainer.current_epoch
        if epoch > 0:
            self.seconds[self.turns[epoch - 1]].append(now - self.begun)
            self.recording[self.turns[epoch - 1]].append(self.spent)
        if epoch < len(self.turns):  # one more ends the last
            self.take(trainer, self.turns[epoch])
        self.begun, self.spent = time.perf_counter(), 0.0

    def take(self, trainer: Trainer, kind: str) -> None:
        """Let the trainer have the callbacks and loggers of a kind."""
        callbacks, trainer.loggers = self.kinds[kind]
        trainer.callbacks[:] = [self, *callbacks]  # in place: Lightning is in the middle of it


def records(name: str, overrides: tuple[str, ...], rounds: int) -> Iterator[dict[str, Any]]:
    """Epochs of a job with its record and without."""
    with tempfile.TemporaryDirectory() as place:
        run = built(Path(place), *overrides)
        turns = Turns(parts(run), rounds)
        run.trainer.fit_loop.max_epochs = len(turns.turns) + 1
        log_config(run.trainer.loggers, run.cfg)
        run.trainer.callbacks.insert(0, turns)  # all are set up, then take turns
        run.trainer.fit(run.module, datamodule=run.datamodule)
        found = {kind: seconds[1:] for kind, seconds in turns.seconds.items()}
        none = found.pop("none")
        for kind, seconds in found.items():
            told = f"{name}, epochs of {statistics.median(none):.2f} s: {TOLD[kind]} / none"
            hooks = statistics.median(turns.recording[kind][1:])
            share = hooks / statistics.median(none)
            yield {**line(told, seconds, none), "hooks": {"seconds": hooks, "share": share}}
            print(
                f"  in its hooks: {1000 * hooks:.1f} ms an epoch, {100 * share:.2f} %", flush=True
            )
        yield ending(name, run, turns)


def ending(name: str, run: Run, turns: Turns) -> dict[str, Any]:
    """What is drawn and written once, when training has ended: seconds with it and without."""
    seconds = {}
    for kind in ("none", "record", "none", "record"):  # the first two warm up
        turns.take(run.trainer, kind)
        begun = time.perf_counter()
        for callback in run.trainer.callbacks:
            callback.on_fit_end(run.trainer, run.module)
        run.trainer.test(run.module, datamodule=run.datamodule, verbose=False)
        seconds[kind] = time.perf_counter() - begun
    finish_loggers(turns.kinds["wandb"][1])
    told = f"{name}: end of a run, with the test: default record, and none (seconds)"
    print(f"{told:<66} {seconds['record']:.2f}, {seconds['none']:.2f}", flush=True)
    return {"name": told, "seconds": [seconds["record"], seconds["none"]]}


def built(folder: Path, *overrides: str) -> Run:
    """What ``python -m mmeq.train <overrides>`` would train, with all loggers and no console."""
    cli.prepare()
    own = ["callbacks.console=null", "optim.scheduler=null", "trainer.accelerator=cpu"]
    own += [f"logger=[{','.join(LOGGERS)}]", "logger.wandb.mode=offline"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*own, *overrides])
    validate(cfg)
    return build(cfg, folder)


def parts(run: Run) -> dict[str, Parts]:
    """The kinds of epochs: what of the run's callbacks and loggers each has."""
    everything = list(run.trainer.callbacks)
    trains = [one for one in everything if isinstance(one, TRAINS)]
    kinds: dict[str, Parts] = {kind: (trains, []) for kind in ("none", "again")}
    kinds["record"] = (everything, [])
    for name, logger in zip(LOGGERS, run.trainer.loggers, strict=True):
        kinds[name] = (everything, [logger])
    return kinds


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    yield from starts(2 if quick else 5)
    samples = 4000 if quick else 30000
    for name, overrides in JOBS.items():
        rounds = (5 if quick else 30) if name == "mfeat" else (3 if quick else 10)
        yield from records(name, tuple(o.format(samples=samples) for o in overrides), rounds)


def main() -> None:
    """Measure, print and write."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    os.environ["WANDB_MODE"] = "offline"
    script.main(__doc__, "overhead", "repeats and samples", lines, lightning=lightning.__version__)


if __name__ == "__main__":
    main()
