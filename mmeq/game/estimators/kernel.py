"""KernelSHAP: Shapley values by weighted least squares over pairs of coalitions.

Legend: M modalities, P pairs.
"""

from __future__ import annotations

import torch

from mmeq.game.estimators.base import MOST, Estimate, Game
from mmeq.game.estimators.sampling import draw_pairs

MOST_MODALITIES = MOST
"""Most modalities that this estimator serves."""


def minimum(modalities: int) -> int:
    """Smallest budget: the two ends and 2M pairs, twice the number of unknowns."""
    return int(min(2**modalities, 4 * modalities + 2))


def run(game: Game, seed: int = 0) -> Estimate:
    r"""Shapley values as the additive game nearest to v, in the Shapley kernel.

    :math:`\min_\phi \sum_S \omega_S [v(S) - v(\emptyset) - \sum_{m \in S} \phi_m]^2` with
    :math:`\omega_S = (M-1) / (\binom{M}{|S|} |S| (M-|S|))` and
    :math:`\sum \phi = v(N) - v(\emptyset)` (Lundberg and Lee 2017; paired sampling: Covert and Lee
    2021, arXiv 2012.01536). A pair S, N-S enters by its odd half alone: with
    :math:`x = \pm\tfrac12` and :math:`o = [v(S) - v(N-S)]/2` the sum is
    :math:`\sum \omega (o - x^T\phi)^2` plus what does not depend on :math:`\phi`.

    [ours] Sizes are strata, drawn without replacement in proportion to
    :math:`\sqrt{\omega_S \binom{M}{|S|}}`, and complete where the budget allows; weights are
    :math:`\omega N_h/n_h`. Covariance: the sandwich of the jackknifed scores (HC3), by strata.
    The bias is of order 1/P, below the error.

    Args:
        game: the game.
        seed: seed of the pairs.
    """
    count = game.modalities
    pairs = draw_pairs(game, seed, lambda s: (s * (count - s)) ** -0.5)
    empty, full = game.ends()
    x_PM = pairs.sign / 2
    # Kernel weights, in pairs: their sum over a size is 1 / (s (M - s)) up to a constant.
    whole = (pairs.size * 2 == count).double() + 1
    weight_P = 1 / (pairs.size * (count - pairs.size) * pairs.drawn * whole)
    # The inverse on the vectors that add up to 0: solutions differ by such a vector alone.
    centre = torch.eye(count, dtype=torch.float64) - 1 / count
    bread = torch.linalg.pinv(centre @ (x_PM.T @ (x_PM * weight_P[:, None])) @ centre)
    target = torch.full((count,), (full - empty) / count, dtype=torch.float64)
    residual_P = pairs.odd - x_PM @ target
    phi = target + bread @ (x_PM.T @ (weight_P * residual_P))
    leverage_P = weight_P * ((x_PM @ bread) * x_PM).sum(1)
    jackknifed_P = (pairs.odd - x_PM @ phi) / (1 - leverage_P).clamp(min=1e-3)
    score_PM = (weight_P * jackknifed_P)[:, None] * (x_PM @ bread)
    return game.result(phi, pairs.cov(score_PM), "kernel", seed, len(x_PM))
