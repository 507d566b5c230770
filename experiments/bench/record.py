"""What the record of a run costs: epochs with it and without, within one run.

Its epochs are in turn without any record, with the default one (console off), and with a logger
more; an epoch lasts until the next begins, so it has all that is written at its end. Beside the
ratio, which has what goes on in the background too, stands the time that passes in the record's own
hooks, loggers and the disk included: a busy machine blurs it less. How much it blurs the ratios
shows in epochs without record against others without.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from built import SHAPLEY, built
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from measure import Line, line

from mmeq.callbacks.guard import LossGuard
from mmeq.callbacks.router import FitRouter
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.config import Run
from mmeq.loggers import finish_loggers, log_config

TRAINS = (LossGuard, ShapleyScheduler, FitRouter, ModelCheckpoint)
"""Callbacks that are part of training; all others watch and record."""
LOGGERS = ("csv", "tensorboard", "wandb")
TOLD = {
    "again": "none again",
    "record": "default record",
    **{name: f"record, logger={name}" for name in LOGGERS},
}
SETTING = (
    *SHAPLEY,
    "callbacks.console=null",
    f"logger=[{','.join(LOGGERS)}]",
    "logger.wandb.mode=offline",
)
JOBS = {
    "mfeat": ("dataset=mfeat",),
    "synthetic": ("dataset=synthetic", "dataset.samples={samples}"),
}
Parts = tuple[list[Callback], list[Logger]]


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


def records(name: str, overrides: tuple[str, ...], rounds: int) -> Iterator[Line]:
    """Epochs of a job with its record and without."""
    with tempfile.TemporaryDirectory() as place:
        run = built(Path(place), *SETTING, *overrides, bare=False)
        turns = Turns(parts(run), rounds)
        run.trainer.fit_loop.max_epochs = len(turns.turns) + 1
        log_config(run.trainer.loggers, run.cfg)
        run.trainer.callbacks.insert(0, turns)  # all are set up, then take turns
        with contextlib.redirect_stdout(io.StringIO()):  # the record tells tables too
            run.trainer.fit(run.module, datamodule=run.datamodule)
        found = {kind: seconds[1:] for kind, seconds in turns.seconds.items()}
        none = found.pop("none")
        for kind, seconds in found.items():
            told = f"{name}, epochs of {statistics.median(none):.2f} s: {TOLD[kind]} / none"
            hooks = statistics.median(turns.recording[kind][1:])
            share = hooks / statistics.median(none)
            yield line(told, seconds, none, hooks={"seconds": hooks, "share": share})
        with contextlib.redirect_stdout(io.StringIO()):
            last = ending(name, run, turns)
        yield last


def ending(name: str, run: Run, turns: Turns) -> Line:
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
    told = f"{name}: end of a run, with the test: default record / none"
    return line(told, [seconds["record"]], [seconds["none"]])


def parts(run: Run) -> dict[str, Parts]:
    """The kinds of epochs: what of the run's callbacks and loggers each has."""
    everything = list(run.trainer.callbacks)
    trains = [one for one in everything if isinstance(one, TRAINS)]
    kinds: dict[str, Parts] = {kind: (trains, []) for kind in ("none", "again")}
    kinds["record"] = (everything, [])
    for name, logger in zip(LOGGERS, run.trainer.loggers, strict=True):
        kinds[name] = (everything, [logger])
    return kinds


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    os.environ["WANDB_MODE"] = "offline"
    samples = 4000 if quick else 30000
    for name, overrides in JOBS.items():
        rounds = (5 if quick else 30) if name == "mfeat" else (3 if quick else 10)
        yield from records(name, tuple(o.format(samples=samples) for o in overrides), rounds)
