"""One job of a sweep: in a process of its own, once, and taken up where it was broken off."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mmeq.config import hold, runs
from mmeq.config.alone import difference
from mmeq.config.validate import plain_tree
from mmeq.errors import MmeqError
from mmeq.sweeps import driver, gpus, process, state
from mmeq.sweeps.literal import literal

LOG = "output.log"
TAIL = 12
"""Lines of a failed job's output that are shown."""

ORPHAN = 30.0
"""Seconds to wait for a run that a killed sweep has left, and that is about to end."""

REQUEUE = 120.0
"""Seconds that a job of a queue, stopped alone, waits to be taken up again."""

NAN = float("nan")


class JobFailed(MmeqError):
    """A job cannot be run; the others go on, and the sweep fails at its end."""


def job(cfg: DictConfig, folder: Path) -> float:
    """Run a job unless it is finished, or another process is at it.

    Each job is a fresh ``python -m mmeq.train <its overrides> hydra.run.dir=<folder>``: memory and
    GPUs are given back, nothing of one run reaches another, and ranks that it starts see an
    ordinary run. Its output goes to ``output.log`` in its folder, and what became of it to
    ``job.json``. A job that was broken off goes on from its last checkpoint; one that failed is
    tried again. Several processes may work at one sweep: start the same command again, and each
    takes what no other has taken.

    Args:
        cfg: the job's configuration.
        folder: its run folder.

    Returns:
        The monitored metric of the best epoch; NaN when the job failed, was stopped, or another
        process is at it.

    Raises:
        JobFailed: when the folder belongs to a run of another configuration.
    """
    if driver.stopping():
        return driver.leave()
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / state.LOCK) as free:
        if not free or not left_alone(folder):
            print(f"{folder}: another process is at it", flush=True)
            return NAN
        if (folder / "config.yaml").is_file() and (odd := changed(cfg, folder)):
            raise JobFailed(
                f"{folder} belongs to a run of another configuration: {odd}; give another "
                "hydra.sweep.dir, or move that folder away"
            )
        known = state.load(folder)
        hydra = HydraConfig.get()
        overrides = tuple(map(str, hydra.overrides.task))
        this = state.Job(int(hydra.job.num), overrides, folder=folder)
        if known is not None:  # its number is of this sweep, which may have grown
            this = replace(known, number=this.number, overrides=overrides)
        if (folder / "results.json").is_file():
            this = this.ended("finished", None, 0.0)
            print(f"{folder}: finished before{told(this)}", flush=True)
        elif this.state == "pruned":
            print(f"{folder}: pruned before", flush=True)
        else:
            this = attempt(this, cfg)
        if this.state == "stopped" and driver.stopping():
            return driver.leave()
        return NAN if this.value is None else this.value


def attempt(this: state.Job, cfg: DictConfig) -> state.Job:
    """Start the job's process, wait for its end, and return what has become of it."""
    from mmeq.sweeps.search import Pruning

    folder, start = this.folder, time.perf_counter()
    pruning = Pruning.of(this, cfg)

    def ended() -> bool:
        return driver.stopping() or (pruning is not None and pruning.due())

    this, log = this.begun(), folder / LOG
    seen = log.stat().st_size if log.is_file() else 0
    try:
        refuse_ranks_of_a_launcher()
        trainer: Any = plain_tree(cfg)["trainer"]
        with gpus.lent(trainer, int(cfg.jobs_per_gpu), driver.stopping) as environment:
            cwd = Path(HydraConfig.get().runtime.cwd)
            status = (
                driver.STATUS
                if driver.stopping()
                else process.train(arguments(cfg, folder), log, cwd, environment, ended)
            )
    except MmeqError as error:
        print(f"{folder}: failed: {error}", flush=True)
        return this.ended("failed", str(error), time.perf_counter() - start)
    except BaseException:  # this process leaves, and its job with it
        this.ended("stopped", None, time.perf_counter() - start)
        raise
    seconds = time.perf_counter() - start
    if status == 0:
        this = this.ended("finished", None, seconds)
        print(f"{folder}: done in {seconds:.1f} s{told(this)}", flush=True)
    elif pruning is not None and pruning.pruned:
        this = this.ended("pruned", pruning.reason, seconds)
        print(f"{folder}: pruned: {pruning.reason}", flush=True)
    elif driver.stopping() or status in (driver.STATUS, -signal.SIGTERM):
        this = this.ended("stopped", "SIGTERM", seconds)
        print(f"{folder}: stopped", flush=True)
        let_the_queue_requeue()
    else:
        lines = output(log, seen)
        this = this.ended("failed", reason(status, lines), seconds)
        shown = "\n  ".join(lines[-TAIL:])
        print(f"{folder}: failed with status {status}\n  {shown}", flush=True)
    return this


