"""Shapley values from sampled permutations, each with its reverse."""

from __future__ import annotations

from mmeq.game.estimators.base import MOST, Estimate, Game
from mmeq.game.estimators.permutation import mean_over_groups

MOST_MODALITIES = MOST
"""Most modalities that this estimator serves."""


def minimum(modalities: int) -> int:
    """Smallest budget: two pairs of permutations, so that there is a standard error."""
    return int(min(2**modalities, 4 * modalities - 2))


def run(game: Game, seed: int = 0) -> Estimate:
    r"""Shapley values as means over pairs of a random permutation and its reverse.

    :math:`\hat\phi_m = \frac1G \sum_g \frac12 [\Delta_m(\pi_g) + \Delta_m(\pi_g^{rev})]`; the
    covariance is that of the G pair means, divided by G (Mitchell, Cooper, Frank and Holmes 2022,
    arXiv 2104.12199). What precedes m in a permutation follows it in the reverse, so a pair is
    exact for games of single modalities and pairs of them, and its error there is 0.

    Args:
        game: the game.
        seed: seed of the permutations.
    """
    return mean_over_groups(game, seed, reverse=True, name="antithetic")
