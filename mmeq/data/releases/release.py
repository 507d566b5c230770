"""What loaders of official releases share: label files by line, parts that are given."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmeq.data.manifest import PARTS, TRAIN
from mmeq.data.split import shrink
from mmeq.errors import MmeqError


def text_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 label file, without ends of line; the first is line 1.

    A file without any line feed has its lines ended by carriage returns, as old Mac programs do.

    Raises:
        MmeqError: when there is no such file, or a line is not UTF-8; names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MmeqError(f"{path} cannot be read: {error.strerror or error}") from error
    lines, end = [], b"\n" if b"\n" in data else b"\r"
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(end), 1):
        try:
            lines.append(line.decode("utf-8").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise MmeqError(f"{path}, line {number}: not UTF-8 text ({error.reason})") from error
    return lines


def entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted by name.

    Raises:
        MmeqError: when it is no folder or cannot be read; names it.
    """
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise MmeqError(f"{folder} cannot be read: {error.strerror or error}") from error


def csv_rows(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of a CSV file; empty lines are passed over.

    Args:
        path: of the file.
        columns: how many cells a row has.

    Raises:
        MmeqError: names file and line of a row that has another number of cells.
    """
    reader = csv.reader((line + "\n" for line in text_lines(path)), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise MmeqError(f"{path}, line {first}: no CSV: {error}") from error
        if row is None:
            return
        if not row or row == [""]:
            continue
        if len(row) != columns:
            raise MmeqError(
                f"{path}, line {first}: {len(row)} columns, expected {columns}: {row[0]!r}"
            )
        yield first, row


def finish(
    dataset: str,
    split: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    train_size: int | None,
    seed: int,
) -> str:
    """Shrink the train part in place, and refuse an empty part; return words for the protocol.

    A copy of the release that lacks whole classes is let through: the parts' classes are told when
    the data are set up.

    Args:
        dataset: its name.
        split: the part of each sample [N].
        labels: int [N].
        classes: C names.
        train_size: keep so many training samples, stratified; None keeps all.
        seed: of that draw.

    Raises:
        MmeqError: when a part is empty or the size does not fit.
    """
    for part in PARTS:
        if not (split == part).any():
            raise MmeqError(f"dataset {dataset!r}: the {part} part is empty ({len(split)} samples)")
    if train_size is None:
        return ""
    here = np.unique(labels[split == TRAIN])
    dense = np.searchsorted(here, labels)
    dense[~np.isin(labels, here)] = 0
    shrink(split, dense, [classes[label] for label in here.tolist()], train_size, seed)
    return f" train_size={train_size}"
