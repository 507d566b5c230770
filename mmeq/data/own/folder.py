"""Paths that a table names: they start from a root folder, and may not leave it unasked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mmeq.errors import MmeqError

LONGEST = 255
"""Bytes of a file's name that file systems take."""
DEEPEST = 4096
"""Bytes of a path that systems take."""


@dataclass(frozen=True)
class _Known:
    """A folder within the root that was seen: looked at once for all of its files."""

    path: Path
    prefix: str
    links: frozenset[str]


class Folder:
    """The folder that paths start from.

    Args:
        root: an existing folder.
        allow_outside: let paths leave it.
        instead: what a message recommends to who gives such a path.
    """

    def __init__(
        self,
        root: Path,
        allow_outside: bool = False,
        instead: str = "give another data_root, or dataset.allow_outside=true",
    ) -> None:
        self.root, self.allow_outside, self.instead = root, allow_outside, instead
        self._real_root = root.resolve()
        self._known: dict[str, _Known | None] = {}
        self._found: dict[str, tuple[Path, str]] = {}

    def find(self, cell: str) -> tuple[Path, str]:
        """Return the path that a cell means, and its name relative to the root, with ``/``.

        Whether there is such a file is not looked at.

        Raises:
            MmeqError: for what is no path, and for one that leads out of the root, be it by a
                link.
        """
        if cell not in self._found:  # one file often stands for two modalities
            self._found[cell] = self._find(cell)
        return self._found[cell]

    def _find(self, cell: str) -> tuple[Path, str]:
        parent, _, base = cell.rpartition("/")
        if "://" in cell:
            raise MmeqError(
                f"{cell!r} is an address, and nothing is downloaded: give the path of a file"
            )
        # of names that are short in any case, as most are, the bytes need not be counted
        if "\0" in cell or (4 * len(cell) > LONGEST and _too_long(cell)):
            raise MmeqError(f"{cell[:60]!r}… is no path of a file")
        if parent not in self._known:
            self._known[parent] = self._look(parent)
        known = self._known[parent]
        if known is not None and base not in known.links and base not in ("", ".", ".."):
            return known.path / base, known.prefix + base
        return self._resolved(cell)

    def _look(self, parent: str) -> _Known | None:
        """Return a folder that is in the root, even if it is missing; None for others."""
        path = (self.root / parent).resolve()
        if not path.is_relative_to(self._real_root):
            return None
        try:
            with os.scandir(path) as entries:
                links = frozenset(entry.name for entry in entries if entry.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            links = frozenset()
        except OSError:
            return None
        name = path.relative_to(self._real_root).as_posix()
        return _Known(self.root / name, "" if name == "." else f"{name}/", links)

    def _resolved(self, cell: str) -> tuple[Path, str]:
        path = self.root / cell
        real = path.resolve()
        if real.is_relative_to(self._real_root):
            name = real.relative_to(self._real_root)
            return self.root / name, name.as_posix()
        if not self.allow_outside:
            raise MmeqError(
                f"the path {cell!r} leads out of {self.root} (to {real}); {self.instead}"
            )
        return path, Path(os.path.normpath(cell)).as_posix()


def _too_long(cell: str) -> bool:
    if len(cell.encode(errors="replace")) >= DEEPEST:
        return True
    return max(len(part.encode(errors="replace")) for part in cell.split("/")) > LONGEST
