"""Heads of a method's own, beside the fusion or instead of it; no method itself.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeq.methods.base import Features, Loop, Method, there


class Heads(nn.Module):
    """A linear classifier a modality: [B, D] each → [M, B, C].

    Args:
        modalities: M.
        dim: D.
        classes: C.
    """

    def __init__(self, modalities: int, dim: int, classes: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(nn.Linear(dim, classes) for _ in range(modalities))

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        """Logits [M, B, C]."""
        return torch.stack([head(h) for head, h in zip(self.each, rows, strict=True)])


class HeadedMethod(Method):
    """Base of methods that train a classifier a modality beside the fusion.

    A sample of which a coalition has one modality alone is answered by that modality's head, which
    is what it was trained for; every other one by the fusion.

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        classes: C.
    """

    def __init__(self, modalities: Sequence[str], seed: int = 0, *, dim: int, classes: int) -> None:
        super().__init__(modalities, seed)
        self.heads = Heads(len(self.modalities), dim, classes)

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]."""
        fused_SBC = loop.fuse(features, coalitions_SM)
        if features.present_BM is None and not (coalitions_SM.sum(1) == 1).any():
            return fused_SBC
        there_SBM = there(features, coalitions_SM)
        alone_SB1 = (there_SBM.sum(-1) == 1)[..., None]
        own_MBC = self.heads(features.rows).to(fused_SBC)
        return torch.where(alone_SB1, added(own_MBC, there_SBM), fused_SBC)


def added(terms_MBC: Tensor, weight_SBM: Tensor) -> Tensor:
    """Σ_m weight · terms: [M, B, C] and [S, B, M] → [S, B, C]."""
    return torch.einsum("sbm,mbc->sbc", weight_SBM.to(terms_MBC), terms_MBC)


def answer(logits_SBC: Tensor, there_SBM: Tensor, log_prior_C: Tensor) -> Tensor:
    """Replace the logits of samples that have nothing of a coalition by the constant predictor."""
    some_SB1 = there_SBM.any(-1, keepdim=True)
    return torch.where(some_SB1, logits_SBC, log_prior_C.to(logits_SBC))
