"""Damage to files, of the kinds that people's disks and downloads do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def truncate(path: Path, share: float = 0.5) -> None:
    """Keep the first `share` of the bytes: a download that broke off."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])


def empty(path: Path) -> None:
    """Leave no bytes."""
    path.write_bytes(b"")


def wrong_extension(path: Path) -> None:
    """Put a text file in its place, as a server's error page is."""
    path.write_bytes(b"<html><body><h1>404 Not Found</h1></body></html>\n" * 20)


def undecodable_text(path: Path) -> None:
    """Put bytes there that are no UTF-8 in the middle of words."""
    path.write_bytes(b"caf\xe9 \xff\xfe\x81 na\xefve \xc3\x28 end\n")


def drop_line(path: Path, containing: str) -> None:
    """Leave out the lines with this text; there must be one."""
    _edit(path, containing, lambda lines: [x for x in lines if containing.encode() not in x])


def duplicate_line(path: Path, containing: str) -> None:
    """Write the lines with this text twice; there must be one."""
    _edit(
        path,
        containing,
        lambda lines: [x for line in lines for x in [line] * (1 + (containing.encode() in line))],
    )


def replace_in(path: Path, old: str, new: str) -> None:
    """Replace a text wherever it stands; it must stand there."""
    raw = path.read_bytes()
    if old.encode() not in raw:
        raise AssertionError(f"{path.name} does not contain {old!r}")
    path.write_bytes(raw.replace(old.encode(), new.encode()))


def _edit(path: Path, containing: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if not any(containing.encode() in line for line in lines):
        raise AssertionError(f"{path.name} has no line with {containing!r}")
    path.write_bytes(b"".join(change(lines)))
