"""How certain a ranking is, and which samples to rank by when not all shall be used.

Legend: M modalities, R bootstrap draws, N samples, n chosen ones, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmeq.errors import MmeqError

TIE = 1e-12
"""Scores closer than this are equal: sums of the same numbers in another order."""


def rank_certainty(score_M: Tensor, score_RM: Tensor) -> tuple[float, float]:
    r"""Share of bootstrap draws that rank as the point estimate does [ours].

    With the order :math:`\pi` ascending in the point estimate s (stable), a draw agrees if its
    scores ascend along :math:`\pi`. Ties in a draw are broken at random, so a draw with k equal
    scores counts 1/k!: two modalities that can never be told apart give 1/2, not 1.

    Args:
        score_M: point estimate, real [M], such as Shapley values.
        score_RM: its bootstrap draws, real [R, M].

    Returns:
        The certainty of the whole order and that of its first modality, the weakest; each in
        [0, 1].

    Raises:
        MmeqError: if there is no draw, or the number of modalities differs.

    Examples:
        >>> draws = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2], [0.2, 0.2, 0.3]])
        >>> rank_certainty(torch.tensor([0.1, 0.2, 0.3]), draws)
        (0.5, 0.8333333333333334)
    """
    if score_RM.ndim != 2 or len(score_RM) == 0 or score_RM.shape[1:] != score_M.shape:
        raise MmeqError(
            f"rank_certainty needs draws [R, {len(score_M)}], got {tuple(score_RM.shape)}"
        )
    ranked_RM = score_RM.double()[:, score_M.argsort(stable=True)]
    agrees_R = torch.ones(len(ranked_RM), dtype=torch.float64)
    equal_R = torch.ones_like(agrees_R)
    for before_R, after_R in zip(ranked_RM.T[:-1], ranked_RM.T[1:], strict=True):
        gap_R = after_R - before_R
        equal_R = torch.where(gap_R.abs() <= TIE, equal_R + 1, 1.0)
        agrees_R = torch.where(gap_R < -TIE, 0.0, agrees_R / equal_R)
    lowest_R1 = ranked_RM.min(1, keepdim=True).values
    at_bottom_RM = ranked_RM - lowest_R1 <= TIE
    weakest_R = at_bottom_RM[:, 0].double() / at_bottom_RM.sum(1)
    return agrees_R.mean().item(), weakest_R.mean().item()


def check_subset(subset: float | int | None) -> None:
    """Refuse what is neither a share nor a number of samples.

    Args:
        subset: None, a share of at most 1, or a whole number of at least 2.

    Raises:
        MmeqError: otherwise.
    """
    if subset is None or 0 < subset <= 1 or (subset >= 2 and subset == int(subset)):
        return
    raise MmeqError(
        f"subset={subset}: give a share of the validation part (more than 0, up to 1), a whole "
        "number of its samples (2 or more), or null for all"
    )


def subset_size(samples: int, subset: float | int | None) -> int:
    """Return how many of N samples a subset means.

    Args:
        samples: N.
        subset: see `check_subset`; a share is rounded, to 1 at least.

    Raises:
        MmeqError: if it is more than there are.

    Examples:
        >>> subset_size(400, 0.2), subset_size(400, 100), subset_size(400, None)
        (80, 100, 400)
    """
    check_subset(subset)
    if subset is None:
        return samples
    if subset <= 1:
        return max(1, round(subset * samples))
    if subset > samples:
        raise MmeqError(f"subset={subset}: the validation part has {samples} samples")
    return int(subset)


def stratified_subset(label_N: Tensor, size: int, seed: int = 0) -> Tensor:
    """Draw samples so that every class keeps its share, to one sample.

    Whole parts of the quotas first, then one more for the largest remainders (the first of
    equals). Depends on the arguments alone, so all processes draw the same.

    Args:
        label_N: integer [N].
        size: how many, 1 to N.
        seed: of the draw.

    Returns:
        Ascending rows, int64 [n].

    Examples:
        >>> rows = stratified_subset(torch.tensor([0, 1] * 10), 6)
        >>> (rows % 2).bincount().tolist()
        [3, 3]
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(label_N)
    if not 1 <= size <= count:
        raise MmeqError(f"a subset of {size} cannot be drawn from {count} samples")
    per_class_C = torch.bincount(label_N)
    quota_C = per_class_C.double() * size / count
    taken_C = quota_C.floor().long()
    left = size - int(taken_C.sum())
    taken_C[(quota_C - taken_C).argsort(descending=True, stable=True)[:left]] += 1
    mixed_N = torch.randperm(count, generator=generator)
    rows = [
        mixed_N[label_N[mixed_N] == label][: int(taken)]
        for label, taken in enumerate(taken_C.tolist())
    ]
    return torch.cat(rows).sort().values
