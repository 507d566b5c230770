"""A disk that takes no more: the error names the file, and what was there stays whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMITED = """
import resource, sys, torch
from pathlib import Path
from mmeq import files
from mmeq.config.checkpoint import WholeCheckpoints
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    {what}
except files.NotWritten as error:
    print(error)
"""
"""A process of its own: a limit cannot be raised again."""

BIG = "torch.zeros(100_000)"
WRITES = {
    "history.jsonl": "files.append_line(folder / 'history.jsonl', 'x' * 30_000)",
    "results.json": "files.write_json(folder / 'results.json', 'x' * 30_000)",
    "test.npz": "files.write_npz(folder / 'test.npz', x=torch.rand(100_000).numpy())",
    "last.ckpt": f"WholeCheckpoints().save_checkpoint({{'x': {BIG}}}, folder / 'last.ckpt')",
}


@pytest.mark.parametrize("name", WRITES)
def test_a_refused_write_names_the_file_and_leaves_it_as_it_was(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"before\n")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(what=WRITES[name]), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path / name} cannot be written (File too large)\n", done.stderr
    assert (tmp_path / name).read_bytes() == b"before\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]


KEPT = """
import sys
from pathlib import Path
from mmeq.config.checkpoint import WholeCheckpoints
for epoch in range(3):
    WholeCheckpoints().save_checkpoint({"epoch": epoch}, Path(sys.argv[1]) / "last.ckpt")
"""


def test_the_last_but_one_is_kept_without_a_copy(tmp_path: Path) -> None:
    import torch

    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", KEPT, str(tmp_path)], env=env, check=True)
    epochs = {path.name: torch.load(path)["epoch"] for path in tmp_path.iterdir()}
    assert epochs == {"last.ckpt": 2, "before.ckpt": 1}
