"""Runs side by side, each in a fork of this process, which has imported everything already.

A fork does what `python -m mmeq.train …` does, without the seconds that the imports take.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import mmeq.callbacks.record
import mmeq.data.datamodule
import mmeq.fusions.memory
import mmeq.methods.shapley
import mmeq.module
import mmeq.train
from engine.sweep import Job


def run(jobs: Sequence[Job], runs: Path, at_once: int) -> Iterator[tuple[Job, Path, bool]]:
    """Run jobs; yield each with its folder and whether it is finished, as they end.

    A folder with results.json is finished and not run again. One that was cut off is put aside
    and its run begun anew.
    """
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # forks need not look through what is imported
    waiting, running = list(reversed(jobs)), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop()
            folder = job.folder(runs)
            if (folder / "results.json").is_file():
                yield job, folder, True
            else:
                running[start(job, folder)] = (job, folder)
        if running:
            pid, _ = os.wait()
            if pid not in running:  # a child of someone else in this process
                continue
            job, folder = running.pop(pid)
            yield job, folder, (folder / "results.json").is_file()


def start(job: Job, folder: Path) -> int:
    """Fork a run; its output goes to a file beside the folder."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.unfinished-{os.getpid()}"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with said(folder).open("wb") as stream:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
        sys.argv = ["mmeq.train", *job.options, f"hydra.run.dir={folder}"]
        try:
            mmeq.train.main()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        if not status:
            said(folder).unlink()
    finally:
        os._exit(status)


def said(folder: Path) -> Path:
    """Where a run's output is, until it has finished well."""
    return folder.with_name(f"{folder.name}.txt")
