"""Array files (.npy) as vectors or sequences in memory.

Shape suffixes: N samples, F features, T time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmeq.data.columns import Column, SequenceColumn, VectorColumn
from mmeq.errors import MmeqError

RANKS = {"vector": 1, "sequence": 2}
SHAPES = {"vector": "[F]", "sequence": "[T, F]"}

Place = tuple[Path, str]
"""A file, and its name for messages."""


def array_kind(place: Place) -> str:
    """Return the kind that a file's rank stands for, by its header alone.

    Raises:
        FileNotFoundError: when there is no such file.
        MmeqError: for a file that is no array of numbers, of rank 1 or 2.
    """
    path, name = place
    try:
        with path.open("rb") as stream:
            if np.lib.format.read_magic(stream) == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise MmeqError(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MmeqError(f"{name} is no sound .npy file: {error}") from error
    _check_dtype(dtype, name)
    kinds = {rank: kind for kind, rank in RANKS.items()}
    if len(shape) not in kinds:
        raise MmeqError(
            f"{name} has the shape {list(shape)}: give a vector [F] or a sequence [T, F]"
        )
    return kinds[len(shape)]


def read_arrays_of(
    places: Sequence[Place | None], kind: str
) -> tuple[Column, np.ndarray, list[str]]:
    """Read one file a sample.

    Args:
        places: N; None where the sample has none.
        kind: vector (float32 [N, F]) or sequence (float32 [N, T, F], padded to the longest).

    Returns:
        The column, zeros where absent; bool [N] of the samples that have an array; names of files
        that are missing, whose samples have none.

    Raises:
        MmeqError: names the file that is no array of finite numbers, or of another rank or width
            than the first.
    """
    arrays: list[np.ndarray | None] = []
    missing: list[str] = []
    first: tuple[str, int] | None = None
    for place in places:
        array = None
        if place is not None:
            try:
                array = read_array(place, kind)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(place[1])
        if array is not None and place is not None:
            first = first or (place[1], array.shape[-1])
            if array.shape[-1] != first[1]:
                raise MmeqError(
                    f"{place[1]} has {array.shape[-1]} features, {first[0]} has {first[1]}: all "
                    f"arrays of a modality have the same F ({SHAPES[kind]})"
                )
        arrays.append(array)
    present_N = np.array([array is not None for array in arrays], dtype=bool)
    return stacked(arrays, kind, first[1] if first else 0), present_N, missing


def stacked(arrays: Sequence[np.ndarray | None], kind: str, width: int) -> Column:
    """Return arrays as a column, zeros where there is none.

    Args:
        arrays: N, of `read_array`.
        kind: vector or sequence.
        width: F of all of them.
    """
    if kind == "vector":
        values = np.zeros((len(arrays), width), np.float32)
        for row, array in enumerate(arrays):
            if array is not None:
                values[row] = array
        return VectorColumn(torch.from_numpy(values))
    length_N = np.array([0 if array is None else len(array) for array in arrays], dtype=np.int64)
    padded = np.zeros((len(arrays), int(length_N.max(initial=0)), width), np.float32)
    for row, array in enumerate(arrays):
        if array is not None:
            padded[row, : len(array)] = array
    return SequenceColumn(torch.from_numpy(padded), torch.from_numpy(length_N))


def read_array(place: Place, kind: str) -> np.ndarray:
    """Read one array of finite numbers, float32: [F] or, of a sequence, [T, F].

    Raises:
        FileNotFoundError: when there is no such file (NotADirectoryError: no such folder).
        MmeqError: names the file and what is wrong with it.
    """
    path, name = place
    try:
        array = np.load(path, allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MmeqError(f"{name} is no sound .npy file of numbers: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise MmeqError(f"{name} is an archive of arrays: give one array a file (.npy)")
    _check_dtype(array.dtype, name)
    if array.ndim != RANKS[kind] or not array.size:
        raise MmeqError(
            f"{name} has the shape {list(array.shape)}: a {kind} is {SHAPES[kind]}, with a number "
            "in it"
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise MmeqError(f"{name} holds NaN or an infinity (as 32-bit float)")
    return array


def _check_dtype(dtype: np.dtype, name: str) -> None:
    if dtype.kind not in "fiu":
        what = "Python objects, which are not read" if dtype.hasobject else str(dtype)
        raise MmeqError(f"{name} holds {what}: give numbers (float or integer)")
