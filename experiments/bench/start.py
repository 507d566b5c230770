"""What starting costs: seconds of fresh processes to their end, or to their first batch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from measure import Line, in_turn, line

FIRST = """
import os, runpy, sys, time
from mmeq.module import MultimodalModule

def told(*_):
    print(time.time(), flush=True)
    os._exit(0)

MultimodalModule.training_step = told
sys.argv[0] = "mmeq.train"
runpy.run_module("mmeq.train", run_name="__main__")
"""
"""Leaves where the first training batch would be trained, and says when that was."""
REFERENCE = "python -c 'import lightning.pytorch'"
"""What any program by Lightning must do first."""
STARTS = {
    REFERENCE: ["-c", "import lightning.pytorch"],
    "python -m mmeq.train --help": ["-m", "mmeq.train", "--help"],
    "python -m mmeq.train, to its first batch": ["-c", FIRST],
    "python -m mmeq.train dataset=emoji, to its first batch": ["-c", FIRST, "dataset=emoji"],
}
FEW = 3
"""Of them, when quick."""


def lines(quick: bool) -> Iterator[Line]:
    """Each program in turn, against the import of Lightning alone."""
    chosen = list(STARTS.items())[: FEW if quick else None]
    with tempfile.TemporaryDirectory() as place:
        runs = {name: partial(seconds_to_start, given, Path(place)) for name, given in chosen}
        found = in_turn(runs, 2 if quick else 5, warm=not quick)
    reference = found.pop(REFERENCE)
    for name, seconds in found.items():
        yield line(f"{name} / {REFERENCE}", seconds, reference)


def seconds_to_start(given: list[str], place: Path) -> float:
    """Start a program; seconds until its end, or until the first batch where it tells that."""
    folder = tempfile.mkdtemp(dir=place)
    own = [f"hydra.run.dir={folder}/run"] if FIRST in given else []
    begun = time.time()
    done = subprocess.run(
        [sys.executable, *given, *own], cwd=folder, capture_output=True, text=True, check=True
    )
    return (float(done.stdout.splitlines()[-1]) if own else time.time()) - begun
