"""Exact Shapley values by all 2^M coalitions."""

from __future__ import annotations

import torch

from mmeq.game.coalitions import MAX_MODALITIES, all_coalitions
from mmeq.game.estimators.base import Estimate, Game
from mmeq.game.shapley import shapley_values

MOST_MODALITIES = MAX_MODALITIES
"""Most modalities that this estimator serves."""


def minimum(modalities: int) -> int:
    """Smallest budget: every coalition."""
    return int(2**modalities)


def run(game: Game, seed: int = 0) -> Estimate:
    r"""Exact Shapley values, in one call of the value function.

    :math:`\phi_m = \sum_{S \not\ni m} \frac{|S|!(M-|S|-1)!}{M!} [v(S \cup m) - v(S)]` [paper].

    Args:
        game: the game, with a budget of at least 2^M and M of at most 12.
        seed: not used.
    """
    count = game.modalities
    phi = shapley_values(game(all_coalitions(count)))
    return game.result(phi, torch.zeros(count, count, dtype=torch.float64), "exact", seed, 0)
