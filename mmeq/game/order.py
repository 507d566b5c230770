"""Orders of modalities: how alike two are, and which comes next.

Legend: M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmeq.errors import MmeqError


def kendall_tau(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    r"""Kendall's rank correlation between two orders of the same items.

    :math:`\tau = (\text{pairs in the same order} - \text{pairs in the opposite order}) /
    \binom{M}{2}`; 1 for equal orders, -1 for reversed ones, 1 by definition for M = 1. The
    arguments are orders (which item comes first, second, ...), not score vectors.

    Args:
        a: an order, each item once.
        b: another order of the same items.

    Raises:
        MmeqError: if the two do not hold the same items, each once.

    Examples:
        >>> kendall_tau((0, 1, 2), (0, 2, 1))
        0.3333333333333333
    """
    place = {item: position for position, item in enumerate(b)}
    if len(place) != len(b) or len(a) != len(b) or set(a) != set(place) or not a:
        raise MmeqError(f"kendall_tau needs two orders of the same items, got {a!r} and {b!r}")
    if len(a) == 1:
        return 1.0
    same = sum(1 if place[x] < place[y] else -1 for x, y in combinations(a, 2))
    return same / math.comb(len(a), 2)


def _floats(data: Tensor | Sequence[float]) -> list[float]:
    return [float(x) for x in (data.tolist() if isinstance(data, Tensor) else data)]


def next_order(
    scores: Tensor | Sequence[float],
    current: Sequence[int],
    gap_se: Tensor | Sequence[Sequence[float]] | None = None,
    z: float = 0.0,
) -> tuple[int, ...]:
    r"""Order modalities by ascending score [paper], starting from the current order.

    Neighbours i, j swap only if :math:`s_i - s_j > z \cdot \mathrm{se}_{ij}` (hysteresis [ours]),
    in passes from left to right until none does. Ties keep their current order; without
    ``gap_se`` or with z = 0 it is the stable sort. Swaps never reach over a neighbour that stays.

    Args:
        scores: real [M], such as Shapley values.
        current: the order so far, a permutation of 0..M-1.
        gap_se: real [M, M], standard errors of the score differences.
        z: how many standard errors a gap must exceed, >= 0.

    Returns:
        The next order, weakest first.

    Raises:
        MmeqError: if current is no permutation, lengths differ, a number is not finite, or z or a
            standard error is negative.

    Examples:
        >>> next_order([0.3, 0.1, 0.2], (0, 1, 2))
        (1, 2, 0)
        >>> next_order([0.3, 0.29], (0, 1), gap_se=[[0, 0.05], [0.05, 0]], z=1.0)
        (0, 1)
    """
    score = _floats(scores)
    order = [int(m) for m in current]
    count = len(score)
    if sorted(order) != list(range(count)):
        raise MmeqError(f"order {tuple(current)} is no permutation of 0..{count - 1}")
    if not all(math.isfinite(s) for s in score):
        raise MmeqError(f"cannot order by scores that are not finite: {score}")
    if not (math.isfinite(z) and z >= 0):
        raise MmeqError(f"z must be a number >= 0, got {z}")
    margin = [[0.0] * count for _ in range(count)]
    if gap_se is not None:
        margin = [[z * se for se in _floats(row)] for row in gap_se]
        if [len(row) for row in margin] != [count] * count:
            raise MmeqError(f"gap_se must be a {count} x {count} matrix")
        if not all(math.isfinite(x) and x >= 0 for row in margin for x in row):
            raise MmeqError("gap_se must hold finite numbers >= 0")
    # Each swap removes one inversion of the scores, so the passes come to an end.
    swapped = True
    while swapped:
        swapped = False
        for k in range(count - 1):
            i, j = order[k], order[k + 1]
            if score[i] - score[j] > margin[i][j]:
                order[k], order[k + 1] = j, i
                swapped = True
    return tuple(order)


def random_order(count: int, seed: int) -> tuple[int, ...]:
    """Draw an order of so many modalities, each as likely as any other."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(count, generator=generator).tolist())
