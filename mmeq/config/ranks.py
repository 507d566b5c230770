"""The processes of one run watch each other: when one dies, the others end, with a message."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

LEADER = "MMEQ_LEADER"
"""Names, to the ranks that a process starts, that process."""

EVERY = 0.25
"""Seconds between two looks."""

GRACE = 10.0
"""Seconds that a process has to end by itself, by the error of its next collective, before it is
ended; some backends never raise one."""

PATIENCE = 5.0
"""Seconds from SIGTERM to SIGKILL for ranks that are left over."""


def follow_parent(parent: int, ending: str = "") -> None:
    """End this process when the one that started it is gone: it would be left alone for ever.

    By SIGTERM first, so that it ends in good order, then at once.

    Args:
        parent: the process that started this one.
        ending: what to say at the end of the message.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(EVERY)
        said = f"mmeq: the process that started this one has ended{ending}\n"
        with contextlib.suppress(OSError):
            os.write(2, said.encode())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3 * GRACE)  # a step may take its time
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="mmeq-follow-parent").start()


def led() -> bool:
    """Say whether this process is a rank that the first rank has started."""
    return os.environ.get(LEADER) == str(os.getppid())


@contextlib.contextmanager
def watched(trainer: Any, ending: str) -> Iterator[None]:  # noqa: ANN401 - a lightning.Trainer
    """Watch the ranks that this process starts, for as long as the context lasts.

    Lightning kills all without a word, five seconds after one has died; this says which and how,
    and gives this process time to end in order.

    Args:
        trainer: that starts them.
        ending: what to say at the end of the message.
    """
    os.environ[LEADER] = str(os.getpid())
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY):
            for thread in threading.enumerate():
                if thread.name == "child-process-observer":  # Lightning's
                    thread._run = lambda: True  # type: ignore[attr-defined]
            if dead := fallen(trainer):
                if not ended.wait(GRACE):
                    sys.stderr.write(f"mmeq: {dead}{ending}\n")
                    sys.stderr.flush()
                    _end(started(trainer))
                    os._exit(2)
                return

    threading.Thread(target=watch, daemon=True, name="mmeq-watch-ranks").start()
    try:
        yield
    except BaseException:
        ended.set()
        _end(started(trainer))
        raise
    finally:
        ended.set()


def started(trainer: Any) -> list[subprocess.Popen[bytes]]:  # noqa: ANN401 - a lightning.Trainer
    """Return the ranks that this process has started; none under a launcher."""
    return list(getattr(trainer.strategy.launcher, "procs", ()))


def fallen(trainer: Any) -> str | None:  # noqa: ANN401 - a lightning.Trainer
    """Say which of the ranks that this process started has ended, and how; None for none."""
    ranks = started(trainer)
    for rank, process in enumerate(ranks, start=1):
        if status := process.poll():
            how = f"ended with status {status}"
            if status < 0:
                how = f"was killed by {signal.Signals(-status).name}"
            return f"rank {rank} of {len(ranks) + 1} {how}"
    return None


def _end(ranks: list[subprocess.Popen[bytes]]) -> None:
    """End ranks, by force those that do not go."""
    left = [process for process in ranks if process.poll() is None]
    for process in left:
        process.terminate()
    until = time.monotonic() + PATIENCE
    for process in left:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()
