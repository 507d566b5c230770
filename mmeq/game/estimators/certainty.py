"""How sure a ranking is: P(the weakest is found) and P(the order is right).

Legend: M modalities, R draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.certainty import rank_certainty as agreement_of_draws

DRAWS = 4096
"""Draws of the normal approximation."""


@dataclass(frozen=True)
class RankCertainty:
    """An order by ascending value, and how often its draws agree.

    Args:
        order: modalities, weakest first; ties by position.
        p_weakest: share of the draws with the same weakest modality, in [0, 1].
        p_order: share of the draws with the same order, in [0, 1].
    """

    order: tuple[int, ...]
    p_weakest: float
    p_order: float


def rank_certainty(
    phi: Tensor | Sequence[float],
    cov: Tensor | None = None,
    se: Tensor | Sequence[float] | None = None,
    draws: Tensor | None = None,
    seed: int = 0,
) -> RankCertainty:
    r"""Certainty of the ranking of values, from draws or from a normal approximation [ours].

    Shares of draws :math:`\phi^{(r)}` whose smallest entry, and whose order, are those of
    :math:`\phi`; draws of a bootstrap over samples, or
    :math:`\phi^{(r)} \sim \mathcal N(\phi, \mathrm{cov})`; equal values are ranked by chance (see
    `mmeq.game.certainty`). Draws around an estimate are optimistic
    where two values are near each other: which of them came first is then itself chance.

    Args:
        phi: real [M].
        cov: covariance of the estimate, [M, M]; give this, se, or draws.
        se: standard errors [M] of independent estimates.
        draws: bootstrap draws [R, M].
        seed: seed of the normal draws.

    Raises:
        MmeqError: unless one of cov, se and draws is given, finite, and of a shape that fits.

    Examples:
        >>> rank_certainty([0.3, 0.1], se=[0.01, 0.01])
        RankCertainty(order=(1, 0), p_weakest=1.0, p_order=1.0)
    """
    phi_M = torch.as_tensor(phi).detach().double().cpu()
    given = [x for x in (cov, se, draws) if x is not None]
    if len(given) != 1:
        raise MmeqError("rank_certainty needs one of cov, se and draws")
    spread = torch.as_tensor(given[0]).detach().double().cpu()
    count = len(phi_M) if phi_M.ndim == 1 else 0
    shape = (count, count) if cov is not None else (count,) if se is not None else None
    fits = spread.shape == shape if shape else spread.ndim == 2 and spread.shape[1] == count
    if not count or not fits or not spread.numel():
        raise MmeqError(f"shapes {tuple(phi_M.shape)} and {tuple(spread.shape)} do not fit")
    if not bool(torch.isfinite(phi_M).all() and torch.isfinite(spread).all()):
        raise MmeqError("rank_certainty needs finite numbers")
    if draws is None:
        values_M, vectors_MM = torch.linalg.eigh(torch.diag(spread**2) if cov is None else spread)
        root_MM = vectors_MM * values_M.clamp(min=0).sqrt()
        generator = torch.Generator().manual_seed(seed)
        noise_RM = torch.randn(DRAWS, count, generator=generator, dtype=torch.float64)
        spread = phi_M + noise_RM @ root_MM.T
    p_order, p_weakest = agreement_of_draws(phi_M, spread)
    return RankCertainty(tuple(phi_M.argsort(stable=True).tolist()), p_weakest, p_order)
