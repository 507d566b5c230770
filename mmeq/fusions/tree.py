"""The coalition tree: which ordered prefixes a set of coalitions and orders needs, depth by depth.

Shape suffixes: S coalitions, M modalities, K orders, P prefixes of one depth.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mmeq.fusions.orders import Orders


@dataclass(frozen=True)
class Level:
    """All prefixes of one depth, batched.

    Attributes:
        parent_P: row of each prefix's parent in the level above (depth 1: zeros).
        last: the modality that each prefix adds.
        step_P: row in `Tree.pairs` of (modality before, modality added) (depth 1: zeros).
        mean_SP: how much each prefix counts in each coalition's mean over orders.
    """

    parent_P: Tensor
    last: tuple[int, ...]
    step_P: Tensor
    mean_SP: Tensor


@dataclass(frozen=True)
class Tree:
    """One walk.

    Attributes:
        levels: in order of depth.
        pairs: the distinct (before, added) pairs that occur in them.
        end_KS: the prefix at which each coalition ends under each order, counted over all levels.
    """

    levels: tuple[Level, ...]
    pairs: tuple[tuple[int, int], ...]
    end_KS: Tensor

    @property
    def cells(self) -> int:
        """Number of prefixes, the cost of the walk: M=3 hybrid 15, M=4 64."""
        return sum(len(level.last) for level in self.levels)


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
    rows = tuple(tuple(row) for row in coalitions_SM.tolist())
    return _plan(rows, orders, torch.device(device))


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # a plan made while testing must serve training too
def _plan(coalitions: tuple[tuple[bool, ...], ...], orders: Orders, device: torch.device) -> Tree:
    depth = max(sum(row) for row in coalitions)
    places: list[dict[tuple[int, ...], int]] = [{} for _ in range(depth)]
    ends: list[Counter[tuple[int, ...]]] = []
    for row in coalitions:
        end = Counter(tuple(m for m in order if row[m]) for order in orders)
        ends.append(end)
        for prefix in end:
            for k in range(len(prefix)):
                places[k].setdefault(prefix[: k + 1], len(places[k]))
    pairs: dict[tuple[int, int], int] = {}
    levels = []
    for k, level in enumerate(places):
        parents = [places[k - 1][prefix[:-1]] if k else 0 for prefix in level]
        steps = [pairs.setdefault(prefix[-2:], len(pairs)) if k else 0 for prefix in level]
        mean = torch.zeros(len(coalitions), len(level))
        for s, end in enumerate(ends):
            for prefix, count in end.items():
                if len(prefix) == k + 1:
                    mean[s, level[prefix]] = count / len(orders)
        levels.append(
            Level(
                parent_P=torch.tensor(parents, device=device),
                last=tuple(prefix[-1] for prefix in level),
                step_P=torch.tensor(steps, device=device),
                mean_SP=mean.to(device),
            )
        )
    first = [0, *itertools.accumulate(len(level) for level in places)]
    ends_KS = torch.empty(len(orders), len(coalitions), dtype=torch.int64)
    for k, order in enumerate(orders):
        for s, row in enumerate(coalitions):
            prefix = tuple(m for m in order if row[m])
            ends_KS[k, s] = first[len(prefix) - 1] + places[len(prefix) - 1][prefix]
    return Tree(tuple(levels), tuple(pairs), ends_KS.to(device))
