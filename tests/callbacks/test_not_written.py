"""A disk that takes no more: the error names the file, and what was there stays whole."""

from __future__ import annotations

from pathlib import Path

import torch

from mmeq.config.checkpoint import WholeCheckpoints

LIMITED = """
import resource, sys, torch
from pathlib import Path
from mmeq import files
from mmeq.config.checkpoint import WholeCheckpoints
folder, big = Path(sys.argv[1]), torch.rand(100_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for write in (
    lambda: files.append_line(folder / "history.jsonl", "x" * 30_000),
    lambda: files.write_json(folder / "results.json", "x" * 30_000),
    lambda: files.write_npz(folder / "test.npz", x=big.numpy()),
    lambda: WholeCheckpoints().save_checkpoint({"x": big}, folder / "last.ckpt"),
):
    try:
        write()
    except files.NotWritten as error:
        print(error)
"""
"""A process of its own: a limit cannot be raised again."""


def test_a_refused_write_names_the_file_and_leaves_it_as_it_was(warm, tmp_path: Path) -> None:
    names = ["history.jsonl", "results.json", "test.npz", "last.ckpt"]
    for name in names:
        (tmp_path / name).write_bytes(b"before\n")
    done = warm.code(LIMITED, tmp_path, cwd=tmp_path)
    assert done.status == 0, done.stderr
    told = [f"{tmp_path / name} cannot be written (File too large)" for name in names]
    assert done.stdout.splitlines() == told, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert all((tmp_path / name).read_bytes() == b"before\n" for name in names)


def test_the_last_but_one_is_kept_without_a_copy(tmp_path: Path) -> None:
    for epoch in range(3):
        WholeCheckpoints().save_checkpoint({"epoch": epoch}, tmp_path / "last.ckpt")
    epochs = {path.name: torch.load(path)["epoch"] for path in tmp_path.iterdir()}
    assert epochs == {"last.ckpt": 2, "before.ckpt": 1}
