"""A run folder is held by one process at a time, through a lock that dies with it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from mmeq.errors import MmeqError

LOCK = ".running"
"""Held by the process that is at the run."""


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keep other processes from the run for as long as the context lasts.

    A lock of the process, which its children do not inherit: it ends when the process does,
    however it dies. Ranks that another one leads rely on that one's.

    Args:
        run_dir: the run folder, which is there.

    Raises:
        MmeqError: when another process is at the run, or the folder cannot be written.
    """
    if child_rank():
        yield
        return
    path = run_dir / LOCK
    try:
        handle = _locked(path)
    except OSError as error:
        raise MmeqError(
            f"hydra.run.dir={run_dir}: the folder cannot be written ({error.strerror}); choose "
            "another, or give yourself the right to write"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path) -> int:
    """Open and lock the file, and write into it whose it is."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                owner = os.read(handle, 200).decode(errors="replace").strip() or "unknown"
                os.close(handle)
                raise MmeqError(
                    f"hydra.run.dir={path.parent}: another process is at this run ({owner}): wait "
                    "for its end, or choose another folder"
                ) from error
            warnings.warn(
                f"{path.parent} lies on a file system without locks ({error.strerror}): start no "
                "run twice",
                stacklevel=4,
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                break
        os.close(handle)  # its holder has just ended, and removed the name
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return handle


def child_rank() -> bool:
    """Say whether this process is a rank that another one of the same run leads."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return any(rank.isdigit() and int(rank) > 0 for rank in ranks)
