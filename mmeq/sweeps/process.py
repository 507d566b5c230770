"""One process of a job: started afresh, its output in a file, ended by SIGTERM before SIGKILL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmeq.config.ranks import LEADER

EVERY = 0.2
"""Seconds between two looks at a process."""

PATIENCE = 60.0
"""Seconds from SIGTERM to SIGKILL: a step, or the validation that closes an epoch, comes first."""

LAUNCHED = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_LOCALID")
"""What would tell Lightning that Slurm starts the ranks; a job starts its own."""


def train(
    arguments: Sequence[str],
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    ended: Callable[[], bool],
) -> int:
    """Run ``python -m mmeq.train <arguments>`` until it ends; return its exit status.

    Args:
        arguments: of the command.
        log: file that its output is added to.
        cwd: folder to start it in.
        environment: variables that are added to those of this process.
        ended: asked again and again; true ends the process.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in LAUNCHED}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmeq.train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**inherited, **environment, LEADER: str(os.getpid())},
        )
    try:
        while process.poll() is None:
            try:
                process.wait(EVERY)
            except subprocess.TimeoutExpired:
                if ended():
                    end(process)
        return process.returncode
    finally:  # this process is to leave
        if process.poll() is None:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process in good order; by force when it takes too long."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
