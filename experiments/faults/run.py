"""What is lost when something around a run fails: each fault tried again and again on a small job.

Each trial breaks a run at a moment drawn at random, takes it up by ``resume=``, and compares what
it leaves with an undisturbed run: weights, optimizer and history bit for bit, and results. The
table goes into README.md. ``python experiments/faults/run.py --kills 20 --times 3``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmeq.files import read_lines, write_text

HERE = Path(__file__).parent
MARK = "<!-- table -->"
JOB = [
    *("dataset=synthetic", "dataset.samples=1600", "batch_size=8", "trainer.max_epochs=4"),
    *("backbone.dim=16", "backbone.encoders.vector.hidden=24", "trainer.accelerator=cpu"),
    *("fusion=memory", "method.pace=step", "method.weigh=equal"),
    *("method=shapley", "method.order=random", "method.ema=0.5", "callbacks.missing=null"),
    "callbacks.figures=null",
]
MEASURED = ("seconds", "test_seconds", "memory")
PATIENCE = 600.0


@dataclass
class Tried:
    """How the trials of one fault went."""

    times: int = 0
    statuses: set[int] = field(default_factory=set)
    twice: int = 0
    ended: int = 0
    begun_anew: int = 0
    unequal: int = 0
    odd: list[str] = field(default_factory=list)


class Lab:
    """A place for runs, and the undisturbed one.

    Args:
        place: an empty folder.
        seed: of the moments.
    """

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.random, self.count = place, random.Random(seed), 0
        start = time.monotonic()
        self.whole = place / "whole"
        status = self.start(self.whole).wait(PATIENCE)
        if status:
            raise SystemExit(f"the undisturbed run failed: {(place / 'log').read_text()}")
        self.duration = time.monotonic() - start

    def start(
        self, folder: Path, *extra: str, limit: int | None = None, resume: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a run in the folder, or take it up."""
        given = [f"resume={folder}"] if resume else [*JOB, f"hydra.run.dir={folder}"]
        command = [sys.executable, "-m", "mmeq.train", *given, *extra]

        def starve() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        with (self.place / "log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.place,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=starve,
            )

    def folder(self) -> Path:
        """Return a place for another run."""
        self.count += 1
        return self.place / f"run-{self.count}"

    def amid(self, folder: Path, run: subprocess.Popen[bytes]) -> None:
        """Wait for a moment at random after the first epoch."""
        until = time.monotonic() + PATIENCE
        while not (folder / "checkpoints" / "last.ckpt").is_file() and run.poll() is None:
            if time.monotonic() > until:
                raise SystemExit(f"no epoch in {PATIENCE} s")
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, 0.15 * self.duration))


def kill(lab: Lab, folder: Path) -> int:
    """``kill -9`` at any moment from start to end; a run that ended first does not count."""
    while True:
        run, start = lab.start(folder), time.monotonic()
        try:
            run.wait(lab.random.uniform(0.15, 1.0) * lab.duration)
        except subprocess.TimeoutExpired:
            run.kill()
            return run.wait()
        lab.duration = min(lab.duration, time.monotonic() - start)
        shutil.rmtree(folder)


def terminate(lab: Lab, folder: Path) -> int:
    """SIGTERM amid the training."""
    run = lab.start(folder)
    lab.amid(folder, run)
    run.terminate()
    return run.wait(PATIENCE)


def full(lab: Lab, folder: Path) -> int:
    """A limit on the size of files, met amid a checkpoint."""
    return lab.start(folder, limit=lab.random.randrange(3_000, 110_000)).wait(PATIENCE)


def worker(lab: Lab, folder: Path) -> int:
    """``kill -9`` of a process that loads data."""
    run = lab.start(folder, "workers=2")
    lab.amid(folder, run)
    kill_child(run, lab)
    return run.wait(PATIENCE)


def rank(lab: Lab, folder: Path) -> int:
    """``kill -9`` of the second of two ranks."""
    run = lab.start(folder, "trainer.devices=2")
    lab.amid(folder, run)
    kill_child(run, lab)
    return run.wait(PATIENCE)


def first_rank(lab: Lab, folder: Path) -> int:
    """``kill -9`` of the first of two ranks; the other must not stay."""
    run = lab.start(folder, "trainer.devices=2")
    lab.amid(folder, run)
    others = children(run)
    run.kill()
    status = run.wait()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{other}").exists() for other in others):
        if time.monotonic() > until:
            raise SystemExit(f"ranks {others} are left over")
        time.sleep(0.05)
    return status


def damaged(lab: Lab, folder: Path) -> int:
    """A byte of ``last.ckpt`` changed, or its end cut off, at a place at random."""
    status = terminate_after(lab, folder, 2)
    path = folder / "checkpoints" / "last.ckpt"
    data = bytearray(path.read_bytes())
    place = lab.random.randrange(len(data))
    if lab.random.random() < 0.5:
        del data[place:]
    else:
        data[place] ^= 1 << lab.random.randrange(8)
    path.write_bytes(data)
    return status


def second(lab: Lab, folder: Path) -> int:
    """A second process on the same run: it must leave at once, and the first go on."""
    run = lab.start(folder)
    lab.amid(folder, run)
    if run.poll() is None and lab.start(folder, resume=True).wait(PATIENCE) != 2:
        raise SystemExit("a second process was not refused")
    return run.wait(PATIENCE)


