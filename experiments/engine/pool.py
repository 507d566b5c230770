"""Runs side by side, each in a fork of this process, which has imported everything already.

A fork does what `python -m mmeq.train …` does, without the seconds that the imports take. When this
process is told to end, its forks are ended first; when it is killed, they end by themselves.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

import mmeq.callbacks.record
import mmeq.data.datamodule
import mmeq.fusions.memory
import mmeq.methods.shapley
import mmeq.module
import mmeq.train
from mmeq.config.ranks import follow_parent

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EVERY = 0.5
"""Seconds between two looks at whether this process has been told to end."""
PATIENCE = 30.0
"""Seconds from SIGTERM to SIGKILL: a step, or the validation that closes an epoch, comes first."""


class Placed(Protocol):
    """A run with a folder."""

    def folder(self, runs: Path) -> Path:
        """Where it runs."""


J = TypeVar("J", bound=Placed)


class Task(NamedTuple):
    """What a fork does, and the file that its output goes to until it has ended well."""

    work: Callable[[], object]
    log: Path


def train(job: Any, folder: Path) -> None:
    """Run `python -m mmeq.train` with the options of a job."""
    sys.argv = ["mmeq.train", *job.options, f"hydra.run.dir={folder}"]
    mmeq.train.main()


def run(
    jobs: Sequence[J], runs: Path, at_once: int, work: Callable[[J, Path], object] = train
) -> Iterator[tuple[J, Path, bool]]:
    """Do jobs; yield each with its folder and whether it is finished, as they end.

    A folder with results.json is finished and not run again. One that was cut off is put aside
    and its run begun anew.

    Args:
        jobs: to do.
        runs: folder of their folders.
        at_once: how many run beside each other.
        work: does one; it leaves results.json in the folder.
    """
    todo: dict[Task, tuple[J, Path]] = {}
    for job in jobs:
        folder = job.folder(runs)
        if (folder / "results.json").is_file():
            yield job, folder, True
        else:
            todo[Task(lambda j=job, f=folder: _anew(work, j, f), said(folder))] = job, folder
    with contextlib.closing(forks(list(todo), at_once)) as ended:
        for task in ended:
            job, folder = todo[task]
            yield job, folder, (folder / "results.json").is_file()


def _anew(work: Callable[[J, Path], object], job: J, folder: Path) -> None:
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.unfinished-{os.getpid()}"))
    work(job, folder)


def said(folder: Path) -> Path:
    """Where a run's output is, until it has finished well."""
    return folder.with_name(f"{folder.name}.txt")


def forks(tasks: Sequence[Task], at_once: int) -> Iterator[Task]:
    """Do each task in a fork; yield it as it ends. Whoever leaves early must close this."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # forks need not look through what is imported
    waiting, context = list(reversed(tasks)), multiprocessing.get_context("fork")
    running: dict[int, tuple[BaseProcess, Task]] = {}
    told: list[int] = []
    before = {number: signal.signal(number, lambda n, _: told.append(n)) for number in SIGNALS}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                task = waiting.pop()
                task.log.parent.mkdir(parents=True, exist_ok=True)
                process = context.Process(target=_begin, args=(task, os.getpid(), told))
                process.start()
                running[process.sentinel] = process, task
            for sentinel in wait(list(running), EVERY):
                process, task = running.pop(sentinel)
                process.join()
                if process.exitcode == 0:
                    task.log.unlink()
                yield task
            if told:
                sys.exit(128 + told[0])
    finally:
        end([process for process, _ in running.values()])
        for number, handler in before.items():
            signal.signal(number, handler)


def _begin(task: Task, parent: int, told: Sequence[int]) -> None:
    """In the fork."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if told:  # before this fork had its own way with signals
        sys.exit(128 + told[0])
    follow_parent(parent)
    with task.log.open("wb") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    task.work()


def end(processes: Sequence[BaseProcess]) -> None:
    """End processes in good order; by force those that take too long."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
