"""What a table says of its rows beside modalities: roles of columns, classes, parts.

Shape suffixes: N samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmeq.data.manifest import PARTS, TEST, TRAIN, UNUSED, VALIDATION
from mmeq.data.own.table import Cells, Table
from mmeq.data.split import Split, carve, shrink
from mmeq.errors import MmeqError, did_you_mean

ROLES = ("id", "label", "split", "group")
NOTHING = "nan"
SYNONYMS = {
    **{name: TRAIN for name in ("train", "training")},
    **{name: VALIDATION for name in ("validation", "val", "valid", "dev", "eval")},
    **{name: TEST for name in ("test", "testing")},
    UNUSED: UNUSED,
}


def roles_of(table: Table, columns: Mapping[str, str | None]) -> dict[str, str]:
    """Return role → column, of the roles that the table has.

    Args:
        table: any.
        columns: role → name of its column, where it is another; None: there is none.

    Raises:
        MmeqError: for an unknown role or column, and a table without labels.
    """
    for role in columns:
        if role not in ROLES:
            raise MmeqError(
                f"dataset.columns: there is no role {role!r}" + did_you_mean(str(role), ROLES)
            )
    roles = {}
    for role in ROLES:
        name = columns.get(role, role)
        if name is not None and str(name) in table.columns:
            roles[role] = str(name)
        elif name is not None and role in columns:
            raise MmeqError(
                f"dataset.columns.{role}: {table.path.name} has no column {name!r}"
                + did_you_mean(str(name), table.columns)
            )
    if "label" not in roles:
        raise MmeqError(
            f"{table.path.name} has no column 'label'{did_you_mean('label', table.columns)}; say "
            "which one has the classes by dataset.columns={label: …}"
        )
    return roles


def whole(table: Table, column: str, what: str) -> list[str]:
    """Return a column that must have a cell in every row.

    Raises:
        MmeqError: names the first row without one.
    """
    cells = table.columns[column]
    for row, cell in enumerate(cells):
        if cell is None:
            empty = sum(cell is None for cell in cells)
            raise MmeqError(
                f"{table.place(row)}: the {what} (column {column!r}) is empty"
                + (f", as in {empty - 1} more rows" if empty > 1 else "")
            )
    return [cell for cell in cells if cell is not None]


def names_of(table: Table, column: str | None) -> list[str]:
    """Return the names of the rows: of a column, or else their numbers from 1.

    Raises:
        MmeqError: names the row that has none, or that of another row.
    """
    if column is None:
        return [str(row) for row in range(1, len(table) + 1)]
    names = whole(table, column, "id")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in first:
            raise MmeqError(
                f"{table.place(row)}: the id {name!r} is that of {table.unit} "
                f"{table.numbers[first[name]]} too"
            )
        first[name] = row
    return names


def classes_of(
    table: Table, column: str, wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the classes, and the label int64 [N] of every row.

    Args:
        table: any.
        column: of class names.
        wanted: classes in order; None: those found, sorted, by value when all are finite
            numbers.

    Raises:
        MmeqError: for an empty cell, one that says ``nan`` (what pandas writes for nothing) unless
            it is wanted, a class that is not wanted, and fewer than two classes.
    """
    names = whole(table, column, "label")
    nothing = {name for name in names if name.lower() == NOTHING} - set(wanted or ())
    if lost := [row for row, name in enumerate(names) if name in nothing]:
        raise MmeqError(
            f"{table.place(lost[0])}: the label (column {column!r}) is {names[lost[0]]!r}, which "
            "stands for nothing"
            + (f", as in {len(lost) - 1} more rows" if len(lost) > 1 else "")
            + "; a class of this name is taken by dataset.classes"
        )
    if wanted is None:
        classes = _in_order(set(names))
    else:
        classes = tuple(wanted)
        twice = [name for name in classes if classes.count(name) > 1]
        if twice:
            raise MmeqError(f"dataset.classes: {twice[0]!r} is given twice")
    number = {name: label for label, name in enumerate(classes)}
    for row, name in enumerate(names):
        if name not in number:
            raise MmeqError(
                f"{table.place(row)}: the label {name!r} is none of dataset.classes"
                + did_you_mean(name, classes)
            )
    if len(classes) < 2:
        raise MmeqError(
            f"column {column!r} of {table.path.name} has one class alone ({names[0]!r}): nothing "
            "could be learnt"
        )
    return classes, np.array([number[name] for name in names], dtype=np.int64)


