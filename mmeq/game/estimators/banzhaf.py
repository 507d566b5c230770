"""Banzhaf values: exact by all coalitions, or by regression over uniformly drawn pairs.

Legend: M modalities, P pairs.
"""

from __future__ import annotations

import random

import torch

from mmeq.game.coalitions import MAX_MODALITIES, all_coalitions
from mmeq.game.estimators.base import MOST, Estimate, Game
from mmeq.game.estimators.sampling import Pairs
from mmeq.game.shapley import banzhaf_values

MOST_MODALITIES = MOST
"""Most modalities that this estimator serves."""


def minimum(modalities: int) -> int:
    """Smallest budget: the two ends and 2M pairs, twice the number of unknowns."""
    return int(min(2**modalities, 4 * modalities + 2))


def run(game: Game, seed: int = 0) -> Estimate:
    r"""Banzhaf values; exact where the budget pays for all of at most 2^12 coalitions.

    :math:`\beta_m = E_S[v(S) | m \in S] - E_S[v(S) | m \notin S]` over uniform S: every coalition
    serves every modality (maximum sample reuse, Wang and Jia 2023, arXiv 2205.15466).

    [ours] S comes with N-S, without replacement; then :math:`\beta_m = 2 E[x_m o]` with signs
    :math:`x = \pm1` and :math:`o = [v(S) - v(N-S)]/2`, and the additive part of o is taken out by
    least squares (whose population solution is :math:`\beta/2`: Hammer and Holzman 1992).
    Covariance: the sandwich of the jackknifed scores (HC3) with the finite-population factor.

    Args:
        game: the game.
        seed: seed of the pairs.
    """
    count = game.modalities
    if game.complete and count <= MAX_MODALITIES:
        beta = banzhaf_values(game(all_coalitions(count)))
        cov = torch.zeros(count, count, dtype=torch.float64)
        return game.result(beta, cov, "banzhaf", seed, 0)
    total = 2 ** (count - 1) - 1  # pairs beside {empty, full}
    drawn = min((game.budget - 2) // 2, total)
    key_P = torch.tensor(random.Random(seed).sample(range(1, total + 1), drawn))
    member_PM = (key_P[:, None] >> torch.arange(count)) % 2 == 1
    ends = torch.tensor([[False], [True]]).expand(-1, count)
    value = game(torch.cat([ends[:1], member_PM, ends[1:], ~member_PM]))
    odd = (value[: drawn + 1] - value[drawn + 1 :]) / 2
    sign_PM = torch.cat([ends[:1], member_PM]).double() * 2 - 1
    weight_P = torch.full_like(odd, total / drawn)
    weight_P[0] = 1  # the two ends are known
    bread = torch.linalg.pinv((sign_PM * weight_P[:, None]).T @ sign_PM, hermitian=True)
    half = bread @ (sign_PM.T @ (weight_P * odd))
    leverage_P = weight_P * ((sign_PM @ bread) * sign_PM).sum(1)
    jackknifed_P = (odd - sign_PM @ half) / (1 - leverage_P).clamp(min=1e-3)
    score_PM = (2 * weight_P * jackknifed_P)[:, None] * (sign_PM @ bread)
    one = torch.ones(drawn, dtype=torch.float64)
    pairs = Pairs(sign_PM[1:], one.long(), one * drawn, one * total, odd[1:])
    return game.result(2 * half, pairs.cov(score_PM[1:]), "banzhaf", seed, drawn)
