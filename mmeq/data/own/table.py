"""Tables that people bring: CSV, JSON Lines or Parquet, read into columns with line numbers."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmeq.errors import MmeqError, did_you_mean

Cells = list[str | None]
"""N texts without white space around them; None where the table has nothing."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Table:
    """Rows of a file, by column.

    Attributes:
        path: of the file.
        columns: name → N cells.
        numbers: N places in the file, counted from 1.
        unit: what they count: line (where a row begins), or row where the file has no lines.
        delimiter: between the cells of a CSV.
    """

    path: Path
    columns: dict[str, Cells]
    numbers: Sequence[int]
    unit: str = "line"
    delimiter: str | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Return ``"my.csv, line 7"`` for a row (from 0)."""
        return f"{self.path.name}, {self.unit} {self.numbers[row]}"


def read_table(path: str | Path, marks: Sequence[str] = (), option: str = "dataset.path") -> Table:
    """Read a table; the last ones are remembered until the file changes.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.parquet`` or ``.pq``. A CSV has a
            header, is UTF-8 and divides its cells by one of `DELIMITERS`.
        marks: names of columns that are expected; they tell which delimiter a CSV has.
        option: that named it, for messages.

    Raises:
        MmeqError: names file, line and what would be right.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise MmeqError(f"{option}={path}: there is no such file")
    if path.suffix.lower() not in _READERS:
        raise MmeqError(
            f"{option}={path.name}: a table is read from a file ending in one of "
            f"{', '.join(_READERS)}{did_you_mean(path.suffix, _READERS).split(' (')[0]}"
        )
    stat = path.stat()
    try:
        return _remembered(path, stat.st_mtime_ns, stat.st_size, tuple(marks))
    except PermissionError as error:
        raise MmeqError(f"{option}={path}: may not be read") from error


@functools.lru_cache(maxsize=2)
def _remembered(path: Path, changed: int, size: int, marks: tuple[str, ...]) -> Table:
    table = _READERS[path.suffix.lower()](path, marks)
    if not len(table):
        raise MmeqError(f"{path.name} has no rows")
    return table


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise MmeqError(
            f"{path.name} is no UTF-8 text (UTF-16, or no text at all): save it as UTF-8"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the mark that utf-8-sig takes off is not counted in the error's offset
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise MmeqError(
            f"{path.name}, line {line} is not UTF-8 (byte 0x{data[start]:02x}): save the table as "
            "UTF-8"
        ) from error


def _csv(path: Path, marks: Sequence[str]) -> Table:
    text = _text(path)
    tab = path.suffix.lower() == ".tsv"
    delimiter = "\t" if tab else _delimiter(path, text, marks)
    rows = _records(path, text, delimiter)
    names = _unique(path, [name.strip() for name in next(rows, (0, []))[1]])
    if not names:
        raise MmeqError(f"{path.name} is empty: give a header and rows")
    numbers, kept = [], []
    for line, cells in rows:
        if len(cells) != len(names):
            raise MmeqError(
                f"{path.name}, line {line} has {len(cells)} cells, the header has {len(names)} "
                f"(divided by {DELIMITERS[delimiter]}); a cell that holds one of these stands in "
                'quotation marks: "…"'
            )
        numbers.append(line)
        kept.append(cells)
    columns: dict[str, Cells] = {
        name: [cells[place].strip() or None for cells in kept] for place, name in enumerate(names)
    }
    return Table(path, columns, numbers, delimiter=delimiter)


def _delimiter(path: Path, text: str, marks: Sequence[str]) -> str:
    """Return the delimiter under which the header has most of the expected names, or most names."""
    headers = {}
    for one in DELIMITERS:
        try:
            cells = next(_records(path, text, one), (0, []))[1]
        except MmeqError:  # quotation marks that make no sense under this delimiter
            cells = []
        names = [cell.strip() for cell in cells]
        headers[one] = (sum(mark in names for mark in marks), len(names))
    return max(headers, key=lambda one: headers[one])


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line where a record begins, and its cells; empty lines are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise MmeqError(
                f"{path.name}, line {begins} has a cell of more than {csv.field_size_limit()} "
                "characters: is a quotation mark not closed? (so long a text can stand in a .jsonl "
                "or .parquet file)"
            ) from error
        raise MmeqError(
            f"{path.name}, line {begins}: {error}; is a quotation mark not closed, or not doubled "
            'within a cell ("")?'
        ) from error


def _unique(path: Path, names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            what = repr(name) if name else "without a name"
            raise MmeqError(f"{path.name} has more than one column {what}")
    return names


def _jsonl(path: Path, marks: Sequence[str]) -> Table:
    columns: dict[str, Cells] = {}
    numbers: list[int] = []
    # not splitlines: JSON strings may hold other ends of line, such as U+2028
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        where = f"{path.name}, line {line}"
        try:
            record = json.loads(text, object_pairs_hook=tuple)
        except (ValueError, RecursionError) as error:
            raise MmeqError(f"{where} is no JSON: {error}") from error
        if not text.lstrip().startswith("{"):
            raise MmeqError(f'{where} is no object: give {{"label": …, …}} on each line')
        names = [name for name, _ in record]
        if len(set(names)) < len(names):
            raise MmeqError(f"{where} gives one name twice ({', '.join(names)})")
        for name, value in record:
            cells = columns.setdefault(name.strip(), [])
            cells += [None] * (len(numbers) - len(cells))
            cells.append(_cell(value, where, name))
        numbers.append(line)
    for cells in columns.values():
        cells += [None] * (len(numbers) - len(cells))
    return Table(path, columns, numbers)


def _parquet(path: Path, marks: Sequence[str]) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        # one file as it is, not a folder of parts named key=value
        stored = parquet.ParquetFile(path).read()
    except PermissionError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise MmeqError(f"{path.name} is no sound Parquet file: {error}") from error
    columns: dict[str, Cells] = {}
    names = _unique(path, [str(name).strip() for name in stored.column_names])
    for name, column in zip(names, stored.columns, strict=True):
        columns[name] = [
            value if value is None else _cell(value, f"{path.name}, row {row}", name)
            for row, value in enumerate(column.to_pylist(), 1)
        ]
    return Table(path, columns, range(1, stored.num_rows + 1), unit="row")


def _cell(value: Any, where: str, name: str) -> str | None:  # noqa: ANN401 - any JSON value
    """Return a typed value as text; NaN is what pandas writes for nothing."""
    if isinstance(value, list | dict | tuple | bytes):
        kinds = {list: "a list", bytes: "bytes"}  # a JSON object is read as a tuple of pairs
        what = kinds.get(type(value), "an object")
        raise MmeqError(
            f"{where}: {name!r} holds {what}, expected a text or a number (an "
            "array stands in a file of its own: .npy)"
        )
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value).strip()
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise MmeqError(
            f"{where}: {name!r} holds half a character (a lone surrogate), which UTF-8 has not"
        )
    return text or None


_READERS: dict[str, Callable[[Path, Sequence[str]], Table]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".pq": _parquet,
}
ENDINGS = tuple(_READERS)
"""Of the files that are tables."""
