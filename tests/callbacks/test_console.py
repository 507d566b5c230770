"""What is printed: plain in a log file, live on a terminal, never wider than 100."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import sys
from pathlib import Path

import pytest

from mmeq.callbacks import tables, terminal
from mmeq.callbacks.console import EpochTable
from mmeq.callbacks.progress import EpochProgress
from mmeq.callbacks.scheduler import ShapleyScheduler
from tests.callbacks.tiny import Tiny, run

SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from mmeq.callbacks.console import EpochTable
from mmeq.callbacks.progress import EpochProgress
from mmeq.callbacks.scheduler import ShapleyScheduler
from tests.callbacks.tiny import run
folder = Path(sys.argv[1])
run(folder, [ShapleyScheduler(), EpochTable(folder), EpochProgress()], epochs=3)
"""


TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "100"}


def test_log_file_has_no_control_characters(warm, tmp_path: Path) -> None:
    done = warm.code(SCRIPT, tmp_path, cwd=tmp_path, **TERMINAL)
    assert done.status == 0, done.stderr
    assert "\r" not in done.stderr
    text = done.stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() for line in lines)
    heads = [line for line in lines if line.startswith("epoch ")]
    assert [head.split()[1] for head in heads] == ["1/3", "2/3", "3/3"]
    assert "★ best" in heads[0]
    assert "left" in text  # the estimate of the time that remains
    for word in ("fou", "zer", "mor", "alone", "φ", "order", "EDM", "loss step/zer", "macro F1",
                 "fou+zer", "run folder"):  # fmt: skip
        assert word in text


def test_terminal_gets_a_bar_and_colours(warm, tmp_path: Path) -> None:
    main, other = pty.openpty()
    to = {"stdout": os.ttyname(other), "stderr": os.ttyname(other)}
    process = warm.start(tmp_path, code=SCRIPT, cwd=tmp_path, **to, **TERMINAL)
    chunks = []
    while (status := warm.poll(process)) is None or select.select([main], [], [], 0)[0]:
        if select.select([main], [], [], 0.02)[0]:
            chunks.append(os.read(main, 65536))
    os.close(other)
    os.close(main)
    assert status == 0
    text = b"".join(chunks).decode("utf-8")
    assert "\x1b[" in text
    assert "batches/s" in text
    assert "epoch 2/3" in text
    assert "\x1b[?25h" in text  # the cursor is given back


def test_stream_that_takes_only_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    run(tmp_path, [ShapleyScheduler(), EpochTable(tmp_path), EpochProgress()])
    sys.stdout.flush()
    text = raw.getvalue().decode("ascii")
    assert "phi" in text
    assert "->" in text or "order" in text


def test_every_prints_the_last_epoch_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path, [EpochTable(tmp_path, every=2), EpochProgress()], epochs=3)
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [head.split()[1] for head in heads] == ["2/3", "3/3"]


def test_table_marks_moves_and_survives_what_is_undefined(capsys: pytest.CaptureFixture) -> None:
    none = {"value": None, "low": None, "high": None}
    values = {"value": 0.0, "low": -0.1, "high": 0.1}
    metrics = {"accuracy": 0.25, "macro_f1": 0.1, "nll": 1.4, "low": None, "high": None}
    entry = {
        "game": "accuracy", "samples": 8, "proper_mean": None,
        "phi": {"a": values, "b": values}, "edm": {**none, "normalised": None},
        "values": {name: metrics for name in ("none", "a", "b", "a+b")},
        **{metric: values for metric in ("accuracy", "macro_f1", "nll")},
    }  # fmt: skip
    terminal.emit(tables.modality_table(entry, ["a", "b"], ["b", "a"]))
    terminal.emit(*tables.test_lines(entry, "test"))
    out = capsys.readouterr().out
    assert "1 → 2" in out
    assert "2 → 1" in out
    assert "n/a" in out


def test_ten_modalities_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    metrics = {"accuracy": 0.5, "macro_f1": 0.5, "nll": 0.7, "low": 0.4, "high": 0.6}
    names = [f"modality-{m}" for m in range(10)]
    keys = [
        "none",
        *("+".join(n for i, n in enumerate(names) if r >> i & 1) for r in range(1, 1024)),
    ]
    phi = {"value": 0.05, "low": 0.01, "high": 0.09}
    entry = {
        "game": "accuracy", "samples": 8, "proper_mean": 0.5, "phi": dict.fromkeys(names, phi),
        "edm": {**phi, "normalised": 0.1}, "values": dict.fromkeys(keys, metrics),
        **dict.fromkeys(("accuracy", "macro_f1", "nll"), phi),
    }  # fmt: skip
    losses = {f"step/{name}": 1.0 for name in names}
    terminal.emit(*tables.epoch_line(entry, label="epoch 1", losses=losses, time="1 s", best=True))
    terminal.emit(tables.modality_table(entry, names, names[::-1]), *tables.test_lines(entry, "t"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "all but modality-3" in out
    assert "1024 coalitions" in out


def test_bar_of_a_balanced_modality_ends_at_the_mark() -> None:
    full = tables.share_bar(1 / 3, 1 / 3).plain
    assert full.startswith("█" * 10 + "│" + "░" * 10)


def test_progress_is_lightnings_bar(tmp_path: Path) -> None:
    bar = EpochProgress()
    made = run(tmp_path, [bar], Tiny())
    assert made.progress_bar_callback is bar