def arguments(cfg: DictConfig, folder: Path) -> list[str]:
    """Return the command line that trains the job; it goes on where there is a checkpoint.

    What another attempt has left without a checkpoint is put aside.
    """
    hydra = HydraConfig.get()
    given = [*sources(), "hydra.mode=RUN"]
    kept = (folder / "checkpoints" / name for name in (runs.LAST, runs.BEFORE))
    if any(path.is_file() for path in kept):
        return [*given, f"resume={literal(str(folder))}", *harmless(cfg, folder)]
    put_aside(folder)
    return [*given, *map(str, hydra.overrides.task), f"hydra.run.dir={literal(str(folder))}"]


def sources() -> list[str]:
    """Return where the command line has told Hydra to look for configurations."""
    hydra = HydraConfig.get()
    given = [str(o) for o in hydra.overrides.hydra if str(o).startswith("hydra.searchpath=")]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            given += ["--config-dir", str(source.path)]
    if hydra.job.config_name not in (None, "train"):
        given += ["--config-name", str(hydra.job.config_name)]
    return given


def harmless(cfg: DictConfig, folder: Path) -> list[str]:
    """Return the overrides that a resumed job takes from the sweep, where it has them otherwise."""
    here, there = runs.anchored(cfg), runs.read_config(folder, option="hydra.sweep.dir")
    return [
        f"{key}={literal(OmegaConf.to_object(value) if OmegaConf.is_config(value) else value)}"
        for key in runs.HARMLESS
        if (value := OmegaConf.select(here, key)) != OmegaConf.select(there, key)
    ]


def refuse_ranks_of_a_launcher() -> None:
    """Refuse a job that its launcher has started once a rank.

    Raises:
        MmeqError: says which option to give.
    """
    ranks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if ranks > 1:
        raise MmeqError(
            f"Slurm has started this job {ranks} times, once a rank; a job of a sweep starts its "
            "own ranks: give hydra.launcher.tasks_per_node=1, and as many GPUs as trainer.devices "
            "(hydra.launcher.gpus_per_node)"
        )


def let_the_queue_requeue() -> None:
    """Wait where a queue may be about to end this process too, and so to take the job up again.

    Slurm preempts by SIGTERM to all processes of a job, which ends a training; the signal by which
    submitit requeues comes after it.
    """
    until = time.monotonic() + REQUEUE
    while "SUBMITIT_EXECUTOR" in os.environ and not driver.stopping():
        if time.monotonic() > until:
            return
        time.sleep(process.EVERY)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file for as long as the context lasts; False where another process holds it.

    The system gives the lock back when its holder dies, however it dies.
    """
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        path.unlink(missing_ok=True)


def left_alone(folder: Path) -> bool:
    """Wait for a run that a killed sweep has left to end; say whether it has."""
    until = time.monotonic() + ORPHAN
    while (folder / hold.LOCK).exists():
        try:
            with hold.held(folder):
                return True
        except MmeqError:
            if time.monotonic() > until or driver.stopping():
                return False
        time.sleep(process.EVERY)
    return True


def changed(cfg: DictConfig, folder: Path) -> str:
    """Say in which option the folder's run and the job differ first; empty for none."""
    there = plain_tree(runs.read_config(folder, option="hydra.sweep.dir"))
    here = plain_tree(runs.anchored(cfg))
    for option in {*runs.HARMLESS, "resume", "jobs_per_gpu"} - {"trainer.max_epochs"}:
        for tree in (here, there):
            *sections, last = option.split(".")
            node: Any = tree
            for section in sections:
                node = node.get(section, {})
            node.pop(last, None)
    return difference(there, here, "config")


def put_aside(folder: Path) -> None:
    """Move what a run without a checkpoint left into ``aside``; nothing is lost."""
    left = [folder / name for name in (*runs.MARKS, "config.yaml") if (folder / name).exists()]
    if left:
        aside = folder / "aside" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}"
        aside.mkdir(parents=True)
        for path in left:
            path.rename(aside / path.name)


def output(log: Path, seen: int) -> list[str]:
    """Return the lines of a log beyond what it had before."""
    with log.open("rb") as stream:
        stream.seek(seen)
        return stream.read().decode(errors="replace").splitlines()


def reason(status: int, lines: list[str]) -> str:
    """Say in one line why a process has failed."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    said = [line for line in lines if line.startswith("mmeq")]
    last = (said or lines or [f"status {status}"])[-1]
    return last.removeprefix("mmeq: ")


def told(job: state.Job) -> str:
    """Return the score as the end of a sentence."""
    return "" if job.value is None else f", {job.monitor} {job.value:.4f}"
