"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmeq import files


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    files.write_text(tmp_path / "deep" / "a.txt", "old")
    files.write_text(tmp_path / "deep" / "a.txt", "new ★")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "new ★"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    """The process is killed for real, after half of the bytes are on the disk."""
    path = tmp_path / "results.json"
    files.write_json(path, {"state": "old"})
    script = f"""
import os, signal
from mmeq import files
fsync = os.fsync
def half(descriptor):
    os.ftruncate(descriptor, 10)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = half
files.write_json({str(path)!r}, {{"state": "new" * 100}})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert '"old"' in path.read_text(encoding="utf-8")


def test_error_while_writing_removes_the_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(tmp_path / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("x", encoding="utf-8")
    ours = files.write_text(tmp_path / "ours", "x")
    assert ours.stat().st_mode == ordinary.stat().st_mode


def test_npz_needs_no_pickle(tmp_path: Path) -> None:
    path = files.write_npz(tmp_path / "a.npz", ids=np.asarray(["ä", "b"]), x=np.eye(2))
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == ["ä", "b"]
    with pytest.raises(TypeError, match="'ids'"):
        files.write_npz(path, ids=np.asarray(["a", None], dtype=object))


def test_torn_last_line_is_left_out_and_dropped_on_resume(tmp_path: Path) -> None:
    log = tmp_path / "history.jsonl"
    for epoch in range(3):
        files.append_line(log, files.json_line({"epoch": epoch}))
    with log.open("ab") as stream:
        stream.write(b'{"epoch": 3, "phi"')
    assert [line["epoch"] for line in files.read_jsonl(log)] == [0, 1, 2]
    files.keep_lines(log, lambda line: '"epoch": 2' not in line)
    assert log.read_bytes() == b'{"epoch": 0}\n{"epoch": 1}\n'


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-9, 9)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda tree: (
            st.lists(tree, max_size=3) | st.dictionaries(st.text(max_size=3), tree, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_plain_keeps_what_json_can_hold(tree: object) -> None:
    assert files.plain(tree) == tree


def test_plain_turns_nan_to_null() -> None:
    tree = {"a": float("nan"), "b": np.float32("inf"), "c": np.array([1.0, np.nan])}
    assert files.json_line(tree) == '{"a": null, "b": null, "c": [1.0, null]}'
