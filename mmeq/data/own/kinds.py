"""Which columns of a table are modalities, and of which kind: as told, else by their cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mmeq.data.options import choose
from mmeq.data.own.npy import array_kind
from mmeq.data.own.table import Cells, Table
from mmeq.data.spec import KINDS
from mmeq.errors import MmeqError, did_you_mean

ENDINGS = {
    "audio": "wav mp3 flac ogg oga opus m4a aac wma aif aiff",
    "video": "mp4 m4v mov avi mkv webm flv wmv mpg mpeg 3gp ogv",
    "image": "jpg jpeg png bmp gif webp tif tiff",
    "array": "npy",
}
KIND_OF = {ending: kind for kind, endings in ENDINGS.items() for ending in endings.split()}
FILES = ("audio", "video", "image", "vector", "sequence")
"""Kinds whose cells are paths (a vector may also be given by columns of numbers)."""
_LONGEST = 1 + max(map(len, KIND_OF))
LOOKS = 3
"""Cells of a text column that are compared with files."""

Find = Callable[[str, int], Any]
"""Cell and row (from 0) → path and name, see `Folder.find`."""


@dataclass(frozen=True)
class Source:
    """Where the samples of one modality stand.

    Attributes:
        kind: one of `KINDS`.
        column: of paths or texts; None: a vector of `numbers`.
        numbers: columns of numbers.
    """

    kind: str
    column: str | None = None
    numbers: tuple[str, ...] = ()


@dataclass
class Plan:
    """Modalities of a table.

    Attributes:
        sources: modality → source, in the order of the columns, vectors of numbers last.
        numbers: columns of numbers that are no modality.
        empty: columns without a cell.
        unchosen: columns that were not looked at.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unchosen: list[str] = field(default_factory=list)

    def left_out(self) -> str:
        """Say which columns are no modality, and what makes one of them."""
        said = []
        if self.numbers:
            names = ", ".join(map(_shown, self.numbers))
            said.append(f"{names} (numbers; dataset.vectors={{name: [{names}]}} takes them)")
        said += [f"{_shown(name)} (empty)" for name in self.empty]
        return ", ".join(said)

    def check(self, dataset: str, wanted: Sequence[str]) -> None:
        """Refuse to choose what is no modality; of a column, say why it is none."""
        for name in wanted:
            if name in self.numbers and name not in self.sources:
                raise MmeqError(
                    f"dataset.modalities: column {name!r} holds numbers: give "
                    f"dataset.kinds={{{name}: vector}} (or {{{name}: text}})"
                )
            if name in self.empty:
                raise MmeqError(f"dataset.modalities: column {name!r} is empty in every row")
        choose(dataset, wanted, [*self.sources, *self.unchosen])


def plan(
    table: Table,
    taken: Sequence[str],
    kinds: Mapping[str, Any],
    vectors: Mapping[str, Sequence[str]],
    wanted: Sequence[str] | None,
    find: Find,
) -> Plan:
    """Find the modalities of a table.

    Args:
        table: any.
        taken: columns that are id, label, split or group; no modality unless `kinds` names them.
        kinds: column → kind; → kinds, for a file with several tracks (modalities
            ``<column>_<kind>``); → {modality: kind}, which also names them.
        vectors: modality → columns of numbers.
        wanted: modalities that were chosen; other columns are not looked at. None: all.
        find: path of a cell.

    Raises:
        MmeqError: names option, column and rows.
    """
    told = {str(column): _told(str(column), kind) for column, kind in kinds.items()}
    _check_columns("dataset.kinds", told, table)
    made, parts = _vectors(vectors, table)
    found = Plan()
    for name, cells in table.columns.items():
        if name not in told and (name in taken or name in parts):
            continue
        if wanted is not None and name not in told and name not in wanted:
            found.unchosen.append(name)
        elif not any(cell is not None for cell in cells):
            if name in told:
                raise MmeqError(f"dataset.kinds: column {name!r} is empty in every row")
            found.empty.append(name)
        elif name in told:
            for modality, kind in told[name].items():
                plain = kind == "vector" and _numbers(cells)
                source = Source(kind, None, (name,)) if plain else Source(kind, name)
                _add(found, modality, source)
        elif (inferred := _inferred(name, cells, table, find)) is None:
            found.numbers.append(name)
        else:
            _add(found, name, Source(inferred, name))
    for name, source in made.items():
        _add(found, name, source)
    if not found.sources and wanted is None:
        raise MmeqError(
            f"{table.path.name} has no column that could be a modality beside "
            + ", ".join(dict.fromkeys(taken))
            + (f"; left out: {found.left_out()}" if found.left_out() else "")
        )
    return found


def _shown(name: str) -> str:
    return name or "''"


