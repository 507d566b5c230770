"""Files that are whole or absent: atomic writes, and line logs that survive a kill."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np


class NotWritten(OSError):
    """A file that could not be written: a full disk, a quota, a folder that is read-only.

    Args:
        path: of the file.
        cause: what the system said.
    """

    def __init__(self, path: str | Path, cause: OSError) -> None:
        self.why = cause.strerror or str(cause)
        super().__init__(f"{path} cannot be written ({self.why})")
        self.errno, self.strerror, self.filename = cause.errno, cause.strerror, str(path)

    def __str__(self) -> str:
        """The sentence, where OSError would show its fields."""
        return str(self.args[0])


def write_stream(
    path: str | Path, write: Callable[[IO[bytes]], object], keep: Path | None = None
) -> Path:
    """Write a file under a temporary name in the same folder, then move it into place.

    A reader sees the old content or the new one, never a part; a kill in between leaves the old,
    and what an error leaves behind is removed.

    Args:
        path: where the file shall be; missing folders are made.
        write: writes its content into a stream.
        keep: what the file was before is kept under this name, by a link: nothing is copied.

    Returns:
        The path.

    Raises:
        NotWritten: when the system refuses, at whatever step.
    """
    path, name = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp gives 0600; a result in a shared folder shall be as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        if keep is not None and path.exists():
            _also(path, keep, Path(f"{name}.keep.tmp"))
        Path(name).replace(path)
    except BaseException as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        cause = os_error(error) if isinstance(error, Exception) else None
        if cause is None or isinstance(error, NotWritten):
            raise
        raise NotWritten(path, cause) from error
    return path


def _also(path: Path, keep: Path, through: Path) -> None:
    """Give a file a second name, in place of what had it; the first is never missing meanwhile."""
    try:
        through.hardlink_to(path)
        through.replace(keep)
    except OSError:  # a file system without links
        path.replace(keep)


def os_error(error: BaseException) -> OSError | None:
    """Return the system's error that is one, or that another error came from or hides."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    return seen


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a whole file atomically (see `write_stream`)."""
    return write_stream(path, lambda stream: stream.write(data))


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
    """Append one line in a single write, so that a kill can tear this line but no earlier one.

    Raises:
        NotWritten: when the system refuses; the file is then what it was.
    """
    path, data = Path(path), memoryview(line.encode("utf-8") + b"\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            try:
                while data:
                    data = data[stream.write(data) :]
                os.fsync(stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    stream.truncate(size)
                raise
    except OSError as error:
        raise NotWritten(path, error) from error


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
