"""The equilibrium deviation metric (EDM): how far shares of the Shapley value are from a target.

Legend: M modalities.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from mmeq.errors import MmeqError

TINY = 1e-9
"""A sum of contributions (or capacities) of at most this counts as zero: shares are undefined."""


def _finite(name: str, data: Tensor) -> Tensor:
    data = data.double()
    if data.ndim == 0 or data.shape[-1] == 0:
        raise MmeqError(f"{name} needs one entry for each modality, got shape {tuple(data.shape)}")
    if not bool(torch.isfinite(data).all()):
        raise MmeqError(f"{name} holds a NaN or infinite entry")
    return data


def _shares(data: Tensor, cause: str, warn: bool) -> Tensor:
    """Clip at 0 and divide by the sum; NaN and a warning where the sum is about 0."""
    clipped = data.clamp(min=0)
    total = clipped.sum(-1, keepdim=True)
    defined = total > TINY
    if warn and not bool(defined.all()):
        warnings.warn(f"{cause}: EDM is undefined (NaN)", RuntimeWarning, stacklevel=4)
    return torch.where(defined, clipped / total, torch.nan)


def _target(target: Tensor | Sequence[float] | None, phi: Tensor) -> Tensor:
    modalities = phi.shape[-1]
    if target is None:
        return phi.new_full((modalities,), 1 / modalities)
    given = _finite("target", torch.as_tensor(target)).to(phi.device)
    if given.shape[-1] != modalities:
        raise MmeqError(f"target has {given.shape[-1]} shares for {modalities} modalities")
    if bool((given < 0).any()) or bool(((given.sum(-1) - 1).abs() > 1e-6).any()):
        raise MmeqError(f"target must hold shares >= 0 that add up to 1, got {given.tolist()}")
    return given


def _deviation(phi: Tensor, target: Tensor, warn: bool) -> Tensor:
    shares = _shares(phi, "no modality contributes (sum of positive Shapley values is 0)", warn)
    return 100 * (target - shares).abs().sum(-1)


def edm(
    phi: Tensor, target: Tensor | Sequence[float] | None = None, *, warn: bool = True
) -> Tensor:
    r"""Equilibrium deviation metric, in percent; 0 is perfect balance.

    :math:`\mathrm{EDM} = 100 \sum_m |\eta_m - \psi_m|` (shape [second-hand]) with the shares
    :math:`\psi_m = \phi_m^+ / \sum_k \phi_k^+` (normalisation and clipping of negative values
    [ours]) and :math:`\eta_m = 1/M`. Range 0 to 200(1-1/M) for the uniform target, else
    200(1 - min eta).

    Args:
        phi: contributions, real [..., M].
        target: shares eta, [M] or broadcastable to phi, adding up to 1; uniform when None.
        warn: whether to warn where EDM is undefined.

    Returns:
        float64 [...]; NaN, with a RuntimeWarning, where the positive contributions add up to
        about 0 (at most 1e-9).

    Raises:
        MmeqError: if phi is not finite, or the target is no distribution over M.

    Examples:
        >>> round(edm(torch.tensor([0.75, 0.25])).item(), 6)
        50.0
    """
    phi = _finite("phi", phi)
    return _deviation(phi, _target(target, phi), warn)


def edm_normalised(
    phi: Tensor, target: Tensor | Sequence[float] | None = None, *, warn: bool = True
) -> Tensor:
    r"""EDM divided by its largest possible value, so that it compares over numbers of modalities.

    :math:`\mathrm{EDM} / (200 (1 - \min_m \eta_m))` [ours]; in [0, 1]. One modality alone is
    balanced by definition: 0.

    Args:
        phi: contributions, real [..., M].
        target: as in `edm`.
        warn: whether to warn where EDM is undefined.

    Returns:
        float64 [...]; NaN where `edm` is.

    Raises:
        MmeqError: as `edm`.

    Examples:
        >>> edm_normalised(torch.tensor([1.0, 0.0])).item()
        1.0
    """
    phi = _finite("phi", phi)
    eta = _target(target, phi)
    worst = 200 * (1 - eta.amin(-1))
    # M = 1: EDM is 0 (or NaN) and so is the largest value; any positive divisor keeps that.
    return (_deviation(phi, eta, warn) / torch.where(worst > 0, worst, 1.0)).clamp(max=1)


def edm_capacity(phi: Tensor, capacity: Tensor | Sequence[float], *, warn: bool = True) -> Tensor:
    r"""EDM against what each modality can give, in percent [ours].

    As `edm` with :math:`\eta_m = c_m^+ / \sum_k c_k^+`, where c_m is the value above v(empty) that
    a model trained on m alone reaches: an uninformative modality has target 0 and does not count
    as unbalanced when it contributes nothing.

    Args:
        phi: contributions, real [..., M].
        capacity: real [M] or broadcastable to phi, in the unit of the game; negative counts as 0.
        warn: whether to warn where it is undefined.

    Returns:
        float64 [...], 0 to 200; NaN, with a RuntimeWarning, where the positive contributions or
        the positive capacities add up to about 0.

    Raises:
        MmeqError: if an input is not finite, or their lengths differ.

    Examples:
        >>> edm_capacity(torch.tensor([0.4, 0.0]), [0.5, 0.0]).item()
        0.0
    """
    phi = _finite("phi", phi)
    given = _finite("capacity", torch.as_tensor(capacity)).to(phi.device)
    if given.shape[-1] != phi.shape[-1]:
        raise MmeqError(f"capacity has {given.shape[-1]} entries for {phi.shape[-1]} modalities")
    return _deviation(phi, _shares(given, "no modality has capacity", warn), warn)
