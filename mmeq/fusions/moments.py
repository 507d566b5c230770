"""Running means, deviations and cross-correlations of features, equal on all ranks.

Shape suffixes: B batch, M modalities, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeq.collective import add_over_ranks


class RunningMoments(nn.Module):
    """Exponentially forgotten sums of features and of their products, as buffers.

    After each batch: n ← ρn + Σ_b p, s ← ρs + Σ_b p·x, Q ← ρQ + Σ_b x xᵀ [ours]; mean = s/n,
    standard deviation and correlation follow from Q/n. Sums, not means, are forgotten, so that
    batches count by their size and no bias correction is needed; under DDP the sums are added
    over ranks, so that every rank holds what one process would hold.

    Args:
        modalities: M.
        dim: D.
        cross: keep the correlations between modalities too.
        decay: ρ.

    Attributes:
        mean_MD, std_MD: of every feature.
        corr_MMDD: ``corr[i, j]`` = Z_jᵀ Z_i / B, the correlation of j's features with i's.
    """

    def __init__(self, modalities: int, dim: int, cross: bool = True, decay: float = 0.95) -> None:
        super().__init__()
        self.modalities, self.dim, self.cross, self.decay = modalities, dim, cross, decay
        width = modalities * dim
        self.count_MM: Tensor
        self.sum_MD: Tensor
        self.product: Tensor
        self.mean_MD: Tensor
        self.std_MD: Tensor
        self.corr_MMDD: Tensor
        self.register_buffer("count_MM", torch.zeros(modalities, modalities))
        self.register_buffer("sum_MD", torch.zeros(modalities, dim))
        self.register_buffer("mean_MD", torch.zeros(modalities, dim))
        if cross:
            self.register_buffer("product", torch.zeros(width, width))
            self.register_buffer("std_MD", torch.ones(modalities, dim))
            self.register_buffer("corr_MMDD", torch.zeros(modalities, modalities, dim, dim))

    @torch.no_grad()
    def update(self, features: Sequence[Tensor], present_BM: Tensor | None) -> None:
        """Take in one training batch: M × [B, D], and who has what (None: all have all)."""
        with torch.autocast(features[0].device.type, enabled=False):
            flat_BX = torch.cat([feature.detach().float() for feature in features], 1)
            if present_BM is None:
                counts = torch.full_like(self.count_MM, len(flat_BX))
            else:
                present = present_BM.float()
                counts = present.T @ present
                flat_BX = flat_BX * present.repeat_interleave(self.dim, 1)
            sums = [counts, flat_BX.sum(0).view(self.modalities, self.dim)]
            if self.cross:
                sums.append(flat_BX.T @ flat_BX)
            add_over_ranks(sums)
            self.count_MM.mul_(self.decay).add_(sums[0])
            self.sum_MD.mul_(self.decay).add_(sums[1])
            own_M = self.count_MM.diagonal().clamp_min(1e-12)
            self.mean_MD.copy_(self.sum_MD / own_M[:, None])
            if self.cross:
                self.product.mul_(self.decay).add_(sums[2])
                self._correlate()

    def _correlate(self) -> None:
        m, d = self.modalities, self.dim
        second = self.product.view(m, d, m, d).permute(2, 0, 1, 3)  # [i, j, D of j, D of i]
        second = second / self.count_MM.clamp_min(1e-12)[:, :, None, None]
        mean = self.mean_MD
        covariance = second - mean[None, :, :, None] * mean[:, None, None, :]
        own = covariance.diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1)  # [M, D]
        self.std_MD.copy_(own.clamp_min(1e-6).sqrt())
        scale = self.std_MD[None, :, :, None] * self.std_MD[:, None, None, :]
        self.corr_MMDD.copy_(covariance / scale)
