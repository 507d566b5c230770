"""Bundled files: read with a checksum, written so that a rebuild gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from mmeq.errors import MmeqError, did_you_mean
from mmeq.files import write_bytes

FOLDER = Path(__file__).parent / "bundled"
SUMS = "SHA256SUMS"


def checksums(folder: Path = FOLDER) -> dict[str, str]:
    """Return the registry: file name → sha256, as in ``bundled/SHA256SUMS``."""
    path = folder / SUMS
    if not path.is_file():
        raise MmeqError(f"the list of checksums {path} is missing: install mmeq again")
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines if line)}


def read(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray]:
    """Read a bundled dataset after its sha256 was compared with the registry.

    Args:
        name: of the dataset, e.g. ``"mfeat"``.
        folder: where the files lie.

    Returns:
        Its arrays; none of them needs pickle.

    Raises:
        MmeqError: when the file is unknown, missing or damaged.
    """
    file, known = f"{name}.npz", checksums(folder)
    if file not in known:
        options = [entry.removesuffix(".npz") for entry in known]
        raise MmeqError(f"no bundled dataset {name!r}" + did_you_mean(name, options))
    remedy = f"install mmeq again, or rebuild it: python -m mmeq.data.rebuild.{name}"
    path = folder / file
    if not path.is_file():
        raise MmeqError(f"the bundled file {path} is missing: {remedy}")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != known[file]:
        raise MmeqError(
            f"the bundled file {path} is damaged: its sha256 is {found[:12]}…, "
            f"expected {known[file][:12]}…; {remedy}"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Serialise arrays into the bytes of an npz file that depend on the arrays alone.

    Entries are stored, not deflated, with one fixed time stamp: another day or another zlib gives
    the same bytes. (Git and wheels compress them anyway.)
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(arrays):
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(arrays[key]), version=(1, 0), allow_pickle=False
            )
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def write(name: str, arrays: Mapping[str, np.ndarray], folder: Path = FOLDER) -> str:
    """Write ``<name>.npz`` and return its sha256; the registry is left to `record`."""
    data = npz_bytes(arrays)
    write_bytes(folder / f"{name}.npz", data)
    return hashlib.sha256(data).hexdigest()


def record(name: str, digest: str, folder: Path = FOLDER) -> None:
    """Enter a file's sha256 into the registry."""
    known = checksums(folder) if (folder / SUMS).is_file() else {}
    known[f"{name}.npz"] = digest
    lines = [f"{value}  {key}\n" for key, value in sorted(known.items())]
    write_bytes(folder / SUMS, "".join(lines).encode())


def pack_blobs(blobs: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Join byte strings into (uint8 bytes, int64 offsets); item i is bytes[offset_i:offset_i+1]."""
    items = list(blobs)
    offsets = np.cumsum([0, *(len(item) for item in items)], dtype=np.int64)
    return np.frombuffer(b"".join(items), dtype=np.uint8), offsets


def unpack_blobs(data: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    """Undo `pack_blobs`."""
    whole = data.tobytes()
    return [whole[a:b] for a, b in pairwise(offsets.tolist())]


def pack_texts(texts: Iterable[str]) -> np.ndarray:
    r"""Join texts without line breaks into UTF-8 bytes.

    Examples:
        >>> unpack_texts(pack_texts(["a", "ü b"]))
        ['a', 'ü b']
    """
    items = list(texts)
    if any("\n" in item for item in items):
        raise ValueError("a text to pack holds a line break")
    return np.frombuffer("\n".join(items).encode("utf-8"), dtype=np.uint8)


def unpack_texts(data: np.ndarray) -> list[str]:
    """Undo `pack_texts`."""
    return data.tobytes().decode("utf-8").split("\n")
