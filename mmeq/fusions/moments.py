"""Running means, deviations and cross-correlations of features, equal on all ranks.

Shape suffixes: B batch, M modalities, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmeq.collective import add_over_ranks

Pairs = tuple[tuple[int, int], ...]
"""Modalities (i, j): the one before, and the one that is aligned to it."""


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
        self.register_buffer("count_MM", torch.zeros(modalities, modalities))
        self.register_buffer("sum_MD", torch.zeros(modalities, dim))
        self.register_buffer("mean_MD", torch.zeros(modalities, dim))
        if cross:
            self.register_buffer("product", torch.zeros(width, width))
            self.register_buffer("std_MD", torch.ones(modalities, dim))
        self._kept: dict[tuple[int, int], Tensor] = {}
        self._stacked: tuple[Pairs, Tensor] | None = None
        self.register_load_state_dict_pre_hook(_drop_correlations)
        self.register_load_state_dict_post_hook(_loaded)

    def correlations(self, pairs: Pairs) -> Tensor:
        """Z_jᵀ Z_i / B, the correlation of j's features with i's, for pairs (i, j): [Q, D, D].

        Computed when first asked for after a batch, since an order asks for few of all pairs.
        """
        if self._stacked is None or self._stacked[0] != pairs:
            device = self.product.device.type
            # what a validation asks for may serve training
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                torch.autocast(device, enabled=False),
            ):
                self._stacked = pairs, torch.stack([self._correlation(*pair) for pair in pairs])
        return self._stacked[1]

    def _correlation(self, i: int, j: int) -> Tensor:
        """Z_jᵀ Z_i / B: [D, D]."""
        kept = self._kept.get((i, j))
        if kept is None:
            block = self.product.view(self.modalities, self.dim, self.modalities, self.dim)[j, :, i]
            scale = self.std_MD[j].outer(self.std_MD[i]) * self.count_MM[j, i].clamp_min(1e-12)
            own, before = (self.mean_MD[k] / self.std_MD[k] for k in (j, i))
            kept = self._kept[i, j] = torch.addr(block / scale, own, before, alpha=-1)
        return kept

    def _forget(self) -> None:
        self._kept.clear()
        self._stacked = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningMoments:
        """Forget what lies on another device."""
        self._forget()
        return super()._apply(fn, recurse)

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
                square_MD = self.product.diagonal().view_as(self.sum_MD) / own_M[:, None]
                variance_MD = (square_MD - self.mean_MD.square()).clamp_min(1e-6)
                self.std_MD.copy_(variance_MD.sqrt())
            self._forget()


def _drop_correlations(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Checkpoints of earlier versions hold the correlations, which follow from the sums."""
    state.pop(f"{prefix}corr_MMDD", None)


def _loaded(module: nn.Module, *_: object) -> None:
    if isinstance(module, RunningMoments):
        module._forget()
