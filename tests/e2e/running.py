"""Runs commands as a user does, each in a process of its own; reads what they leave. Not a test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import zipfile
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


IMPORTED = """
import importlib, sys
for name in [name for name in sys.modules if name.partition(".")[0] == "mmeq"]:
    del sys.modules[name]
importlib.import_module(sys.argv[1])
print(*sys.modules)
"""
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


def rendezvous() -> dict[str, str]:
    """Where ranks meet, as a launcher such as torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}


def fresh(module: str, *arguments: str, cwd: Path, **extra: str) -> Done:
    """Run ``python -m module …`` in a process that imports everything itself."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd, env=environment(**extra), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Warm:
    """Commands by forks of one process that has imported everything already."""

    serves = "e2e.warm"
    """The module of that process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.serves],
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

    def _ask(self, **job: object) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def __call__(
        self, module: str, *arguments: str, cwd: Path, ranks: int = 1, **extra: str
    ) -> Done:
        """Run ``python -m module …``; with several ranks as a launcher such as torchrun does."""
        return self._run({"module": module}, arguments, cwd, ranks, extra)

    def code(self, code: str, *arguments: str, cwd: Path, ranks: int = 1, **extra: str) -> Done:
        """Run ``python -c code …``."""
        return self._run({"module": None, "code": code}, arguments, cwd, ranks, extra)

    def _run(
        self, what: dict, arguments: tuple[str, ...], cwd: Path, ranks: int, extra: dict[str, str]
    ) -> Done:
        environments = [extra]
        if ranks > 1:
            shared = rendezvous()
            environments = [{**extra, **shared, "LOCAL_RANK": str(r)} for r in range(ranks)]
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            status = self._ask(
                **what,
                arguments=[str(argument) for argument in arguments],
                cwd=str(cwd),
                environments=environments,
                stdout=str(out),
                stderr=str(err),
                beside=False,
            )["status"]
            errors = b"".join(path.read_bytes() for path in sorted(Path(folder).glob("err*")))
            return Done(status, out.read_bytes().decode("utf-8"), errors.decode("utf-8"))

    def start(
        self,
        *arguments: str,
        module: str | None = None,
        code: str | None = None,
        cwd: Path,
        stdout: str | Path,
        stderr: str | Path,
        **extra: str,
    ) -> int:
        """Begin a command beside others; both outputs are appended to what is at the paths."""
        return self._ask(
            module=module,
            code=code,
            arguments=[str(argument) for argument in arguments],
            cwd=str(cwd),
            environments=[extra],
            stdout=str(stdout),
            stderr=str(stderr),
            beside=True,
        )["pid"]

    def poll(self, pid: int) -> int | None:
        """How a command that runs beside has ended, to be asked once; None while it runs."""
        return self._ask(poll=pid)["status"]

    def imported(self, module: str) -> set[str]:
        """What is there after a module was imported, once nothing of mmeq was."""
        done = self.code(IMPORTED, module, cwd=ROOT)
        assert done.status == 0, done.stderr
        return set(done.stdout.split())

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


def inside(path: Path) -> int:
    """A byte in the middle of the largest part of a checkpoint; between parts there is padding."""
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda entry: entry.file_size)
        with archive.open(part) as stream:
            content = stream.read()
    return path.read_bytes().index(content) + len(content) // 2
