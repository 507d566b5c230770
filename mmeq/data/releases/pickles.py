"""Pickles read without running what they say: arrays and plain containers, nothing else."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from mmeq.errors import MmeqError

_BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError,
    ValueError, OverflowError, MemoryError, RecursionError, struct.error,
)  # fmt: skip
"""What the unpickler raises on a torn or garbled stream."""


class _ArrayType:
    """Stands for ``numpy.ndarray``: it may be named, never called.

    Its constructor takes a buffer and strides; an array comes to be by `_empty` and its state.
    """


def _empty(kind: Any, shape: Any, typecode: Any) -> np.ndarray:  # noqa: ANN401 - from the stream
    """Make the empty array whose state comes next in the stream."""
    if kind is not _ArrayType or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    array: np.ndarray = np.ndarray.__new__(np.ndarray, (0,), "b")
    return array


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *more: Any) -> np.ndarray:  # noqa: ANN401
    """Make an array of protocol 5 from its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject or len(more) > 1:
        raise pickle.UnpicklingError("an array of objects from raw bytes")
    array: np.ndarray = np.frombuffer(data, dtype=dtype).reshape(shape, order=order)
    return array


def _scalar(dtype: Any, data: Any = b"") -> Any:  # noqa: ANN401
    """Make one number of its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("a scalar that is no number")
    return np.frombuffer(_latin1(data, "latin1") if isinstance(data, str) else data, dtype)[0]


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:  # noqa: ANN401
    """Return the bytes that protocol 2 writes as text."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    """Module and name → what is used in its place."""
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _ArrayType,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
        ("collections", "OrderedDict"): OrderedDict,
    }
    # numpy 2 renamed its inner modules; a pickle has the names of the version that wrote it
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = _empty
        names[f"{core}.multiarray", "scalar"] = _scalar
        names[f"{core}.numeric", "_frombuffer"] = _from_buffer
    plain = (set, frozenset, list, dict, tuple, bytes, bytearray, str, int, float, bool, complex)
    for module in ("builtins", "__builtin__"):
        names |= {(module, kind.__name__): kind for kind in plain}
    for kind in (np.bool_, np.number):
        stack = [kind]
        while stack:
            one = stack.pop()
            stack += one.__subclasses__()
            names["numpy", one.__name__] = one
    return names


_ALLOWED = _allowed()


class _Refused(Exception):
    """The stream asks for a global that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's hook
        """Return an allowed global."""
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401 - pickle's hook
        """Refuse references to things outside the stream."""
        raise _Refused(f"the outside object {str(pid)[:80]!r}")


def load_pickle(path: str | Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a pickle that holds numbers, texts, containers and numpy arrays.

    Python's own `pickle.load` runs any code that a file asks for, and feature files come from
    everywhere. Here a stream that asks for anything else is refused before it is called. Files of
    numpy 1 and 2, of Python 2 (bytes read as Latin-1) and 3, of any protocol.

    Args:
        path: of the file.

    Raises:
        MmeqError: names the file, and the global that it asked for, or what is wrong with it.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except _Refused as refused:
        raise MmeqError(
            f"{path}: the pickle asks for {refused}, which is refused: a pickle can run any code, "
            "and only numbers, texts, lists, tuples, dicts, sets and numpy arrays are read here"
        ) from None
    except OSError as error:
        raise MmeqError(f"{path} cannot be read: {error.strerror or error}") from error
    except _BROKEN as error:
        raise MmeqError(
            f"{path} is no whole pickle: {str(error) or type(error).__name__} (a torn download, or "
            "another kind of file?)"
        ) from error