def _told(column: str, kind: Any) -> dict[str, str]:  # noqa: ANN401 - any YAML value
    """Modality → kind, as the option says of a column."""
    if isinstance(kind, Mapping):
        out = {str(name): str(one) for name, one in kind.items()}
    elif isinstance(kind, str):
        out = {column: kind}
    else:
        listed = [str(one) for one in kind] if isinstance(kind, Sequence) else []
        out = {f"{column}_{one}": one for one in listed}
    if not out:
        raise MmeqError(
            f"dataset.kinds.{column}={kind!r}: give a kind ({', '.join(KINDS)}), a list of kinds, "
            "or {modality: kind}"
        )
    for one in out.values():
        if one not in KINDS:
            raise MmeqError(
                f"dataset.kinds.{column}: there is no kind {one!r}" + did_you_mean(one, KINDS)
            )
    return out


def _vectors(
    vectors: Mapping[str, Sequence[str]], table: Table
) -> tuple[dict[str, Source], set[str]]:
    """Sources of the option ``vectors``, and all their columns."""
    made: dict[str, Source] = {}
    for name, columns in vectors.items():
        if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
            raise MmeqError(
                f"dataset.vectors.{name}={columns!r}: give a list of columns of numbers"
            )
        numbers = tuple(str(column) for column in columns)
        _check_columns(f"dataset.vectors.{name}", numbers, table)
        made[str(name)] = Source("vector", None, numbers)
    return made, {column for source in made.values() for column in source.numbers}


def _check_columns(option: str, names: Mapping[str, Any] | Sequence[str], table: Table) -> None:
    for name in names:
        if name not in table.columns:
            raise MmeqError(
                f"{option}: {table.path.name} has no column {name!r}"
                + did_you_mean(name, table.columns)
            )


def _add(found: Plan, modality: str, source: Source) -> None:
    """Take a modality in, if it has a name that all of mmeq can live with."""
    # modules, files of figures and names of coalitions are called by it
    sound = re.fullmatch(r"\w[\w -]*", modality) and modality != "none"
    if not sound or hasattr(nn.ModuleDict(), modality):
        column = source.column or source.numbers[0]
        raise MmeqError(
            f"{modality!r} cannot be the name of a modality (letters, digits, _ and -; no word of "
            f"torch's own): rename the column, or name it by dataset.kinds={{'{column}': "
            f"{{my_name: {source.kind}}}}}"
        )
    if modality in found.sources:
        raise MmeqError(f"two modalities would be called {modality!r}: name them by dataset.kinds")
    found.sources[modality] = source


def _inferred(name: str, cells: Cells, table: Table, find: Find) -> str | None:
    """Kind of a column by its cells; None: numbers."""
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for row, cell in enumerate(cells):
        if cell is not None:
            kind = _kind_of(cell)
            count[kind] = count.get(kind, 0) + 1
            first.setdefault(kind, row)
    if len(count) > 1:
        seen = "; ".join(
            f"{number} like {kind} ({table.place(first[kind])}: {str(cells[first[kind]])[:60]!r})"
            for kind, number in sorted(count.items(), key=lambda item: -item[1])
        )
        most = max(count, key=lambda kind: count[kind])
        raise MmeqError(
            f"column {name!r} has cells of several kinds: {seen}; correct them, or say what it is, "
            f"e.g. dataset.kinds={{'{name}': {'vector' if most == 'array' else most}}}"
        )
    (kind,) = count
    if kind == "array":
        return _rank(name, cells, find)
    if kind == "text":
        if _numbers(cells):
            return None
        _refuse_files(name, cells, table, find)
    return kind


def _kind_of(cell: str) -> str:
    tail = cell[-_LONGEST:]
    dot = tail.rfind(".")
    return "text" if dot < 0 else KIND_OF.get(tail[dot + 1 :].lower(), "text")


def _rank(name: str, cells: Cells, find: Find) -> str:
    """Vector or sequence, by the first array file that is there."""
    lost = None
    for row, cell in enumerate(cells):
        if cell is not None:
            place = find(cell, row)
            try:
                return array_kind(place)
            except (FileNotFoundError, NotADirectoryError):
                lost = lost or place[0]
    raise MmeqError(
        f"column {name!r}: none of its files is there (the first: {lost}); data_root=… is the "
        "folder that paths start from, else it is that of the table"
    )


def _numbers(cells: Cells) -> bool:
    try:
        for cell in cells:
            if cell is not None:
                float(cell)
    except ValueError:
        return False
    return True


def _refuse_files(name: str, cells: Cells, table: Table, find: Find) -> None:
    """Refuse a column of paths of files that no kind is known for: it is no text."""
    rows = [row for row, cell in enumerate(cells) if cell is not None][:LOOKS]
    for row in rows:
        cell = cells[row] or ""
        if len(cell) > 200 or "\n" in cell or "." not in cell:
            return
        try:
            place = find(cell, row)
        except MmeqError:
            return
        if not place[0].is_file():
            return
    raise MmeqError(
        f"column {name!r} names files of an unknown ending ({table.place(rows[0])}: "
        f"{cells[rows[0]]!r}); say what they are by dataset.kinds={{'{name}': audio}} (or video, "
        "image); a text stands in the table itself, an array in a .npy file"
    )
