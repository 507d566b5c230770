"""GPUs of this machine, handed out so that no two jobs share one unless they are asked to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmeq.errors import MmeqError

EVERY = 0.5
"""Seconds between two looks for a free GPU."""


@contextlib.contextmanager
def lent(
    trainer: dict[str, Any], jobs_per_gpu: int, stopped: Callable[[], bool]
) -> Iterator[dict[str, str]]:
    """Hold the GPUs of a job for as long as the context lasts; wait until they are free.

    Yields the variables that show the job its GPUs; none where it takes none. All jobs of a user on
    this machine take part, of other sweeps too; a single run does not. The system gives a GPU back
    when its holder dies, however it dies.

    Args:
        trainer: options of the trainer: ``accelerator`` and ``devices``.
        jobs_per_gpu: how many jobs may share a GPU.
        stopped: asked while waiting; true gives up, with nothing held.

    Raises:
        MmeqError: when the machine has fewer than the job asks for.
    """
    there = visible() if trainer["accelerator"] in ("auto", "gpu", "cuda", "mps") else []
    if not there:
        yield {}
        return
    chosen, number = wanted(trainer["devices"], there)
    with contextlib.ExitStack() as held:
        told = False
        while not (taken := _take(held, chosen, number, jobs_per_gpu)) and not stopped():
            if not told:
                print(f"waiting for {number} of {len(chosen)} GPUs", flush=True)
                told = True
            time.sleep(EVERY)
        by_index = isinstance(trainer["devices"], list) or there == ["mps"]
        yield {} if by_index else {"CUDA_VISIBLE_DEVICES": ",".join(taken)}


def wanted(devices: Any, there: Sequence[str]) -> tuple[list[str], int]:  # noqa: ANN401 - as in YAML
    """Return the GPUs that a job may have, and how many of them it needs.

    Args:
        devices: how many, a list of indices, or -1 or ``auto`` for all.
        there: GPUs of this machine.

    Raises:
        MmeqError: when there are fewer.

    Examples:
        >>> wanted(1, ["a", "b"]), wanted(-1, ["a", "b"]), wanted([1], ["a", "b"])
        ((['a', 'b'], 1), (['a', 'b'], 2), (['b'], 1))
    """
    if isinstance(devices, list):
        if any(not 0 <= index < len(there) for index in devices):
            raise MmeqError(f"trainer.devices={devices}: this machine shows {len(there)} GPUs")
        return [there[index] for index in devices], len(devices)
    number = len(there) if str(devices) in ("auto", "-1") else int(devices)
    if number > len(there):
        raise MmeqError(f"trainer.devices={devices}: this machine shows {len(there)} GPUs")
    return list(there), number


def visible() -> list[str]:
    """Return the GPUs that a job may be shown: ``CUDA_VISIBLE_DEVICES``, else all by their UUID."""
    if sys.platform == "darwin":
        return ["mps"]
    uuids = list(_uuids().values())
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not uuids or given is None:
        return uuids
    return [item.strip() for item in given.split(",") if item.strip()]


def _uuids() -> dict[str, str]:
    """Return index → UUID of this machine's NVIDIA GPUs; empty where there are none."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    if found.returncode != 0:  # a driver without a device
        return {}
    rows = [line.split(",") for line in found.stdout.splitlines() if "," in line]
    return {index.strip(): uuid.strip() for index, uuid in rows}


def _take(
    held: contextlib.ExitStack, chosen: Sequence[str], number: int, jobs_per_gpu: int
) -> list[str]:
    """Take so many GPUs at once, the emptiest first, or none."""
    names, taken = _uuids(), []
    with contextlib.ExitStack() as attempt:
        for place in range(jobs_per_gpu):
            for item in chosen:
                if len(taken) < number and item not in taken:
                    name = names.get(item, item)
                    if _seat(attempt, name, place if jobs_per_gpu > 1 else None):
                        taken.append(item)
        if len(taken) == number:
            held.enter_context(attempt.pop_all())
            return taken
    return []


def _seat(held: contextlib.ExitStack, name: str, place: int | None) -> bool:
    """Take a GPU: alone, or one of its places, whose holders all share the first lock."""
    folder = Path(tempfile.gettempdir()) / f"mmeq-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    locks = [(name, fcntl.LOCK_EX)]
    if place is not None:
        locks = [(name, fcntl.LOCK_SH), (f"{name}.{place}", fcntl.LOCK_EX)]
    with contextlib.ExitStack() as attempt:
        for file, kind in locks:
            stream = attempt.enter_context((folder / file).open("w"))
            try:
                fcntl.flock(stream, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        held.enter_context(attempt.pop_all())
    return True
