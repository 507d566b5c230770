"""Where a run prints: colours and live bars on a terminal, plain short lines in a log file."""

from __future__ import annotations

import functools
import io
import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType

WIDTH = 100
# For streams that cannot take UTF-8.
_ASCII = str.maketrans(
    {
        "φ": "phi",
        "→": "->",
        "…": "..",
        "–": "-",
        "·": "|",
        "★": "*",
        "█": "#",
        "▌": "#",
        "░": ".",
        "│": "|",
        "−": "-",
    }
)


def stream() -> TextIO:
    """Return the real standard output, also while a live bar stands in for it."""
    return getattr(sys.stdout, "rich_proxied_file", sys.stdout)


def is_terminal() -> bool:
    """Say whether a person watches: not for a pipe, a file or a terminal that cannot move."""
    return stream().isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@functools.lru_cache(maxsize=1)
def _console(target: TextIO, terminal: bool) -> Console:
    return Console(
        file=target,
        force_terminal=terminal,
        no_color=None if terminal else True,
        width=None if terminal else WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def console() -> Console:
    """Return the one console of the process, which the live bar and the tables share."""
    return _console(stream(), is_terminal())


def emit(*parts: RenderableType) -> None:
    """Print tables and lines: as they are on a terminal, above a live bar if there is one.

    Elsewhere as UTF-8 (ASCII where the stream takes no more) without control characters or
    trailing blanks, at most 100 wide, and flushed, so that ``tail -f`` shows each epoch at once.
    """
    if is_terminal():
        for part in parts:
            console().print(part)
        return
    page = Console(
        file=io.StringIO(), width=WIDTH, force_terminal=False, no_color=True, highlight=False,
        markup=False, emoji=False, legacy_windows=False,
    )  # fmt: skip
    for part in parts:
        page.print(part)
    text = "".join(line.rstrip() + "\n" for line in page.file.getvalue().splitlines())  # type: ignore[attr-defined]
    target = stream()
    encoding = target.encoding or "utf-8"
    if not encoding.lower().replace("-", "").startswith("utf"):
        text = text.translate(_ASCII).encode(encoding, errors="replace").decode(encoding)
    target.write(text)
    target.flush()


def duration(seconds: float) -> str:
    """Return a time as a person would say it.

    Examples:
        >>> duration(4.21), duration(75), duration(7325)
        ('4.2 s', '1:15', '2:02:05')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
