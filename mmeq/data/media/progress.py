"""Progress of long work on standard error, and its end by a signal, with what is done kept."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

EVERY = 5.0
"""Seconds between lines where standard error is no terminal."""
OFTEN = 0.5
"""The same where a line can be written over."""


class Progress:
    """Says how much is done, how fast, and how long the rest will take.

    Args:
        total: to do.
        what: is counted.
        stream: where to; None: standard error.
    """

    def __init__(self, total: int, what: str, stream: TextIO | None = None) -> None:
        self.total, self.what = total, what
        self.stream = stream or sys.stderr
        self.done = self._before = 0
        self._over = self.stream.isatty()
        self._first: float | None = None
        self._said = time.monotonic()
        self._width = 0

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        if self._first is None:
            self._first, self._before = time.monotonic(), self.done

    def tick(self) -> None:
        """Say something, if it is time."""
        now = time.monotonic()
        if now - self._said >= (OFTEN if self._over else EVERY):
            self._said = now
            self._say(self.line(now))

    def line(self, now: float) -> str:
        """Return the line of a moment."""
        text = f"mmeq: {self.done} of {self.total} {self.what}"
        # the first came with the start of the workers, which says nothing of what follows
        if self._first is None:
            text += ", workers are starting"
        elif self.done > self._before and now > self._first:
            rate = (self.done - self._before) / (now - self._first)
            text += f", {rate:.3g}/s, about {span((self.total - self.done) / rate)} to go"
        return text

    def _say(self, text: str) -> None:
        if self._over:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """End the line, if one is open."""
        if self._over and self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self.stream.flush()


def span(seconds: float) -> str:
    """Write a length of time.

    Examples:
        >>> span(7.3), span(83), span(7400), span(200_000)
        ('7 s', '1 min 23 s', '2 h 3 min', '55 h 33 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Stop:
    """Whether the user, or a scheduler, wants an end.

    Attributes:
        signal: number of the signal, or None.
    """

    signal: int | None = None


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Note SIGINT and SIGTERM instead of dying by them; the second one ends at once."""
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = number
        text = "mmeq: ending; what is decoded is being written (once more: end at once)\n"
        sys.stderr.write(text)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python hands signals to the main thread alone
        return
    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
