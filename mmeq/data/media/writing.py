"""Writes shards: collects decoded clips, writes a file that is whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.shards import DIGEST, VERSION, Status, format_key, schema_of
from mmeq.files import write_json

if TYPE_CHECKING:
    from mmeq.data.media.formats import Format

BYTES = 64 * 2**20
"""Content of a shard."""
ENTRIES = 4096
"""Most entries of a shard."""
SECONDS = 120.0
"""What was decoded is written after so long at the latest, so that a kill costs no more."""
DAY = 86400.0


class Writer:
    """Writes clips of one format into shards of its own, for one process.

    A shard is written under a hidden name, which tells host and process, and renamed when it is on
    the disk: a kill at any time leaves whole shards and at most one such file (see `tidy`).

    Args:
        folder: of the format; exists.
        format: what the clips were decoded in.
        limit: bytes of content that are collected for a shard.
    """

    _rows: list[dict[str, Any]]
    _begun: float

    def __init__(self, folder: Path, format: Format, limit: int = BYTES) -> None:
        self.folder = folder
        self.limit = limit
        self._schema = schema_of(format_key(format))
        self._clear()

    def __len__(self) -> int:
        """Entries that are not written yet."""
        return len(self._rows)

    def add(
        self,
        clip: Clip,
        key: str,
        status: Status,
        reason: str = "",
        seconds: float | None = None,
        blob: Blob | None = None,
    ) -> None:
        """Take one clip; its bytes are copied.

        Args:
            clip: whose content it is.
            key: its fingerprint.
            status: what became of it.
            reason: of a status that is not ok.
            seconds: of the clip; None: not known.
            blob: its content, if it is ok.
        """
        content = b"" if blob is None else np.ascontiguousarray(blob.data).data
        shape = [] if blob is None else [int(size) for size in blob.shape]
        digest = hashlib.blake2b(repr(tuple(shape)).encode(), digest_size=DIGEST)
        digest.update(content)
        self._begun = self._begun or time.monotonic()
        self._data += content
        self._offsets.append(len(self._data))
        self._rows.append(
            {
                "key": key.encode(),
                "status": status,
                "reason": _printable(reason),
                "seconds": float("nan") if seconds is None else float(seconds),
                "digest": digest.digest(),
                "name": _printable(clip.name),
                "shape": shape,
            }
        )

    @property
    def full(self) -> bool:
        """Enough is collected, or what is has waited long enough."""
        waited = time.monotonic() - self._begun if self._begun else 0.0
        return len(self._data) >= self.limit or len(self) >= ENTRIES or waited > SECONDS

    def write(self) -> Path | None:
        """Write what was collected and forget it; return the shard, None where nothing was.

        Raises:
            OSError: nothing is left of the file, and what was collected is kept.
        """
        if not self._rows:
            return None
        columns = {name: [row[name] for row in self._rows] for name in self._rows[0]}
        offsets = pa.py_buffer(np.asarray(self._offsets, dtype=np.int64))
        data = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(self), [None, offsets, pa.py_buffer(self._data)]
        )
        arrays = [
            data if field.name == "data" else pa.array(columns[field.name], field.type)
            for field in self._schema
        ]
        batch = pa.record_batch(arrays, schema=self._schema)
        # the time first: shards sort by age, whoever wrote them
        name = f"part-{time.time_ns():016x}-{uuid.uuid4().hex[:12]}.arrow"
        hidden = self.folder / f".{name}.{_host()}.{os.getpid()}.tmp"
        try:
            with hidden.open("xb") as file:
                with ipc.new_file(file, self._schema) as writer:
                    writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            hidden.rename(self.folder / name)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        _sync(self.folder)
        self._clear()
        return self.folder / name

    def _clear(self) -> None:
        # a new buffer: Arrow may still look at the old one
        self._data, self._offsets, self._rows, self._begun = bytearray(), [0], [], 0.0


def describe(folder: Path, format: Format) -> None:
    """Make the folder of a format, with the format's options for people to read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "format.json"
    if not path.exists():
        about = {"layout": VERSION, "kind": format.kind, "depends_on": format.stored()}
        write_json(path, about)


def tidy(folder: Path) -> list[Path]:
    """Remove the half files of writers that are dead; return what was removed.

    Dead is a process of this host that is no more; of another host, one that did not touch its
    file for a day.
    """
    gone = []
    for path in sorted(folder.glob(".*.tmp")):
        parts = path.name.split(".")  # "", shard, "arrow", host, process, "tmp"
        here = len(parts) == 6 and parts[3] == _host() and parts[4].isdigit()
        with contextlib.suppress(FileNotFoundError):
            old = time.time() - path.stat().st_mtime > DAY
            if old or (here and not alive(int(parts[4]))):
                path.unlink()
                gone.append(path)
    return gone


def alive(process: int) -> bool:
    """Say whether a process of this host runs; one that ended and was not waited for does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return not Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _host() -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname())


def _printable(text: str) -> str:
    """A text that UTF-8 can hold: file names may hold any byte."""
    return text.encode("utf-8", "backslashreplace").decode()


def _sync(folder: Path) -> None:
    """Have the rename on the disk, where folders can be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
