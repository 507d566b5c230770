"""One job of a sweep: in a process of its own, once, and taken up where it was broken off."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mmeq.config.alone import difference
from mmeq.config.runs import HARMLESS, MARKS, anchored, read_config
from mmeq.config.validate import plain_tree
from mmeq.errors import MmeqError

LOCK, LOG = ".lock", "output.log"
TAIL = 12
"""Lines of a failed job's output that are shown."""


class JobFailed(MmeqError):
    """A job of a sweep has failed; the others go on, and the sweep fails at its end."""


def job(cfg: DictConfig, folder: Path, train: Callable[[DictConfig], Any]) -> float:
    """Run a job unless it is finished, or another process is at it.

    Each job is a forked child: memory is given back, nothing of one run reaches another, and what
    is imported once serves all. Its output goes to ``output.log`` in its folder. A job that was
    broken off goes on from its last checkpoint. Several processes may work at one sweep: start the
    same command again, and each takes what no other has taken.

    Args:
        cfg: the job's configuration.
        folder: its run folder.
        train: trains by a configuration, in this process.

    Returns:
        The monitored metric of the best epoch; NaN if another process is at the job.

    Raises:
        JobFailed: when it failed, or the folder belongs to a run of another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK) as free:
        if not free:
            print(f"{folder}: another process is at it", flush=True)
            return float("nan")
        if (folder / "config.yaml").is_file():
            if odd := changed(cfg, folder):
                raise JobFailed(
                    f"{folder} belongs to a run of another configuration: {odd}; give another "
                    "hydra.sweep.dir, or move that folder away"
                )
            if (folder / "results.json").is_file():
                score = monitored(folder)
                print(f"{folder}: finished before{told(score)}", flush=True)
                return score
            if (folder / "checkpoints" / "last.ckpt").is_file():
                cfg = cfg.copy()
                cfg.resume = str(folder)
            else:
                put_aside(folder)
        start = time.perf_counter()
        status = forked(lambda: train(cfg), folder / LOG)
        seconds = time.perf_counter() - start
        if status != 0:
            lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            shown = "\n  ".join(lines[-TAIL:])
            print(f"{folder}: failed with status {status}\n  {shown}", flush=True)
            cause = lines[-1].removeprefix("mmeq: ") if lines else f"status {status}"
            raise JobFailed(f"a job of the sweep failed: {cause} ({folder / LOG})")
        score = monitored(folder)
        print(f"{folder}: done in {seconds:.1f} s{told(score)}", flush=True)
        return score


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


def changed(cfg: DictConfig, folder: Path) -> str:
    """Say in which option the folder's run and the job differ first; empty for none."""
    there = plain_tree(read_config(folder, option="hydra.sweep.dir"))
    here = plain_tree(anchored(cfg))
    for option in {*HARMLESS, "resume"} - {"trainer.max_epochs"}:
        for tree in (here, there):
            *sections, last = option.split(".")
            node: Any = tree
            for section in sections:
                node = node.get(section, {})
            node.pop(last, None)
    return difference(there, here, "config")


def put_aside(folder: Path) -> None:
    """Move what a run without a checkpoint left into ``aside``; nothing is lost."""
    left = [folder / name for name in (*MARKS, "config.yaml") if (folder / name).exists()]
    if left:
        aside = folder / "aside" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}"
        aside.mkdir(parents=True)
        for path in left:
            path.rename(aside / path.name)


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
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def monitored(folder: Path) -> float:
    """Return the monitored metric of a finished run's best epoch; NaN where it has none."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    value = (results.get("monitor") or {}).get("value")
    return float("nan") if value is None else float(value)


def told(score: float) -> str:
    """Return the score as the end of a sentence."""
    return "" if score != score else f", {score:.4f} on validation"
