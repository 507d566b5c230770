"""Real processes to be killed, stopped and starved in the middle of a run. Not a test."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from e2e.running import Warm, rendezvous

PATIENCE = 120.0


class Process:
    """A fork of a warm process that runs a command beside the test; what it says is in a file."""

    def __init__(
        self,
        warm: Warm,
        *arguments: str,
        cwd: Path,
        module: str | None = "mmeq.train",
        code: str | None = None,
        **extra: str,
    ) -> None:
        self.warm, self.ended = warm, None
        number, said = tempfile.mkstemp(dir=cwd, suffix=".said")
        os.close(number)
        self.said = Path(said)
        module = module if code is None else None
        to = {"cwd": cwd, "stdout": said, "stderr": said}
        self.pid = warm.start(*arguments, module=module, code=code, **to, **extra)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.send(signal.SIGKILL)
            self.status()
        self.said.unlink(missing_ok=True)  # a group may hold a process twice

    def send(self, signum: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        if self.ended is None:
            self.ended = self.warm.poll(self.pid)
        return self.ended

    def status(self, within: float = PATIENCE) -> int:
        """How it ended, which it must within so many seconds."""
        deadline = time.monotonic() + within
        while self.poll() is None:
            assert time.monotonic() < deadline, f"still running: {self.text()}"
            time.sleep(0.02)
        return self.poll()

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to become true while the process lives."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert self.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def amid_epoch(self, folder: Path, after: int = 1) -> None:
        """Wait until some epochs are kept and the next is under way."""
        self.until(lambda: lines(folder) >= after and (folder / "checkpoints/last.ckpt").is_file())
        time.sleep(0.2)
        assert self.poll() is None, self.text()

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(child) for child in found.split()]


def group(warm: Warm, ranks: int, *arguments: str, cwd: Path) -> list[Process]:
    """Start ranks as a launcher such as torchrun does."""
    shared = {**rendezvous(), "WORLD_SIZE": str(ranks)}
    return [
        Process(warm, *arguments, cwd=cwd, **shared, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(ranks)
    ]


def lines(folder: Path) -> int:
    history = folder / "history.jsonl"
    return history.read_bytes().count(b"\n") if history.is_file() else 0


def owner(folder: Path) -> int:
    """The process that is at a run."""
    found = re.match(r"process (\d+) on", (folder / ".running").read_text())
    assert found
    return int(found[1])


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(process: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended := not alive(process):
        return ended
    os.kill(process, signal.SIGKILL)
    return False


def halves(folder: Path) -> list[str]:
    """Names of what was left half-written."""
    return [str(path) for path in folder.rglob(".*.tmp")]
