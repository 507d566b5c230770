"""One shard, an Arrow IPC file of prepared clips: its layout, and how it is read and mapped.

A format has a folder, ``<root>/<kind>-<12 hex digits of what its content depends on>``, with its
options in ``format.json`` and its clips in ``part-*.arrow``: one record batch each, with the
columns of `SCHEMA`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pyarrow import ipc

from mmeq.errors import MmeqError

if TYPE_CHECKING:  # a process that decodes needs no torch for this file
    from mmeq.data.media.formats import Format

OK, ABSENT, BROKEN = "ok", "absent", "broken"
Status = Literal["ok", "absent", "broken"]
STATUSES: tuple[Status, ...] = ("ok", "absent", "broken")
VERSION = 1
"""Of the layout: shards of another version are not read."""
KEY = 32
"""Length of a fingerprint."""
DIGEST = 16
SCHEMA = pa.schema(
    [
        ("key", pa.binary(KEY)),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("seconds", pa.float64()),
        ("digest", pa.binary(DIGEST)),
        ("name", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("data", pa.large_binary()),
    ]
)
SMALL = 5
"""The first columns, which an index is made of; the others are not touched for it."""


class Unusable(Exception):
    """A shard is damaged, or of another version or format; the message says which."""


class Small(NamedTuple):
    """What an index needs of a shard's N entries.

    Attributes:
        keys: S32 [N].
        status: int8 [N], position in `STATUSES`.
        seconds: float64 [N].
        digest: V16 [N].
        reasons: row → text, of those that are not ok.
    """

    keys: np.ndarray
    status: np.ndarray
    seconds: np.ndarray
    digest: np.ndarray
    reasons: dict[int, str]


class Mapped(NamedTuple):
    """Views into a mapped shard of N entries.

    Attributes:
        data: uint8, the content of all.
        offsets: int64 [N + 1], where each begins.
        shapes: N lists, of Arrow.
    """

    data: np.ndarray
    offsets: np.ndarray
    shapes: Any


def format_key(format: Format) -> str:
    """Return 32 hex digits that tell what `format` keeps of a file from what others keep."""
    text = json.dumps(format.stored(), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def folder_of(root: Path, format: Format) -> Path:
    """Return the folder of a format: ``<root>/<kind>-<first 12 hex digits of its key>``."""
    return root / f"{format.kind}-{format_key(format)[:12]}"


def shards_of(folder: Path) -> list[Path]:
    """Return the shards of a format in the order in which they count."""
    return sorted(folder.glob("part-*.arrow"))


def schema_of(key: str) -> pa.Schema:
    """Return the columns of a shard, with version and format as metadata."""
    return SCHEMA.with_metadata({"mmeq.version": str(VERSION), "mmeq.format": key})


def read_small(path: Path, key: str) -> Small:
    """Read the small columns of a shard, and no byte of its content.

    A file that was cut off is known by its footer, which Arrow writes last.

    Args:
        path: of the shard.
        key: of the format that it shall hold.

    Raises:
        Unusable: says why.
        OSError: the file cannot be read.
    """
    options = ipc.IpcReadOptions(included_fields=list(range(SMALL)), use_threads=False)
    try:
        with pa.OSFile(str(path)) as file, ipc.open_file(file, options=options) as reader:
            found = {k.decode(): v.decode() for k, v in (reader.schema.metadata or {}).items()}
            if found.get("mmeq.version") != str(VERSION):
                raise Unusable(f"it is of version {found.get('mmeq.version')}, not {VERSION}")
            if found.get("mmeq.format") != key:
                raise Unusable("it holds another format")
            if not reader.schema.equals(pa.schema(list(SCHEMA)[:SMALL])):
                raise Unusable("it has not the columns of a shard")
            if reader.num_record_batches != 1:
                raise Unusable("it is damaged (not one batch)")
            batch = reader.get_batch(0)
            batch.validate(full=True)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise Unusable(f"it is damaged ({_first_line(error)})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # Arrow's own word, of a file that is shorter than its footer says
        raise Unusable(f"it is damaged ({_first_line(error)})") from error
    numbers = pa.compute.index_in(batch["status"], pa.array(STATUSES))
    if numbers.null_count or any(column.null_count for column in batch.columns):
        raise Unusable("it is damaged (an entry without status)")
    status = numbers.to_numpy().astype(np.int8)
    return Small(
        _fixed(batch["key"], f"S{KEY}"),
        status,
        batch["seconds"].to_numpy().copy(),
        _fixed(batch["digest"], f"V{DIGEST}"),
        {int(row): batch["reason"][int(row)].as_py() for row in np.flatnonzero(status)},
    )


def _fixed(column: Any, dtype: str) -> np.ndarray:  # noqa: ANN401 - pyarrow's
    """Copy a column of fixed width out of the file's buffer."""
    return np.array(np.frombuffer(column.buffers()[1], dtype, count=len(column)))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def map_shard(path: Path) -> Mapped:
    """Map a shard into memory; the views keep the mapping, and no file stays open.

    Raises:
        MmeqError: the file was taken away, or damaged, since its index was read.
    """
    try:
        with pa.memory_map(str(path)) as file:
            batch = ipc.open_file(file).get_batch(0)
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise MmeqError(
            f"{path} can no longer be read ({_first_line(error)}): run python -m mmeq.prepare with "
            "the same dataset options again"
        ) from error
    _, offsets, values = batch["data"].buffers()
    data = np.frombuffer(values, np.uint8) if values else np.empty(0, np.uint8)
    return Mapped(data, np.frombuffer(offsets, np.int64, count=len(batch) + 1), batch["shape"])
