"""Exact Shapley and Banzhaf values of a game given by the values of all its coalitions.

Legend: M modalities, V = 2^M coalitions in the binary order of `coalitions.all_coalitions`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.coalitions import MAX_MODALITIES, all_coalitions, check_count


def count_from_values(values: Tensor) -> int:
    """Return M for values of shape [..., 2^M].

    Args:
        values: real, [..., V].

    Raises:
        MmeqError: if V is no power of two in 2..4096, the values are not real, or one is NaN or
            infinite.
    """
    length = values.shape[-1] if values.ndim else 0
    modalities = length.bit_length() - 1
    if length != 2 ** max(modalities, 0) or not 1 <= modalities <= MAX_MODALITIES:
        raise MmeqError(
            f"a game needs one value for each of 2^M coalitions (M from 1 to {MAX_MODALITIES}), "
            f"got {length} values"
        )
    if values.is_complex():
        raise MmeqError("the values of a game must be real numbers")
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).reshape(-1, length).any(0).nonzero()[0])
        raise MmeqError(f"the value of coalition {bad} is NaN or infinite")
    return modalities


@lru_cache(maxsize=MAX_MODALITIES)
def _shapley_weights(modalities: int) -> Tensor:
    member_VM = all_coalitions(check_count(modalities))
    size_V1 = member_VM.sum(1, keepdim=True)
    # 1 / (M * binom(M-1, s)) = s! (M-s-1)! / M!, where s members were there before m came.
    by_size = torch.tensor(
        [1 / (modalities * math.comb(modalities - 1, s)) for s in range(modalities)],
        dtype=torch.float64,
    )
    joined_VM = by_size[(size_V1 - 1).clamp(min=0)].expand_as(member_VM)
    without_VM = by_size[size_V1.clamp(max=modalities - 1)].expand_as(member_VM)
    weights_VM: Tensor = torch.where(member_VM, joined_VM, -without_VM)
    return weights_VM.T.contiguous()


@lru_cache(maxsize=MAX_MODALITIES)
def _banzhaf_weights(modalities: int) -> Tensor:
    sign_VM = all_coalitions(check_count(modalities)).double() * 2 - 1
    weights_VM: Tensor = sign_VM / 2 ** (modalities - 1)
    return weights_VM.T.contiguous()


def shapley_weights(modalities: int) -> Tensor:
    r"""Matrix that turns the values of all coalitions into Shapley values.

    :math:`W_{m,S} = (|S|-1)!(M-|S|)!/M!` where m is in S, else :math:`-|S|!(M-|S|-1)!/M!`, so that
    :math:`\phi = W v` [paper: the Shapley value].

    Args:
        modalities: number of modalities M, at most 12.

    Returns:
        float64 [M, V]; a copy, which the caller may change.

    Raises:
        MmeqError: if M is out of range.

    Examples:
        >>> shapley_weights(2).tolist()
        [[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]]
    """
    return _shapley_weights(modalities).clone()


def shapley_values(values: Tensor) -> Tensor:
    r"""Exact Shapley value of every modality.

    :math:`\phi_m = \sum_{S \not\ni m} \frac{|S|!(M-|S|-1)!}{M!} [v(S \cup m) - v(S)]` [paper].
    They add up to v(all) - v(empty).

    Args:
        values: real [..., V], in binary order; computed in float64.

    Returns:
        float64 [..., M], in the unit of the values.

    Raises:
        MmeqError: if V is no power of two in 2..4096, or a value is not finite.

    Examples:
        >>> shapley_values(torch.tensor([0.0, 0.5, 0.25, 1.0])).tolist()
        [0.625, 0.375]
    """
    weights_MV = _shapley_weights(count_from_values(values)).to(values.device)
    return values.double() @ weights_MV.T


def banzhaf_values(values: Tensor) -> Tensor:
    r"""Banzhaf value of every modality: its mean marginal contribution over all coalitions.

    :math:`\beta_m = 2^{1-M} \sum_{S \not\ni m} [v(S \cup m) - v(S)]` [ours: an alternative to the
    Shapley value]. Equal to it for M of 1 and 2; they need not add up to v(all) - v(empty).

    Args:
        values: real [..., V], in binary order; computed in float64.

    Returns:
        float64 [..., M], in the unit of the values.

    Raises:
        MmeqError: if V is no power of two in 2..4096, or a value is not finite.

    Examples:
        >>> banzhaf_values(torch.tensor([0.0, 0.5, 0.25, 1.0])).tolist()
        [0.625, 0.375]
    """
    weights_MV = _banzhaf_weights(count_from_values(values)).to(values.device)
    return values.double() @ weights_MV.T
