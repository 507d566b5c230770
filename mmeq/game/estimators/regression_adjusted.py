"""Regression-adjusted Monte Carlo: a surrogate's Shapley values, corrected without bias.

Legend: M modalities, P pairs.
"""

from __future__ import annotations

import torch

from mmeq.game.estimators.base import MOST, Estimate, Game
from mmeq.game.estimators.sampling import FOLDS, draw_pairs
from mmeq.game.estimators.surrogate import Surrogate

MOST_MODALITIES = MOST
"""Most modalities that this estimator serves."""


def minimum(modalities: int) -> int:
    """Smallest budget: the two ends and 2M pairs."""
    return int(min(2**modalities, 4 * modalities + 2))


def run(game: Game, seed: int = 0) -> Estimate:
    r"""Shapley values of a cross-fitted surrogate g, plus a Monte Carlo estimate of those of v - g.

    :math:`\hat\phi_m = \phi_m(g) + \sum_S \frac{a_m(S)}{P(S)} [v(S) - g(S)]`, with
    :math:`a_m(S) = \frac{(|S|-1)!(M-|S|)!}{M!}` where m is in S, else
    :math:`-\frac{|S|!(M-|S|-1)!}{M!}` (Witter, Liu and Musco 2025, arXiv 2506.11849: every
    coalition serves every modality).

    [ours] Pairs S, N-S share one term :math:`2 a_m(S)\, o(S)`, o the odd half of the game; over m
    it adds up to 0, so :math:`\sum \hat\phi = v(N) - v(\emptyset)`. Sizes are strata, drawn without
    replacement in proportion to the norm of their :math:`a`, where a pair enters with weight 1
    if g was fitted on it, and for those that g never saw by their number. So each of the 4 folds
    is unbiased, whatever the surrogate (see `surrogate`: additive and odd interactions; pairwise
    ones have no odd half but an additive one, so nothing is gained by them). Covariance: that of
    the cross-fitted residual terms, by strata.

    Args:
        game: the game.
        seed: seed of the pairs.
    """
    count = game.modalities
    pairs = draw_pairs(game, seed, lambda s: (s * (count - s)) ** -0.5)
    empty, full = game.ends()
    ones_1M = torch.ones(1, count, dtype=torch.float64)
    end = torch.tensor([(full - empty) / 2], dtype=torch.float64)
    size_P1 = pairs.size[:, None].double()
    # 2 a_m(S) times the pairs of its stratum: 2/s for members, -2/(M-s) for others.
    whole_P1 = (size_P1 * 2 == count).double() + 1
    term_PM = torch.where(pairs.sign > 0, 2 / size_P1, -2 / (count - size_P1)) / whole_P1
    place_P = torch.arange(len(size_P1)) - torch.searchsorted(pairs.size, pairs.size)
    fold_P = place_P % FOLDS
    phi = torch.zeros(count, dtype=torch.float64)
    left_out_P = torch.zeros_like(pairs.odd)
    for fold in range(FOLDS):
        held_P = fold_P == fold
        g = Surrogate(
            torch.cat([ones_1M, pairs.sign[~held_P]]), torch.cat([end, pairs.odd[~held_P]])
        )
        residual_P = pairs.odd - g(pairs.sign)
        left_out_P[held_P] = residual_P[held_P]
        held = torch.zeros(count + 1, dtype=torch.float64)
        held = held.index_add_(0, pairs.size[held_P], torch.ones(int(held_P.sum())).double())
        held_count_P = held[pairs.size].clamp(min=1)
        unseen_P = (pairs.total - pairs.drawn + held[pairs.size]) / held_count_P
        weight_P = torch.where(held_P, unseen_P, 1.0) / pairs.total
        phi += g.shapley() + 2 * (end - g(ones_1M)) / count + term_PM.T @ (weight_P * residual_P)
    cov = pairs.cov(term_PM * (left_out_P / pairs.drawn)[:, None])
    return game.result(phi / FOLDS, cov, "regression_adjusted", seed, len(term_PM))
