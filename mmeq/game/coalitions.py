"""Coalitions of modalities: their order, their indices and their names.

Legend: M modalities, V = 2^M coalitions (the empty one included).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mmeq.errors import MmeqError

MAX_MODALITIES = 12
"""Most modalities for which all 2^M coalitions are played; beyond it values must be estimated."""

EMPTY_NAME = "none"
"""Name of the empty coalition."""


def check_count(modalities: int) -> int:
    """Return the number of modalities if an exact game can be played with it.

    Args:
        modalities: number of modalities M.

    Raises:
        MmeqError: if M is no whole number in 1..12.
    """
    whole = isinstance(modalities, int) and not isinstance(modalities, bool)
    if not whole or not 1 <= modalities <= MAX_MODALITIES:
        raise MmeqError(
            f"the exact game needs between 1 and {MAX_MODALITIES} modalities, got {modalities!r}"
        )
    return modalities


def check_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the modality names as a tuple, if every coalition gets a name of its own from them.

    Args:
        modalities: names, in the order of the bits of a coalition's index.

    Raises:
        MmeqError: if there are too many names, one comes twice, is empty, holds ``+`` or is
            ``none``.
    """
    if isinstance(modalities, str):
        raise MmeqError(f"modalities must be a sequence of names, got the string {modalities!r}")
    names = tuple(str(name) for name in modalities)
    check_count(len(names))
    for name in names:
        if not name or "+" in name or name == EMPTY_NAME:
            raise MmeqError(
                f"modality name {name!r} would make coalition names ambiguous: "
                f"it must not be empty, not hold '+' and not be {EMPTY_NAME!r}"
            )
    if len(set(names)) < len(names):
        raise MmeqError(f"modality names must differ, got {', '.join(names)}")
    return names


def all_coalitions(modalities: int) -> Tensor:
    """List all coalitions in binary order: row r holds modality m iff bit m of r is set.

    Row 0 is the empty coalition, row 2^m is modality m alone, the last row holds all.

    Args:
        modalities: number of modalities M, at most 12.

    Returns:
        bool [V, M].

    Raises:
        MmeqError: if M is out of range.

    Examples:
        >>> all_coalitions(2).int().tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    rows_V = torch.arange(2 ** check_count(modalities))
    return (rows_V[:, None] >> torch.arange(modalities)) % 2 == 1


def coalition_index(members: Iterable[int]) -> int:
    """Return the row of the coalition with these members in `all_coalitions`.

    Args:
        members: positions of the modalities, in any order, each at most once.

    Raises:
        MmeqError: if a position is negative, or comes twice.

    Examples:
        >>> coalition_index([0, 2])
        5
        >>> coalition_index([])
        0
    """
    index = 0
    for member in members:
        if member < 0 or index >> member & 1:
            raise MmeqError(f"member {member} of a coalition is negative or comes twice")
        index |= 1 << member
    return index


def coalition_members(index: int, modalities: int) -> tuple[int, ...]:
    """Return the positions of the members of row ``index``, ascending.

    Args:
        index: row of `all_coalitions`.
        modalities: number of modalities M.

    Raises:
        MmeqError: if there is no such row.

    Examples:
        >>> coalition_members(5, 3)
        (0, 2)
    """
    if not 0 <= index < 2 ** check_count(modalities):
        raise MmeqError(f"coalition {index} is outside 0..{2**modalities - 1}")
    return tuple(m for m in range(modalities) if index >> m & 1)


def coalition_name(row: Tensor | Sequence[bool], names: Sequence[str]) -> str:
    """Name a coalition by its members, joined by ``+``; the empty one is ``none``.

    Args:
        row: bool [M], a row of `all_coalitions`.
        names: names of the M modalities.

    Raises:
        MmeqError: if row and names differ in length.

    Examples:
        >>> coalition_name([True, False, True], ["fou", "zer", "mor"])
        'fou+mor'
    """
    flags = row.tolist() if isinstance(row, Tensor) else list(row)
    if len(flags) != len(names):
        raise MmeqError(f"a coalition of {len(flags)} flags cannot be named by {len(names)} names")
    members = [name for flag, name in zip(flags, names, strict=True) if flag]
    return "+".join(members) or EMPTY_NAME


def coalition_names(names: Sequence[str]) -> list[str]:
    """Name all coalitions in binary order.

    Args:
        names: names of the M modalities.

    Raises:
        MmeqError: if the names do not fit (see `check_names`).

    Examples:
        >>> coalition_names(["a", "b"])
        ['none', 'a', 'b', 'a+b']
    """
    names = check_names(names)
    return [coalition_name(row, names) for row in all_coalitions(len(names)).tolist()]
