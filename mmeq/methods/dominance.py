"""Which modality dominates a batch: scores that several methods compare; no method itself.

Shape suffixes: B batch, M modalities, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmeq.methods.base import Features, Loop

TINY = 1e-8


@torch.no_grad()
def scores(
    loop: Loop, features: Features, logits_MBC: Tensor, label_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Each modality's mean probability of the label, and the smallest one of the others.

    The mean is over the samples of all ranks that have the modality. One that nobody has scores 0
    and is nobody's rival: with no other modality to compare with, the second value is infinite.

    Args:
        loop: of the training.
        features: for who has what.
        logits_MBC: each modality's own.
        label_B: of the samples.

    Returns:
        s_m and min_{j≠m} s_j, both [M], equal on all ranks.
    """
    chance_MBC = logits_MBC.float().softmax(-1)
    chance_MB = chance_MBC[:, torch.arange(len(label_B), device=label_B.device), label_B]
    there_MB = torch.ones_like(chance_MB)
    if features.present_BM is not None:
        there_MB = features.present_BM.T.to(chance_MB)
    total_M, count_M = loop.mean(torch.stack([(chance_MB * there_MB).sum(1), there_MB.sum(1)]))
    seen_M = count_M > 0
    score_M = torch.where(seen_M, total_M / count_M, 0.0)
    rival_MM = torch.where(seen_M, score_M, torch.inf).repeat(len(score_M), 1)
    return score_M, rival_MM.fill_diagonal_(torch.inf).amin(1)


def ratios(score_M: Tensor, rival_M: Tensor) -> Tensor:
    """ρ_m = s_m / min_{j≠m} s_j, [M]: above 1 where m dominates; 0 where it has no rival."""
    return score_M / rival_M.clamp_min(TINY)
