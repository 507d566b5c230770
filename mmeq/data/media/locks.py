"""Locks of preparation: no two processes decode the same clips at once, and none outlives a kill.

A lock (``flock``) is held by an open file: by the process that took it and by the workers that
inherit it, until the last of them is gone, however it died.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from mmeq.errors import MmeqError

PATIENCE = 3.0
"""Seconds to wait: as long as workers of a killed process may take to notice."""


class Inherited:
    """An open file that a worker gets when it is started (not by a queue).

    Args:
        handle: of the file in this process.
    """

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.handle),)


def _received(duplicate: Any) -> Inherited:  # noqa: ANN401 - multiprocessing's own
    return Inherited(duplicate.detach())


@contextlib.contextmanager
def locked(root: Path, names: Sequence[str], part: tuple[int, int]) -> Iterator[list[Inherited]]:
    """Hold one part of some folders for oneself, and keep out other ways to part them.

    Args:
        root: where the lock files lie; they stay.
        names: of the folders.
        part: i of n, from 1.

    Raises:
        MmeqError: another process is at the same part, or at parts of another n.
    """
    i, n = part
    places = root / ".locks"
    places.mkdir(parents=True, exist_ok=True)
    held: list[int] = []
    with contextlib.ExitStack() as stack:
        for name in sorted(names):
            own = places / f"{name}-{i}of{n}"
            if (handle := _take(stack, own, fcntl.LOCK_EX)) is None:
                raise MmeqError(
                    f"part {i}/{n} of {root / name} is being prepared by another process "
                    f"({_owner(own)}): wait for it, or take another part by prepare.part=<i>/<n>"
                )
            # parts of one n share this lock; parts of another one would decode the same clips
            shared = _take(stack, places / f"{name}-of{n}", fcntl.LOCK_SH)
            others = [path for path in places.glob(f"{name}-of*") if path.name != f"{name}-of{n}"]
            if shared is None or (others := [path for path in others if _busy(path)]):
                in_parts = ", ".join(path.name.rpartition("-of")[2] for path in others)
                raise MmeqError(
                    f"{root / name} is being prepared by another process in {in_parts} part(s), "
                    f"not in {n}: wait for it, or take parts of the same number"
                )
            held += [handle, shared]
        yield [Inherited(handle) for handle in held]


def _take(stack: contextlib.ExitStack, path: Path, how: int) -> int | None:
    """Open and lock a file; None when another holds it for longer than workers take to die."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    stack.callback(os.close, handle)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                warnings.warn(
                    f"{path.parent} lies on a file system without locks ({error.strerror}): start "
                    "no part twice",
                    stacklevel=2,
                )
                return handle
            if time.monotonic() > until:
                return None
            time.sleep(0.05)
        else:
            os.truncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return handle


def _busy(path: Path) -> bool:
    with contextlib.ExitStack() as stack:
        return _take(stack, path, fcntl.LOCK_EX) is None


def _owner(path: Path) -> str:
    return path.read_text(errors="replace").strip() or "unknown"
