"""The coalition tree: which ordered prefixes a set of coalitions and orders needs, depth by depth.

Shape suffixes: S coalitions, M modalities, K orders, P prefixes of one depth, Q pairs, E ends:
prefixes of any depth at which a coalition ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmeq.fusions.moments import Pairs
from mmeq.fusions.orders import Orders

Rows = slice | Tensor
"""A stretch of rows, or any."""


class Level(NamedTuple):
    """All prefixes of one depth, batched.

    Attributes:
        inner_R: rows of the level above that go on: what a gate makes of a state is computed once
            for all that follow it.
        parent_P: row of each prefix's parent among these.
        step_P: row of (modality before, modality added) in the tree's pairs.
        end_E: rows of the prefixes at which a coalition ends.
    """

    inner_R: Rows
    parent_P: Rows
    step_P: Rows
    end_E: Rows


class Walk(NamedTuple):
    """What is computed. Which modality is which is told by tensors alone: orders share it.

    Attributes:
        levels: in order of depth.
        first_P: modalities of the prefixes of length one.
        before_Q: first modality of the distinct (before, added) pairs that occur in them.
        added_Q: second modality of these.
        widths: prefixes of each depth beyond the first, where each has a pair of its own, in the
            order of the pairs (as a single chain has); else None.
        present_SM: the coalitions, as numbers.
        end_KS: the end of each coalition under each order, counted over all levels.
        mean_SE: how much each end counts in each coalition's mean over orders; None where all
            orders agree about every coalition's end, which then is its only one.
    """

    levels: tuple[Level, ...]
    first_P: Tensor
    before_Q: Tensor
    added_Q: Tensor
    widths: tuple[int, ...] | None
    present_SM: Tensor
    end_KS: Tensor
    mean_SE: Tensor | None


class Tree(NamedTuple):
    """A planned walk.

    Attributes:
        walk: see there.
        pairs: the distinct (before, added) pairs, as `Walk.before_Q` and `added_Q` have them.
        cells: number of prefixes, the cost of the walk: M=3 hybrid 15, M=4 64.
    """

    walk: Walk
    pairs: Pairs
    cells: int


def coalition_tree(
    coalitions_SM: Tensor, orders: Orders, device: torch.device | str = "cpu"
) -> Tree:
    """Plan one walk that gives every coalition's representation under every order.

    The state after an ordered prefix (π_1..π_k) *is* the representation of the coalition
    {π_1..π_k} under that order [ours]. A coalition's prefix under π is π restricted to it; orders
    with the same restriction share it, and all prefixes that begin alike share their beginning.

    Args:
        coalitions_SM: bool [S, M] on the CPU, none empty.
        orders: orders to average over, each a permutation of 0..M-1.
        device: where the plan's index tensors go; plans are kept, so they are copied once.

    Examples:
        >>> every = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.bool)
        >>> coalition_tree(every, ((0, 1), (1, 0))).cells
        4
    """
    return _plan(_key(coalitions_SM), orders, torch.device(device))


def present_on(coalitions_SM: Tensor, device: torch.device) -> Tensor:
    """The coalitions as numbers, float32 [S, M], on a device; copied there once."""
    return _present(_key(coalitions_SM), device)


def _key(coalitions_SM: Tensor) -> tuple[tuple[bool, ...], ...]:
    return tuple(map(tuple, coalitions_SM.tolist()))


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _present(coalitions: tuple[tuple[bool, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(coalitions, dtype=torch.float32, device=device)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # a plan made while testing must serve training too
def _plan(coalitions: tuple[tuple[bool, ...], ...], orders: Orders, device: torch.device) -> Tree:
    depth = max(sum(row) for row in coalitions)
    ends = [[tuple(m for m in order if row[m]) for row in coalitions] for order in orders]
    places: list[dict[tuple[int, ...], int]] = [{} for _ in range(depth)]
    for end in itertools.chain.from_iterable(zip(*ends, strict=True)):
        for k in range(len(end)):
            places[k].setdefault(end[: k + 1], len(places[k]))
    pairs: dict[tuple[int, int], int] = {}
    used, levels, numbers = {end for each in ends for end in each}, [], dict[tuple[int, ...], int]()

    for k, level in enumerate(places):
        above = [places[k - 1][prefix[:-1]] if k else 0 for prefix in level]
        inner = sorted(set(above))
        parents = [inner.index(row) for row in above]
        steps = [
            pairs.setdefault((prefix[-2], prefix[-1]), len(pairs)) if k else 0 for prefix in level
        ]
        ending = [prefix for prefix in level if prefix in used]
        numbers.update(zip(ending, range(len(numbers), len(numbers) + len(ending)), strict=True))
        kinds = inner, parents, steps, [level[prefix] for prefix in ending]
        levels.append(Level(*(_rows(rows, device) for rows in kinds)))
    widths = tuple(map(len, places[1:]))
    end_KS = torch.tensor([[numbers[end] for end in each] for each in ends])
    mean_SE = None
    if not bool((end_KS == end_KS[:1]).all()):
        counts_SE = torch.zeros(len(coalitions), len(numbers))
        counts_SE.scatter_add_(1, end_KS.T, torch.ones(end_KS.T.shape))
        mean_SE = (counts_SE / len(orders)).to(device)
    walk = Walk(
        levels=tuple(levels),
        first_P=_indices([prefix[0] for prefix in places[0]], device),
        before_Q=_indices([before for before, _ in pairs], device),
        added_Q=_indices([added for _, added in pairs], device),
        widths=widths if sum(widths) == len(pairs) else None,
        present_SM=_present(coalitions, device),
        end_KS=end_KS.to(device),
        mean_SE=mean_SE,
    )
    return Tree(walk, tuple(pairs), sum(map(len, places)))


def _indices(rows: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _rows(rows: Sequence[int], device: torch.device) -> Rows:
    """A slice where they follow each other, which copies nothing."""
    start = rows[0] if rows else 0
    if list(rows) == list(range(start, start + len(rows))):
        return slice(start, start + len(rows))
    return _indices(rows, device)


def take(from_PBD: Tensor, rows: Rows) -> Tensor:
    """Rows of the first axis."""
    if isinstance(rows, slice):
        return from_PBD if rows == slice(0, len(from_PBD)) else from_PBD[rows]
    return from_PBD.index_select(0, rows)
