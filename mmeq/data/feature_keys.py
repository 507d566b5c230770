"""What tells one sample of a column from any other, and one way to look at it from another.

Shape suffixes: N samples.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmeq.data.columns import Column
from mmeq.data.media.clip import Clip
from mmeq.data.media.column import MediaColumn
from mmeq.data.media.shards import KEY
from mmeq.errors import MmeqError

ENDS = 4096
"""Bytes that are read at either end of a file."""
THREADS = 8


def sample_keys(column: Column, rows: Iterable[int], dataset: str) -> np.ndarray:
    """Return S32 [N]: a digest of each of these rows' content, empty for the others.

    What is in memory, or was prepared, is told by its content, wherever it came from. A file is
    told by the dataset's name, its fingerprint (name, size, time of change, span, crop), and the
    bytes at its two ends, since archives give equal times to the files of different releases.

    Args:
        column: of N samples.
        rows: those that are wanted.
        dataset: its name.

    Raises:
        MmeqError: a file was taken away.
    """
    wanted = list(rows)
    out_N = np.zeros(len(column), f"S{KEY}")
    if isinstance(column, MediaColumn):
        # waits for disks, not for Python
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda row: _clip_key(column, row, dataset), wanted))
    else:
        found = [_digest(b"content", column.content(row)) for row in wanted]
    out_N[wanted] = found
    return out_N


def view_of(column: Column) -> dict[str, Any]:
    """Return, in plain types, how an evaluated part looks at a column's samples."""
    shape = list(getattr(column, "shape", ()))
    if not isinstance(column, MediaColumn):
        return {"column": type(column).__name__, "shape": shape}
    format = column.format
    # options of augmentation among them: formats do not tell which these are
    options = asdict(format) if is_dataclass(format) else dict(vars(format))  # type: ignore[call-overload]
    name = f"{type(format).__module__}.{type(format).__qualname__}"
    return {"format": name, "stored": format.stored(), "options": options, "shape": shape}


def _clip_key(column: MediaColumn, row: int, dataset: str) -> bytes:
    clip, key = column.clips[row], column.keys[row]
    assert clip is not None
    assert key is not None
    entry = None if column.store is None else column.store.find(key)
    if entry is not None:
        return _digest(b"content", entry.digest)
    try:
        return _digest(b"file", dataset.encode(), key.encode(), _ends(clip))
    except OSError as error:
        raise MmeqError(f"{clip.path} can no longer be read ({error.strerror})") from error


def _ends(clip: Clip) -> bytes:
    """First and last bytes of a file; of a folder, what it holds."""
    if clip.path.is_dir():
        return repr(sorted(_listed(clip.path))).encode()
    with clip.path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(ENDS)
        file.seek(max(len(first), size - ENDS))
        return first + (file.read(ENDS) or b"")


def _listed(folder: Path) -> Iterable[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            stat = entry.stat()
            yield entry.name, stat.st_size, stat.st_mtime_ns


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY // 2)
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest().encode()
