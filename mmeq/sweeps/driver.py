"""The process that drives a sweep: known to its jobs, and stopped in good order by SIGTERM.

Jobs run in this process (the basic launcher), in its workers (joblib), or far from it (submitit,
ray). All find in the environment which sweep they belong to; a flag in its folder stops them all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

VARIABLE = "MMEQ_SWEEP"
"""Names, to the jobs of a sweep, its driver and its flag."""

STATUS = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as a shell counts it."""

LONGEST = 120.0
"""Seconds from SIGTERM to the end of the driver, when a launcher does not give it back."""


@dataclass(frozen=True)
class Driver:
    """A sweep under way.

    Attributes:
        pid: process that drives it.
        folder: of the sweep.
        flag: file that, once there, stops its jobs.
    """

    pid: int
    folder: Path
    flag: Path

    @property
    def here(self) -> bool:
        """Whether this process is the driver."""
        return os.getpid() == self.pid


class Begin(Callback):
    """What Hydra calls when a sweep begins, in the process that drives it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Note the sweep for its jobs, and for the table at its end."""
        folder = Path(config.hydra.sweep.dir).absolute()
        os.environ[VARIABLE] = f"{os.getpid()}:{secrets.token_hex(4)}:{folder}"


def current() -> Driver | None:
    """Return the sweep that this process drives or works for; None for none."""
    pid, _, rest = os.environ.get(VARIABLE, "").partition(":")
    token, _, folder = rest.partition(":")
    if not folder:
        return None
    return Driver(int(pid), Path(folder), Path(folder) / f".stop-{token}")


def stopping() -> bool:
    """Say whether the sweep is to stop: its flag is there, or a worker of it is left alone."""
    driver = current()
    return driver is not None and (driver.flag.exists() or _orphaned(driver))


def _orphaned(driver: Driver) -> bool:
    return not driver.here and driver.pid == _WORKER and os.getppid() != driver.pid


_WORKER = os.getppid()
"""The parent at import: a worker of joblib is a child of the driver, and ends when that is gone."""


def leave() -> float:
    """Leave a job whose sweep is to stop.

    The driver exits, a worker that is left alone ends at once; any other returns NaN, so that its
    launcher comes to an end by itself.
    """
    driver = current()
    if driver is not None and _orphaned(driver):
        os._exit(STATUS)
    if driver is not None and driver.here:
        raise SystemExit(STATUS)
    return float("nan")


@contextlib.contextmanager
def driven() -> Iterator[None]:
    """Drive a sweep, should one begin in this context; sum it up however it ends."""
    before, received = os.environ.get(VARIABLE), []

    def note(signum: int, frame: FrameType | None) -> None:
        driver = current()
        if driver is None or not driver.here or received:
            os._exit(STATUS)
        received.append(signum)
        with contextlib.suppress(OSError):
            driver.flag.parent.mkdir(parents=True, exist_ok=True)
            driver.flag.touch()
        impatient = threading.Timer(LONGEST, os._exit, [STATUS])
        impatient.daemon = True
        impatient.start()

    first = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTERM, note) if first else None
    leaving, found = None, 0
    try:
        yield
    except SystemExit as error:
        leaving = error
    except KeyboardInterrupt:
        if not _drives(before):
            raise
        leaving = SystemExit(128 + signal.SIGINT)
    finally:
        if first:
            signal.signal(signal.SIGTERM, handler)
        if _drives(before):
            from mmeq.sweeps.summary import summarise

            driver = current()
            assert driver is not None
            found = summarise(driver.folder)
            driver.flag.unlink(missing_ok=True)
    if received:
        raise SystemExit(STATUS)
    if leaving is not None or found:
        raise leaving or SystemExit(found)


def _drives(before: str | None) -> bool:
    """Say whether this process has begun a sweep since the variable was so."""
    driver = current()
    return driver is not None and driver.here and os.environ.get(VARIABLE) != before
