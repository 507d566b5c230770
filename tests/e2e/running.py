"""Runs commands as a user does, each in a process of its own; reads what they leave. Not a test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ("trainer.accelerator=cpu", "callbacks.figures=null", "callbacks.missing=null")
"""What no test here looks at is left out."""
SMALL = (
    "dataset=synthetic",
    "dataset.samples=240",
    "backbone.dim=16",
    "backbone.encoders.vector.hidden=24",
    "batch_size=32",
)


MEASURED = ("seconds", "test_seconds", "memory")
"""What differs between two runs of the same."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def environment(**extra: str) -> dict[str, str]:
    known = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, known))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "offline",
        **extra,
    }


class Warm:
    """Commands by forks of one process that has imported everything already."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "warm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        assert line, "the warm process has ended"
        return json.loads(line)

    def __call__(
        self, module: str, *arguments: str, cwd: Path, ranks: int = 1, **extra: str
    ) -> Done:
        """Run ``python -m module …``; with several ranks as a launcher such as torchrun does."""
        environments = [extra]
        if ranks > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
            environments = [{**extra, **shared, "LOCAL_RANK": str(r)} for r in range(ranks)]
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            job = {
                "module": module,
                "arguments": [str(argument) for argument in arguments],
                "cwd": str(cwd),
                "environments": environments,
                "stdout": str(out),
                "stderr": str(err),
            }
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            status = self._answer()["status"]
            errors = "".join(path.read_text("utf-8") for path in sorted(Path(folder).glob("err*")))
            return Done(status, out.read_text("utf-8"), errors)

    def train(self, folder: Path, *arguments: str, **extra: str) -> Path:
        """Train into a folder and expect that it works."""
        where = [f"hydra.run.dir={folder}"]
        if any(argument.startswith("resume=") for argument in arguments):
            where = []
        elif not any(argument.startswith("trainer=") for argument in arguments):
            where += PLAIN
        done = self("mmeq.train", *where, *arguments, cwd=folder.parent, **extra)
        assert done.status == 0, done.stderr
        return folder

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def checkpoint(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def history(folder: Path) -> list[dict]:
    text = (folder / "history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def timeless(tree: object) -> object:
    """The same without what clock and memory have measured."""
    if isinstance(tree, dict):
        return {k: timeless(v) for k, v in tree.items() if k not in MEASURED}
    return [timeless(item) for item in tree] if isinstance(tree, list) else tree


def difference(one: object, two: object, path: str = "") -> str | None:
    """Where two trees of tensors and plain values differ first, to the last bit; None: nowhere."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        same = one.dtype == two.dtype and one.shape == two.shape and one.equal(two)
        return None if same else path
    if isinstance(one, dict) and isinstance(two, dict):
        if one.keys() != two.keys():
            return f"{path}: {sorted(map(str, one.keys() ^ two.keys()))}"
        pairs = [(one[key], two[key], f"{path}/{key}") for key in one]
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple):
        if len(one) != len(two):
            return f"{path}: {len(one)} and {len(two)} entries"
        pairs = [
            (a, b, f"{path}/{place}") for place, (a, b) in enumerate(zip(one, two, strict=True))
        ]
    else:
        return None if one == two else f"{path}: {one!r} and {two!r}"
    return next(filter(None, (difference(*pair) for pair in pairs)), None)
