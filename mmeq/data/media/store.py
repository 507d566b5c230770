"""Prepared clips of one format, found by what their content depends on; their content is mapped."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmeq.data.media.clip import Blob
from mmeq.data.media.shards import (
    ABSENT,
    BROKEN,
    DIGEST,
    KEY,
    OK,
    STATUSES,
    Mapped,
    Small,
    Status,
    Unusable,
    folder_of,
    format_key,
    map_shard,
    read_small,
    shards_of,
)

if TYPE_CHECKING:
    from mmeq.data.media.formats import Format

__all__ = ["ABSENT", "BROKEN", "OK", "Entry", "Status", "Store"]


@dataclass(frozen=True)
class Entry:
    """One prepared clip.

    Attributes:
        status: ok; absent (the file has no such track); broken (it cannot be decoded).
        reason: of the latter two.
        seconds: length of the clip as probed; NaN where time is no matter or it is unknown.
        digest: blake2b (16 bytes) of the stored content, to find identical samples.
        shard: number of the file within the store.
        row: within the file.
    """

    status: Status
    reason: str
    seconds: float
    digest: bytes
    shard: int
    row: int


class Store:
    """What was prepared in one format. Nothing is read before the first question.

    A shard that is damaged, or of another version or format, is not used; a warning names it. Of
    two entries of one key the first in the order of the files' names counts.

    Args:
        root: folder of all prepared formats.
        format: whose content is looked for; another format has another folder.

    Attributes:
        folder: of the format.
    """

    def __init__(self, root: Path, format: Format) -> None:
        self.folder = folder_of(root, format)
        self._key = format_key(format)
        self._known: _Index | None = None
        self._shards: list[Path] = []
        self._maps: dict[int, Mapped] = {}

    def __len__(self) -> int:
        """Entries."""
        return len(self._index.keys)

    def find(self, key: str) -> Entry | None:
        """Return the entry of a clip's fingerprint, or None."""
        index, wanted = self._index, key.encode()
        at = int(index.keys.searchsorted(wanted)) if len(wanted) == KEY else len(index.keys)
        if at == len(index.keys) or index.keys[at] != wanted:
            return None
        return Entry(
            STATUSES[index.status[at]],
            index.reasons.get(at, ""),
            float(index.seconds[at]),
            index.digest[at].tobytes(),
            int(index.shard[at]),
            int(index.row[at]),
        )

    def blob(self, entry: Entry) -> Blob:
        """Return the content of an entry that is ok, as a view into the mapped file.

        Raises:
            MmeqError: the file was taken away, or damaged, since the index was read.
        """
        mapped = self._maps.get(entry.shard)
        if mapped is None:
            mapped = self._maps[entry.shard] = map_shard(self._shards[entry.shard])
        begin, end = mapped.offsets[entry.row : entry.row + 2].tolist()
        return Blob(mapped.data[begin:end], tuple(mapped.shapes[entry.row].as_py()))

    @property
    def _index(self) -> _Index:
        if self._known is None:
            self._shards, parts = [], []
            for path in shards_of(self.folder):
                try:
                    parts.append(read_small(path, self._key))
                except (OSError, Unusable) as error:
                    warnings.warn(
                        f"{path} is not used: {error}; python -m mmeq.prepare with the same "
                        "dataset options decodes anew what it held",
                        stacklevel=3,
                    )
                else:
                    self._shards.append(path)
            self._known = _merged(parts)
        return self._known

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is mapped: another process maps the files itself."""
        return {**self.__dict__, "_maps": {}}


class _Index(NamedTuple):
    """Entries of all shards, sorted by key; `reasons` by position, of those that are not ok.

    Arrays, not Python objects: forked workers share them, since no reference count is written
    into their pages.
    """

    keys: np.ndarray
    status: np.ndarray
    seconds: np.ndarray
    digest: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    reasons: dict[int, str]


def _merged(parts: list[Small]) -> _Index:
    """Join the shards' columns; the first of equal keys counts."""
    if not parts:
        keys, digest = np.empty(0, f"S{KEY}"), np.empty(0, f"V{DIGEST}")
        parts = [Small(keys, np.empty(0, np.int8), np.empty(0), digest, {})]
    sizes = [len(part.keys) for part in parts]
    shard = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)
    row = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    # numpy returns the first position of each
    keys, first = np.unique(np.concatenate([part.keys for part in parts]), return_index=True)
    status = np.concatenate([part.status for part in parts])[first]
    shard, row = shard[first], row[first]
    reasons = {int(at): parts[shard[at]].reasons[int(row[at])] for at in np.flatnonzero(status)}
    seconds = np.concatenate([part.seconds for part in parts])[first]
    digest = np.concatenate([part.digest for part in parts])[first]
    return _Index(keys, status, seconds, digest, shard, row, reasons)
