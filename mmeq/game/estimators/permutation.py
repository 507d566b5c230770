"""Shapley values from sampled permutations.

Legend: M modalities, R permutations, G groups of permutations (one, or one and its reverse).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mmeq.game.coalitions import MAX_MODALITIES
from mmeq.game.estimators import exact
from mmeq.game.estimators.base import MOST, Estimate, Game

MOST_MODALITIES = MOST
"""Most modalities that this estimator serves."""

MOST_ORDERS = 2**16
"""Most permutations drawn, where the budget pays for (nearly) every coalition."""


def minimum(modalities: int) -> int:
    """Smallest budget: two permutations, so that there is a standard error."""
    return int(min(2**modalities, 2 * modalities))


def chains(order_RM: Tensor) -> Tensor:
    """Coalitions that grow along each permutation, from none to all: bool [R, M + 1, M]."""
    place_RM = order_RM.argsort(1)
    return place_RM[:, None, :] < torch.arange(order_RM.shape[1] + 1)[None, :, None]


def draw_orders(game: Game, seed: int, reverse: bool) -> Tensor:
    """As many random permutations as the budget pays for: int64 [G, 1 or 2, M].

    A coalition that two of them share is paid once. Drawing stops before the first group that the
    budget cannot pay. That moment depends on how many coalitions coincide alone, which no renaming
    of the modalities changes; so each permutation stays uniform and their mean unbiased.
    """
    count = game.modalities
    generator = torch.Generator().manual_seed(seed)
    size = 1 + game.budget // max(1, count - 1)
    drawn, paid = torch.empty(0, 2 if reverse else 1, count, dtype=torch.long), 0
    most = min(game.budget, MOST_ORDERS)
    while paid == len(drawn) < most:  # all drawn so far are paid
        order = torch.rand(size, 1, count, generator=generator, dtype=torch.float64).argsort(-1)
        drawn = torch.cat([drawn, torch.cat([order, order.flip(-1)], 1) if reverse else order])
        keys_GK = game.keys(chains(drawn.flatten(0, 1))).view(len(drawn), -1).numpy()
        first = np.unique(keys_GK, return_index=True)[1] // keys_GK.shape[1]
        cost_G = np.bincount(first, minlength=len(drawn)).cumsum()
        paid = int((cost_G <= game.budget).sum())
    return drawn[: min(paid, most)]


def mean_over_groups(game: Game, seed: int, reverse: bool, name: str) -> Estimate:
    """Mean marginal contributions, with errors from the spread between groups of permutations."""
    if game.complete and game.modalities <= MAX_MODALITIES:
        # With all values at hand, the mean over all M! permutations is the exact formula.
        return replace(exact.run(game, seed), estimator=name, reason=f"{name} was asked for")
    order_GKM = draw_orders(game, seed, reverse)
    order_RM = order_GKM.flatten(0, 1)
    values = game(chains(order_RM).flatten(0, 1)).view(len(order_RM), -1)
    gain_RM = torch.zeros(order_RM.shape, dtype=torch.float64)
    gain_RM.scatter_(1, order_RM, values.diff(dim=1))
    gain_GM = gain_RM.view(order_GKM.shape).mean(1)
    groups = len(gain_GM)
    cov = torch.cov(gain_GM.T)
    # A handful of groups may agree by chance: two more of the mean variance keep errors from 0.
    usual = torch.eye(game.modalities, dtype=torch.float64) * cov.diagonal().mean()
    cov = ((groups - 1) * cov + 2 * usual) / (groups + 1)
    return game.result(gain_GM.mean(0), cov / groups, name, seed, groups)


def run(game: Game, seed: int = 0) -> Estimate:
    r"""Shapley values as mean marginal contributions over random permutations.

    :math:`\hat\phi_m = \frac1R \sum_r [v(P_r^m \cup m) - v(P_r^m)]`, with :math:`P_r^m` those
    before m in permutation r; covariance = that of the R gains, divided by R (Castro, Gomez and
    Tejada 2009). They add up to v(all) - v(empty) in every permutation.

    Args:
        game: the game.
        seed: seed of the permutations.
    """
    return mean_over_groups(game, seed, reverse=False, name="permutation")
