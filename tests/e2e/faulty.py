"""Real processes to be killed, stopped and starved in the middle of a run. Not a test."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from e2e.running import environment

PATIENCE = 120.0


class Process:
    """A command that runs beside the test; what it says is kept in a file."""

    def __init__(self, *arguments: str, cwd: Path, code: str | None = None, **extra: str) -> None:
        how = ["-m", "mmeq.train"] if code is None else ["-c", code]
        self.said = tempfile.TemporaryFile("w+", dir=cwd, encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *how, *arguments],
            cwd=cwd,
            env=environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.said.close()

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def status(self, within: float = PATIENCE) -> int:
        """How it ended, which it must within so many seconds."""
        return self.process.wait(timeout=within)

    def text(self) -> str:
        self.said.seek(0)
        return self.said.read()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something to become true while the process lives."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def amid_epoch(self, folder: Path, after: int = 1) -> None:
        """Wait until some epochs are kept and the next is under way."""
        self.until(lambda: lines(folder) >= after and (folder / "checkpoints/last.ckpt").is_file())
        time.sleep(0.3)
        assert self.process.poll() is None, self.text()

    def children(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in found.split()]


def group(ranks: int, *arguments: str, cwd: Path) -> list[Process]:
    """Start ranks as a launcher such as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    shared |= {"WORLD_SIZE": str(ranks)}
    return [
        Process(*arguments, cwd=cwd, **shared, RANK=str(rank), LOCAL_RANK=str(rank))
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