def _in_order(names: set[str]) -> tuple[str, ...]:
    try:
        value = {name: float(name) for name in names}
    except ValueError:
        return tuple(sorted(names))
    if not all(map(math.isfinite, value.values())):  # NaN has no place in an order
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (value[name], name)))


def made(
    table: Table,
    split: Split,
    labels: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str] | None,
) -> np.ndarray:
    """Cut the rows, see `Split.assign`.

    Raises:
        MmeqError: for a class with fewer rows than there are parts.
    """
    count_C = np.bincount(labels, minlength=len(classes))
    few = [label for label in range(len(classes)) if count_C[label] < len(PARTS)]
    if few:
        rows = np.flatnonzero(labels == few[0]).tolist()
        where = f" ({', '.join(table.place(row) for row in rows)})" if rows else ""
        more = f", and {len(few) - 1} more classes have too few" if len(few) > 1 else ""
        raise MmeqError(
            f"class {classes[few[0]]!r} has {len(rows)} of the {len(PARTS)} samples or more that "
            f"a split into {', '.join(PARTS)} needs{where}{more}; give a column 'split', or leave "
            "the class out"
        )
    if groups is not None and len(set(groups)) < len(PARTS):
        raise MmeqError(
            f"{table.path.name} has {len(set(groups))} groups, and a split that keeps them whole "
            f"needs {len(PARTS)} or more; dataset.grouped=false tears them (results will flatter)"
        )
    return split.assign(labels, classes, groups)


def given(
    table: Table,
    column: str,
    split: Split,
    labels: np.ndarray,
    classes: Sequence[str],
    validation: float,
    groups: Sequence[str] | None,
) -> tuple[np.ndarray, str]:
    """Return the parts as a column names them, and the protocol in words.

    Args:
        table: any.
        column: of parts; upper and lower case, val, valid and dev, training and testing are the
            same; rows that are ``unused`` are left out.
        split: its seed and its size of the train part.
        labels: int64 [N].
        classes: C names.
        validation: share of the train part that is carved out where no row is of the validation
            part.
        groups: N names, to carve by whole groups; None: stratified.

    Raises:
        MmeqError: names the row of an unknown part, a part without rows, a class that the train
            part lacks.
    """
    cells = whole(table, column, "part")
    parts = np.array([_part(table, row, cell) for row, cell in enumerate(cells)], dtype="<U10")
    protocol = f"as given in {table.path.name}"
    for part in (TRAIN, TEST):
        if not (parts == part).any():
            found = ", ".join(sorted(set(cells)))
            raise MmeqError(
                f"column {column!r} of {table.path.name} has no row of the {part} part (it has: "
                f"{found}); dataset.columns={{split: null}} makes a split"
            )
    if not (parts == VALIDATION).any():
        carve(parts, labels, validation, split.seed, groups)
        way = "stratified" if groups is None else "grouped"
        protocol += (
            f", validation carved {100 * validation:g} % of train {way} split_seed={split.seed}"
        )
        if not (parts == VALIDATION).any():
            raise MmeqError(
                f"{table.path.name} has no validation part, and {validation:g} of its train part "
                "is less than a sample: enlarge dataset.validation"
            )
    count_C = np.bincount(labels[parts == TRAIN], minlength=len(classes))
    if not count_C.all():
        lost = [classes[label] for label in np.flatnonzero(count_C == 0).tolist()]
        raise MmeqError(
            f"{table.path.name} has no sample of class {', '.join(map(repr, lost))} in the train "
            "part: it could not be learnt"
        )
    shrink(parts, labels, classes, split.train_size, split.seed)
    if split.train_size is not None:
        protocol += f" train_size={split.train_size} split_seed={split.seed}"
    return parts, protocol


def _part(table: Table, row: int, cell: str) -> str:
    part = SYNONYMS.get(cell.lower())
    if part is None:
        raise MmeqError(
            f"{table.place(row)}: there is no part {cell!r}" + did_you_mean(cell.lower(), SYNONYMS)
        )
    return part


def telling(cells: Cells, labels: np.ndarray) -> bool:
    """Say whether few texts, each under one label alone, give the label away."""
    seen: dict[str, int] = {}
    for cell, label in zip(cells, labels.tolist(), strict=True):
        if cell is not None and seen.setdefault(cell, label) != label:
            return False
    return 1 < len(seen) <= int(labels.max(initial=0)) + 1 and len(cells) >= 2 * len(seen)
