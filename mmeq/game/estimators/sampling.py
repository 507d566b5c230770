"""Pairs of a coalition and its complement, sampled without replacement by size.

Legend: M modalities, P pairs, H strata (sizes 1..M/2).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeq.game.estimators.base import Game

FOLDS = 4
"""Parts for cross-fitting: a stratum is complete, or has a pair in each of them."""


@dataclass(frozen=True)
class Pairs:
    """Sampled pairs {S, N - S}, |S| <= M/2, and the odd half of the game on them.

    Args:
        sign: +1 where a modality is in S, else -1, float64 [P, M].
        size: |S|, int64 [P]; the stratum.
        drawn: pairs drawn in that stratum, float64 [P].
        total: pairs that there are in that stratum, float64 [P].
        odd: (v(S) - v(N - S)) / 2, float64 [P].
    """

    sign: Tensor
    size: Tensor
    drawn: Tensor
    total: Tensor
    odd: Tensor

    def cov(self, term_PM: Tensor) -> Tensor:
        """Covariance of a sum of terms over a stratified sample without replacement.

        Sum over the strata h of (1 - n_h / N_h) n_h cov_h(terms), where the terms already carry
        their weight N_h / n_h (Cochran, Sampling Techniques, 5.9). Complete strata add nothing.
        Counts as P pairs, beside two more of the mean variance: few pairs may agree by chance.
        """
        share = 1 - self.drawn / self.total
        mean_PM = torch.zeros_like(term_PM)
        for size in range(1, int(self.size.max()) + 1):
            inside = self.size == size
            mean_PM[inside] = term_PM[inside].sum(0) / max(1, int(inside.sum()))
        centred_PM = term_PM - mean_PM
        factor = share * self.drawn / (self.drawn - 1).clamp(min=1)
        cov = centred_PM.T @ (centred_PM * factor[:, None])
        usual = torch.eye(len(cov), dtype=torch.float64) * cov.diagonal().mean()
        return (len(term_PM) * cov + 2 * usual) / (len(term_PM) + 2)


def pairs_by_size(modalities: int) -> list[int]:
    """Count the pairs of each size 1..M/2; the middle size holds each pair of its own once."""
    return [
        math.comb(modalities, s) // (2 if 2 * s == modalities else 1)
        for s in range(1, modalities // 2 + 1)
    ]


def unrank(ranks: list[int], size: int, modalities: int) -> Tensor:
    """Coalitions of one size by their rank in colexicographic order: bool [P, M]."""
    rank_P = torch.tensor(ranks, dtype=torch.long)
    left_P = torch.full_like(rank_P, size)
    member_PM = torch.zeros(len(ranks), modalities, dtype=torch.bool)
    for m in reversed(range(modalities)):
        below = torch.tensor([math.comb(m, k) for k in range(size + 1)])[left_P]
        take_P = (rank_P >= below) & (left_P > 0)
        member_PM[:, m] = take_P
        rank_P = rank_P - below * take_P
        left_P = left_P - take_P.long()
    return member_PM


def allocate(total: list[int], pairs: int, weight: list[float]) -> list[int]:
    """Pairs to draw of each size: in proportion to the weights, at least 4, at most all."""
    floor = [min(n, FOLDS) for n in total]

    def scaled(factor: float) -> list[int]:
        wanted = zip(total, floor, weight, strict=True)
        return [min(n, max(low, int(factor * w))) for n, low, w in wanted]

    low, high = 0.0, 2.0 * max(total) / min(weight)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(scaled(middle)) <= pairs else (low, middle)
    drawn = scaled(low)
    for h in sorted(range(len(total)), key=lambda h: -weight[h]):
        drawn[h] += max(0, min(total[h] - drawn[h], pairs - sum(drawn)))
    return drawn


def draw_pairs(game: Game, seed: int, weight: Callable[[int], float]) -> Pairs:
    """Draw what the budget pays for, evaluate it in one call, and give the odd half.

    Args:
        game: the game; the empty and the full coalition are paid here too.
        seed: seed of the draw.
        weight: share of a size before limits, by size.
    """
    count = game.modalities
    total = pairs_by_size(count)
    shares = [weight(s) / (2 if 2 * s == count else 1) for s in range(1, count // 2 + 1)]
    drawn = allocate(total, min(game.budget - 2, 2**count - 2) // 2, shares)
    rng = random.Random(seed)
    parts = [
        unrank(rng.sample(range(n), k), size, count)
        for size, (n, k) in enumerate(zip(total, drawn, strict=True), 1)
    ]
    member_PM = torch.cat(parts)
    ends = torch.tensor([[False], [True]]).expand(-1, count)
    values = game(torch.cat([member_PM, ~member_PM, ends]))[:-2]
    inside, outside = values.tensor_split(2)
    repeats = torch.tensor(drawn)
    return Pairs(
        sign=member_PM.double() * 2 - 1,
        size=torch.arange(1, len(total) + 1).repeat_interleave(repeats),
        drawn=repeats.double().repeat_interleave(repeats),
        total=torch.tensor(total).double().repeat_interleave(repeats),
        odd=(inside - outside) / 2,
    )
