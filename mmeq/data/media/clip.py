"""A clip: the place of one sample's audio, video or image on disk, and what decoding may say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmeq.data.spec import UNUSED
from mmeq.errors import MmeqError


class Absent(Exception):
    """The file is sound and has no such track: the sample lacks the modality."""


class Broken(Exception):
    """The file cannot be decoded; the message says why in a few words, without the path."""


@dataclass(frozen=True)
class Clip:
    """The place of one sample of one modality on disk.

    Attributes:
        path: of the file (of a folder, where a format keeps a clip's frames as files).
        name: the same relative to the data root, with ``/``: in reports and in keys, so that a
            data set that was moved keeps what was prepared of it.
        start: seconds from the beginning of the file; None: its beginning.
        end: seconds; None: its end.
        crop: part of the picture that counts: left, top, right, bottom as shares from 0 to 1.
    """

    path: Path
    name: str
    start: float | None = None
    end: float | None = None
    crop: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a span or a crop without content."""
        start = 0.0 if self.start is None else self.start
        if start < 0 or (self.end is not None and not self.end > start):
            raise MmeqError(f"{self.name}: the span {self.start} to {self.end} s has no length")
        if self.crop is not None:
            left, top, right, bottom = self.crop
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise MmeqError(f"{self.name}: the crop {self.crop} has no content")

    @property
    def seconds(self) -> float | None:
        """Length of a span that is given with both ends."""
        return None if self.end is None else self.end - (self.start or 0.0)

    def fingerprint(self) -> str:
        """Return what tells this content from any other: 32 hex digits.

        Name, size and time of change of the file, span and crop. A file that was replaced, touched
        or cut off has another one, so that nothing prepared of it is taken for fresh.

        Raises:
            FileNotFoundError: when there is no such file.
        """
        stat = self.path.stat()
        parts = (self.name, stat.st_size, stat.st_mtime_ns, self.start, self.end, self.crop)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A decoded clip as it is stored; its format knows how to read it.

    Attributes:
        data: uint8 [n], possibly a read-only view into a memory-mapped file.
        shape: what the format needs to read the bytes (e.g. ``(T, H, W, 3)``).
    """

    data: np.ndarray
    shape: tuple[int, ...]


def used(cells: Sequence[Clip | None], split: np.ndarray) -> list[Clip | None]:
    """Return the clips, None for those of samples that no part uses: nobody looks at them."""
    return [None if part == UNUSED else c for c, part in zip(cells, split.tolist(), strict=True)]
