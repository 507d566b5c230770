"""Files that are whole or absent: atomic writes, and line logs that survive a kill."""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file under a temporary name in the same folder, then move it into place.

    A reader sees the old content or the new one, never a part; a kill in between leaves the old.

    Args:
        path: where the file shall be; missing folders are made.
        data: its whole content.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp gives 0600; a result in a shared folder shall be as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically (see `write_bytes`)."""
    return write_bytes(path, text.encode("utf-8"))


def plain(value: Any) -> Any:  # noqa: ANN401 - any tree of numbers
    """Turn a tree of tuples, numpy and torch scalars or arrays into what strict JSON can hold.

    NaN and infinity become None, since JSON knows neither.

    Examples:
        >>> plain({"a": (np.float64(1.5), float("nan")), 2: np.arange(2)})
        {'a': [1.5, None], '2': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return plain(value.tolist())
    return str(value)


def json_line(value: Any) -> str:  # noqa: ANN401 - any tree of numbers
    """Return one line of strict JSON without its end of line."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def write_json(path: str | Path, value: Any) -> Path:  # noqa: ANN401 - any tree of numbers
    """Write indented strict JSON atomically; NaN and infinity become null."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2)
    return write_text(path, text + "\n")


def write_npz(path: str | Path, **arrays: Any) -> Path:  # noqa: ANN401 - whatever numpy takes
    """Write compressed arrays atomically; an array that would need pickle is refused."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects: it could not be read back")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return write_bytes(path, buffer.getvalue())


def append_line(path: str | Path, line: str) -> None:
    """Append one line in a single write, so that a kill can tear this line but no earlier one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(line.encode("utf-8") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: str | Path) -> list[str]:
    """Return the complete lines of a log; a last line that a kill has torn is left out."""
    path = Path(path)
    if not path.exists():
        return []
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1].decode("utf-8").splitlines()


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of a ``.jsonl`` log (see `read_lines`)."""
    return [json.loads(line) for line in read_lines(path)]


def keep_lines(path: str | Path, keep: Callable[[str], bool]) -> None:
    """Drop, atomically, the torn end of a log and every line for which ``keep`` is false."""
    path = Path(path)
    if not path.exists():
        return
    text = "".join(line + "\n" for line in read_lines(path) if keep(line))
    if text.encode("utf-8") != path.read_bytes():
        write_text(path, text)
