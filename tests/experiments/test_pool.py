"""Runs by forks end with the process that forked them, however that ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from e2e.faulty import Process, alive, gone

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


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_forks_end_with_their_parent(warm, tmp_path, number, status):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    given = ("tiny", "--questions", tmp_path, "--jobs", "2")
    with Process(warm, *given, cwd=tmp_path, code=WAITING) as process:
        process.until(lambda: len([*tmp_path.glob("*.pid")]) == 2)
        forks = [int(path.stem) for path in tmp_path.glob("*.pid")]
        assert all(map(alive, forks))
        process.send(number)
        assert process.status(60) == status
        assert all(gone(fork, 60) for fork in forks)
        assert "Traceback" not in process.text()
        assert len([*tmp_path.glob("*.pid")]) == 2  # the third has not begun
