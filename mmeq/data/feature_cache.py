"""Features of frozen encoders on disk: found by what they depend on, computed where lacking.

Shape suffixes: N samples, B batch, H width of the features.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmeq.data.features import ABSENT, UNUSED, FeatureColumn, width_of
from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.shards import KEY, Unusable, folder_of, format_key, read_small, shards_of
from mmeq.data.media.writing import BYTES, Writer, describe, tidy
from mmeq.errors import MmeqError

VERSION = 1
"""Of what a feature depends on beside its key: to be raised whenever a view of mmeq changes."""
Compute = Callable[[list[int]], Generator[tuple[list[int], np.ndarray], None, None]]
"""Rows → (some of these rows, their features float32 [B, H]), until all were given."""


@dataclass(frozen=True)
class FeatureFormat:
    """All that features depend on beside the sample, in the form of a media format.

    Attributes:
        kind: of the modality; the folder is called by it.
        about: plain types.
    """

    kind: str
    about: Mapping[str, Any]

    def stored(self) -> dict[str, Any]:
        """Return it with the version."""
        return {"features": VERSION, "kind": self.kind, **self.about}


class FeatureCache:
    """Features in one format: shards of Arrow, as `mmeq.prepare` writes them.

    A shard is whole or not there, so a kill at any time costs what was not yet written: at most
    two minutes' work. Of processes that fill it at once, one works and the others wait for it.

    Args:
        root: folder of all formats.
        format: what the features depend on; another has another folder.
        chunk: bytes of features that make a shard.

    Attributes:
        folder: of the format.
    """

    def __init__(self, root: Path, format: FeatureFormat, chunk: int = BYTES) -> None:
        self.folder = folder_of(root, format)  # type: ignore[arg-type]
        self._format: Any = format
        self._chunk = chunk

    def column(self, keys_N: np.ndarray, present_N: np.ndarray) -> FeatureColumn | None:
        """Return the column of these samples; None while a feature is lacking.

        Args:
            keys_N: S32 [N], what tells each sample from others; empty where nothing is wanted.
            present_N: bool [N]; what is present and not wanted is never asked for.

        Raises:
            MmeqError: the shards do not belong together.
        """
        shards, shard_N, row_N = self._places(keys_N)
        wanted_N = keys_N != b""
        if not wanted_N.any() or (row_N[wanted_N] < 0).any():
            return None
        used = np.unique(shard_N[wanted_N])
        shard_N = np.searchsorted(used, shard_N).astype(np.int32)
        row_N = np.where(present_N & ~wanted_N, np.int32(UNUSED), row_N)
        kept = tuple(shards[number] for number in used)
        column = FeatureColumn(kept, shard_N, row_N, width_of(kept[0]))
        for number in range(len(kept)):  # mapped before workers are forked, and checked
            column._mapped(number)
        return column

    def missing(self, keys_N: np.ndarray) -> list[int]:
        """Return the rows whose features are lacking; of equal samples the first."""
        row_N = self._places(keys_N)[2]
        lacking = np.flatnonzero((keys_N != b"") & (row_N < 0))
        first = np.unique(keys_N[lacking], return_index=True)[1]
        return sorted(lacking[first].tolist())

    def fill(self, keys_N: np.ndarray, names: Sequence[str], compute: Compute) -> int:
        """Compute what is lacking and write it; wait for another process that does.

        Args:
            keys_N: as for `column`.
            names: N names of samples, for messages.
            compute: gives the features.

        Returns:
            How many were computed here.

        Raises:
            MmeqError: for features that are not finite, and a folder that cannot be written.
        """
        with self._writing():
            describe(self.folder, self._format)
        with alone(self.folder / ".lock"):
            tidy(self.folder)
            rows = self.missing(keys_N)
            writer = Writer(self.folder, self._format, self._chunk)
            if not rows:
                return 0
            try:
                with contextlib.closing(compute(rows)) as batches:
                    for some, features_BH in batches:
                        self._add(writer, some, features_BH, keys_N, names)
            finally:
                with self._writing():
                    writer.write()
        return len(rows)

    def _add(
        self,
        writer: Writer,
        rows: list[int],
        features_BH: np.ndarray,
        keys_N: np.ndarray,
        names: Sequence[str],
    ) -> None:
        for row, values_H in zip(rows, features_BH, strict=True):
            if not np.isfinite(values_H).all():
                raise MmeqError(
                    f"the frozen encoder gives NaN or an infinity for sample {names[row]!r}: try "
                    "trainer.precision=32-true"
                )
            blob = Blob(np.ascontiguousarray(values_H, "<f4").view(np.uint8), values_H.shape)
            writer.add(Clip(Path(), names[row]), keys_N[row].decode(), "ok", blob=blob)
        if writer.full:
            with self._writing():
                writer.write()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MmeqError(
                f"features cannot be written to {self.folder}: {error.strerror or error}; give "
                "cache=<folder>, or cache=off to compute them anew in every epoch"
            ) from error

    def _places(self, keys_N: np.ndarray) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """Shards; of every key its shard and its row there, -1 where there is none."""
        wanted = format_key(self._format)
        shards: list[Path] = []
        parts: list[np.ndarray] = []
        for path in shards_of(self.folder):
            try:
                small = read_small(path, wanted)
            except (OSError, Unusable) as error:
                warnings.warn(
                    f"{path} is not used: {error}; what it held is computed anew", stacklevel=3
                )
            else:
                shards.append(path)
                parts.append(small.keys)
        sizes = [len(part) for part in parts]
        shard = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)
        row = np.concatenate(
            [np.empty(0, np.int32), *(np.arange(n, dtype=np.int32) for n in sizes)]
        )
        # of equal keys the first: numpy returns the first position of each
        known, first = np.unique(
            np.concatenate([np.empty(0, f"S{KEY}"), *parts]), return_index=True
        )
        shard_N = np.zeros(len(keys_N), np.int32)
        row_N = np.full(len(keys_N), ABSENT, np.int32)
        if len(known):
            at = np.minimum(np.searchsorted(known, keys_N), len(known) - 1)
            found = known[at] == keys_N
            shard_N[found], row_N[found] = shard[first[at[found]]], row[first[at[found]]]
        return shards, shard_N, row_N


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock, waiting for it as long as a living process has it; it ends with its process."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        told = False
        while not _take(handle, path):
            if not told:
                owner = path.read_text(errors="replace").strip() or "another process"
                sys.stderr.write(f"mmeq: waiting for {owner}, which fills {path.parent}\n")
                told = True
            time.sleep(0.2)
        with contextlib.suppress(OSError):
            os.truncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):  # workers that were forked meanwhile hold it too
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _take(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        warnings.warn(
            f"{path.parent} lies on a file system without locks ({error.strerror}): runs that are "
            "started at once compute the same features",
            stacklevel=4,
        )
    return True
