"""Own data as an npz of arrays, for the predictions of a trained model; labels are not needed.

Shape suffixes: N samples, M modalities, F features, T time, H height, W width.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmeq.data.columns import (
    Column,
    ImageColumn,
    SequenceColumn,
    Statistics,
    TextColumn,
    VectorColumn,
)
from mmeq.data.manifest import TEST, Manifest
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.errors import MmeqError, did_you_mean

UNKNOWN = -1
"""Label of a sample whose class nobody knows."""
KINDS = ("vector", "sequence", "image", "text")
SUFFIXES = ("_length", "_present")

Arrays = Mapping[str, np.ndarray]


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read an npz without pickle.

    Raises:
        MmeqError: when there is no such file, or it holds what only pickle could read.
    """
    path = Path(path)
    if not path.is_file():
        raise MmeqError(f"data={path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise MmeqError(f"data={path} is no npz: write one by np.savez(path, <modality>=array, …)")
    with np.load(path, allow_pickle=False) as stored:
        found = {}
        for name in stored.files:
            try:
                found[name] = stored[name]
            except ValueError as error:
                raise MmeqError(
                    f"data={path}: the array {name!r} holds Python objects, which are not read: "
                    "make it numbers, or text of a fixed width (dtype=str)"
                ) from error
    return found


def own_manifest(
    arrays: Arrays, spec: DatasetSpec, statistics: Mapping[str, Statistics], source: str = "data"
) -> Manifest:
    """Make arrays a manifest that a trained model can predict.

    One array a modality, by its name: vector [N, F]; sequence [N, T, F], with ``<name>_length``
    [N] where they differ; image uint8 [N, 3, H, W]; text unicode [N]. Optional: ``ids`` [N],
    ``labels`` [N] (class names, or their numbers with -1 for unknown ones). An array that is not
    there is a modality that all samples lack; a vector or sequence of NaN alone, a sequence of
    length 0 or a false ``<name>_present`` [N] is one that a sample lacks.

    Args:
        arrays: name → array.
        spec: of the dataset that the model was trained on.
        statistics: mean and scale of its train part, by which vectors and sequences are
            standardised (`DataModule.statistics`).
        source: what messages call the data.

    Returns:
        Manifest with every sample in the test part; unknown labels are -1.

    Raises:
        MmeqError: names the array and what would be right.
    """
    known = {"ids", "labels", *spec.names, *(f"{name}_present" for name in spec.names)}
    known |= {f"{m.name}_length" for m in spec.modalities if m.kind == "sequence"}
    for name in arrays:
        if name not in known:
            raise MmeqError(f"{source}: unknown array {name!r}" + did_you_mean(name, known))
    given = [name for name in spec.names if name in arrays]
    if not given:
        raise MmeqError(
            f"{source} holds no modality of the run: give an array for at least one of "
            + ", ".join(spec.names)
        )
    lengths = {name: len(np.atleast_1d(array)) for name, array in arrays.items()}
    count = lengths[given[0]]
    for name, length in lengths.items():
        if length != count:
            raise MmeqError(
                f"{source}: {name!r} has {length} rows, {given[0]!r} has {count}: give each sample "
                "one row in every array"
            )
    if count == 0:
        raise MmeqError(f"{source} holds no sample")
    ids = _ids(arrays, count, source)
    columns, present = {}, []
    for modality in spec.modalities:
        column, present_N = _column(modality, arrays, ids, source)
        if isinstance(column, VectorColumn | SequenceColumn):
            column = column.scaled(statistics[modality.name])
        columns[modality.name] = column if present_N.all() else column.masked(present_N)
        present.append(present_N)
    present_NM = torch.stack(present, 1)
    if not present_NM.any(1).all():
        lone = ids[int((~present_NM.any(1)).nonzero()[0])]
        raise MmeqError(f"{source}: sample {lone!r} has no modality at all: leave it out")
    return Manifest(
        spec=DatasetSpec(
            spec.name, source, spec.classes, spec.modalities, complete=bool(present_NM.all())
        ),
        ids=ids,
        labels=_labels(arrays, spec.classes, count, source),
        split=np.full(count, TEST),
        columns=columns,
        present=present_NM,
    )


def _ids(arrays: Arrays, count: int, source: str) -> list[str]:
    """Names of the samples: as given, or their places."""
    ids = [str(one) for one in arrays["ids"].tolist()] if "ids" in arrays else []
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise MmeqError(f"{source}: the id {twice!r} occurs more than once")
    return ids or [str(n) for n in range(count)]


def _labels(arrays: Arrays, classes: tuple[str, ...], count: int, source: str) -> Tensor:
    """int64 [N]; -1 where unknown."""
    if "labels" not in arrays:
        return torch.full((count,), UNKNOWN)
    given = arrays["labels"]
    if given.dtype.kind == "U":
        names = [str(name) for name in classes]
        for label in given.tolist():
            if label not in names:
                raise MmeqError(
                    f"{source}: the label {label!r} is no class of the run"
                    + did_you_mean(label, names)
                )
        given = np.array([names.index(label) for label in given.tolist()])
    if given.dtype.kind not in "iu" or given.ndim != 1:
        raise MmeqError(
            f"{source}: 'labels' is {given.dtype} {list(given.shape)}: give class names, or whole "
            f"numbers [N] from 0 to {len(classes) - 1} with -1 for unknown"
        )
    given = given.astype(np.int64)
    if ((given < UNKNOWN) | (given >= len(classes))).any():
        wrong = int(given[(given < UNKNOWN) | (given >= len(classes))][0])
        raise MmeqError(
            f"{source}: the label {wrong} is outside 0 to {len(classes) - 1} (-1: unknown)"
        )
    return torch.from_numpy(given)


def _column(
    modality: Modality, arrays: Arrays, ids: list[str], source: str
) -> tuple[Column, Tensor]:
    """A modality's column, and bool [N] of the samples that have it."""
    name, kind, count = modality.name, modality.kind, len(ids)
    if kind not in KINDS:
        raise MmeqError(
            f"{source}: modality {name!r} is of kind {kind}, which arrays cannot give: give a "
            f"table of files with a column {name!r} (data=mine.csv, see --help)"
        )
    present_N = _flags(arrays, name, count, source)
    if name not in arrays:
        for suffix in SUFFIXES:
            if name + suffix in arrays:
                raise MmeqError(f"{source}: there is {name + suffix!r}, but no {name!r}")
        return absent_column(modality, count), torch.zeros(count, dtype=torch.bool)
    array = arrays[name]
    if kind == "text":
        if array.dtype.kind != "U" or array.ndim != 1:
            raise _shape(source, name, array, "text of a fixed width (dtype=str) [N]")
        return TextColumn([str(text) for text in array.tolist()]), present_N
    if kind == "image":
        if array.dtype != np.uint8 or tuple(array.shape[1:]) != modality.shape:
            raise _shape(source, name, array, f"uint8 [N, {', '.join(map(str, modality.shape))}]")
        return ImageColumn(torch.from_numpy(array)), present_N
    rank, width = (2, "N, ") if kind == "vector" else (3, "N, T, ")
    if array.dtype.kind not in "fiu" or array.ndim != rank or array.shape[-1] != modality.shape[-1]:
        raise _shape(source, name, array, f"numbers [{width}{modality.shape[-1]}]")
    values = torch.from_numpy(array.astype(np.float32))
    if kind == "vector":
        return _numbers(VectorColumn(values), values.isnan().all(1), present_N, ids, name, source)
    length_N = _lengths(arrays, name, array.shape, source)
    valid_NT1 = (torch.arange(array.shape[1]) < length_N[:, None])[:, :, None]
    values = torch.where(valid_NT1, values, 0.0)  # what stands in the padding never counts
    nothing_N = (values.isnan() | ~valid_NT1).flatten(1).all(1)
    return _numbers(SequenceColumn(values, length_N), nothing_N, present_N, ids, name, source)


def _numbers(
    column: Column, nothing_N: Tensor, present_N: Tensor, ids: list[str], name: str, source: str
) -> tuple[Column, Tensor]:
    """Take samples of NaN alone for absent, and refuse the half broken ones."""
    present_N = present_N & ~nothing_N
    broken_N = present_N & ~column.finite()
    if broken_N.any():
        raise MmeqError(
            f"{source}: sample {ids[int(broken_N.nonzero()[0])]!r} holds NaN or an infinity in "
            f"modality {name!r} (all of it NaN: the sample lacks it)"
        )
    return column.masked(present_N), present_N


def _flags(arrays: Arrays, name: str, count: int, source: str) -> Tensor:
    flags = arrays.get(f"{name}_present")
    if flags is None:
        return torch.ones(count, dtype=torch.bool)
    if flags.dtype != np.bool_ or flags.ndim != 1:
        raise _shape(source, f"{name}_present", flags, "bool [N]")
    return torch.from_numpy(flags)


def _lengths(arrays: Arrays, name: str, shape: tuple[int, ...], source: str) -> Tensor:
    length = arrays.get(f"{name}_length")
    if length is None:
        return torch.full((shape[0],), shape[1])
    whole = length.dtype.kind in "iu" and length.ndim == 1
    if not whole or (length < 0).any() or (length > shape[1]).any():
        raise _shape(source, f"{name}_length", length, f"whole numbers [N] from 0 to {shape[1]}")
    return torch.from_numpy(length.astype(np.int64))


def absent_column(modality: Modality, count: int) -> Column:
    """Return the column of a modality that none of so many samples has; no media."""
    if modality.kind == "text":
        return TextColumn([""] * count)
    if modality.kind == "image":
        return ImageColumn(torch.zeros(count, *modality.shape, dtype=torch.uint8))
    zeros = torch.zeros(count, *modality.shape)
    if modality.kind == "vector":
        return VectorColumn(zeros)
    return SequenceColumn(zeros, torch.zeros(count, dtype=torch.int64))


def _shape(source: str, name: str, array: np.ndarray, wanted: str) -> MmeqError:
    return MmeqError(f"{source}: {name!r} is {array.dtype} {list(array.shape)}: give {wanted}")