def unread(lab: Lab, folder: Path) -> int:
    """``… | head -1``."""
    command = [sys.executable, "-m", "mmeq.train", *JOB, f"hydra.run.dir={folder}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=lab.place) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.stdout.close()
        return run.wait(PATIENCE)


def terminate_after(lab: Lab, folder: Path, epochs: int) -> int:
    """SIGTERM after so many epochs."""
    run = lab.start(folder)
    while len(read_lines(folder / "history.jsonl")) < epochs and run.poll() is None:
        time.sleep(0.02)
    lab.amid(folder, run)
    run.terminate()
    return run.wait(PATIENCE)


def children(run: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes that a process has started."""
    try:
        text = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def kill_child(run: subprocess.Popen[bytes], lab: Lab) -> None:
    """Kill one of them."""
    if found := children(run):
        os.kill(lab.random.choice(found), signal.SIGKILL)


FAULTS: dict[str, Callable[[Lab, Path], int]] = {
    "`kill -9` at any moment": kill,
    "SIGTERM amid an epoch": terminate,
    "no room for a file": full,
    "a data worker killed": worker,
    "a rank of two killed": rank,
    "the first rank of two killed": first_rank,
    "`last.ckpt` damaged": damaged,
    "two processes on one folder": second,
    "`… \\| head -1`": unread,
}


def timeless(tree: Any) -> Any:
    """Return the same without what clock and memory have measured."""
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in MEASURED}
    return [timeless(item) for item in tree] if isinstance(tree, list) else tree


def left(folder: Path) -> dict[str, Any]:
    """Return what a run leaves, to compare: weights as bytes."""
    found: dict[str, Any] = {
        "history": [timeless(json.loads(line)) for line in read_lines(folder / "history.jsonl")],
        "results": timeless(json.loads((folder / "results.json").read_text(encoding="utf-8"))),
    }
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "mmeq_order", "epoch"):
            found[f"{name}/{part}"] = as_bytes(checkpoint[part])
    return found


def as_bytes(tree: Any) -> Any:
    """Return a tree with its tensors as bytes."""
    if isinstance(tree, torch.Tensor):
        return tree.dtype, tuple(tree.shape), tree.contiguous().numpy().tobytes()
    if isinstance(tree, dict):
        return {key: as_bytes(value) for key, value in tree.items()}
    return [as_bytes(item) for item in tree] if isinstance(tree, list | tuple) else tree


def trial(lab: Lab, name: str, tried: Tried, wholes: dict[bool, Path]) -> list[str]:
    """Break a run, take it up, compare; return what is not as it shall be."""
    folder = lab.folder()
    pair = FAULTS[name] in (rank, first_rank)
    tried.times += 1
    tried.statuses.add(FAULTS[name](lab, folder))
    if (folder / "results.json").is_file():
        tried.ended += 1
    else:
        last = folder / "checkpoints" / "last.ckpt"
        begun = (folder / "config.yaml").is_file()
        tried.begun_anew += not last.is_file()
        status = lab.start(folder, resume=begun).wait(PATIENCE)
        if status:
            return [f"resume: status {status}: {(lab.place / 'log').read_text()[-300:]}"]
        text = (lab.place / "log").read_text(encoding="utf-8", errors="replace")
        tried.twice = max(tried.twice, 1 + ("one epoch earlier" in text))
    here, there = left(folder), left(wholes[pair])
    odd = [f"{part} differs" for part in there if here.get(part) != there[part]]
    odd += [f"{path} is left" for path in folder.rglob(".*.tmp")]
    shutil.rmtree(folder)
    return odd


def row(name: str, tried: Tried) -> str:
    """Return a line of the table."""
    twice = {0: "nothing", 1: "the epoch under way", 2: "two epochs at most"}[tried.twice]
    same = tried.times - tried.unequal
    statuses = ", ".join(map(str, sorted(tried.statuses)))
    equal = f"{tried.times} of {tried.times}" if not tried.odd else f"**{same} of {tried.times}**"
    return (
        f"| {name} | {tried.times} | {statuses} | {tried.ended} | {tried.begun_anew} | {twice} | "
        f"{equal} |"
    )


def main() -> int:
    """Try every fault and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="trials of kill -9")
    parser.add_argument("--times", type=int, default=3, help="trials of each other fault")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    head = "| fault | tried | status | had ended | before the first epoch ended | trained again | equal to the undisturbed run |"  # noqa: E501
    table = [head, "|---|---|---|---|---|---|---|"]
    failed = False
    with tempfile.TemporaryDirectory() as place:
        lab = Lab(Path(place), given.seed)
        pair = Path(place) / "pair"
        lab.start(pair, "trainer.devices=2").wait(PATIENCE)
        wholes = {False: lab.whole, True: pair}
        for name in FAULTS:
            tried = Tried()
            for _ in range(given.kills if FAULTS[name] is kill else given.times):
                if odd := trial(lab, name, tried, wholes):
                    tried.unequal += 1
                    tried.odd += odd
            table.append(row(name, tried))
            print(table[-1], *sorted(set(tried.odd)), sep="\n  ", flush=True)
            failed |= bool(tried.odd)
            page = HERE / "README.md"
            before = page.read_text(encoding="utf-8").partition(MARK)[0]
            write_text(page, before + MARK + "\n\n" + "\n".join(table) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
