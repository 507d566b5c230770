"""Runs by forks end with the process that forked them, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SWEEP = """
question: Do they end?
reference: joint
seeds: [0, 1, 2]
splits: [0]
data: [mfeat]
rows: {joint: [method=joint]}
"""
WAITING = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(EXPERIMENTS)!r})
import engine.pool
def wait(job, folder):
    Path(f"{{os.getpid()}}.pid").touch()
    time.sleep(600)
engine.pool.train = wait
import run
run.main()
"""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process is there, and not only what its parent has not asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_forks_end_with_their_parent(tmp_path, number, status):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    command = [sys.executable, "-c", WAITING, "tiny", "--questions", tmp_path, "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: len([*tmp_path.glob("*.pid")]) == 2)
        forks = [int(path.stem) for path in tmp_path.glob("*.pid")]
        assert all(map(lives, forks))
        process.send_signal(number)
        process.wait(60)
        assert process.returncode == status
        until(lambda: not any(map(lives, forks)))
        assert "Traceback" not in process.stderr.read()
        assert len([*tmp_path.glob("*.pid")]) == 2  # the third has not begun
    finally:
        process.kill()
        process.communicate()
