"""Adaptive masks: hide a part of the features of the modality that the model depends on.

Shape suffixes: B batch, M modalities, D width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.methods.base import (
    Batch,
    Features,
    Loop,
    Method,
    coalition_rows,
    own_loss,
    uniform,
)

LARGEST_SCALE = 10.0
"""Most by which kept features are scaled up."""


class Amco(Method):
    """Adaptive mask and co-optimization (AMCo, Zhou et al., ICASSP 2023).

    d_m = mean over the batch of Σ_c softmax([o_1; …; o_M])_{m,c}, the model's dependence on m;
    m is masked where l_m > 0, in a share p_m = sin(π/2 · min(ε, l_m) / ε) of its D features, and
    what is kept is scaled by 1 / (1 − p_m), at most 10 [second-hand]; l_m = d_m − σ [ours].
    L = CE(all, masked) + λ Σ_m CE(o_m, not masked): the second term keeps what is masked good.
    M > 2: l_m = M/2 · d_m − σ, so that a balanced modality stands at ½ as with two [ours].

    The paper was not to be had: this follows a reimplementation (BalanceBenchmark, 2502.10816)
    and departs from it [ours] where l is a running sum that hides all features after some batches,
    where a batch is masked by what the one before showed, where one mask serves the whole batch
    (here each sample and dimension draws), and where o_m too is masked. d_m counts samples that
    have every modality; a batch without any is not masked.

    Args:
        modalities: names.
        seed: of the run.
        sigma: σ, dependence (M/2 · d_m) above which a modality is masked.
        epsilon: ε, dependence beyond σ at which all of it is masked.
        weight: λ of the modalities' own losses.
    """

    min_modalities = 2
    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        sigma: float = 0.5,
        epsilon: float = 0.3,
        weight: float = 1.0,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(
            sigma=(sigma, 0, 1), epsilon=(epsilon, 1e-6, 1), weight=(weight, 0, float("inf"))
        )
        self.sigma, self.epsilon, self.weight = sigma, epsilon, weight
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        self.seen_2M: Tensor
        self.register_buffer("seen_2M", torch.zeros(2, count), persistent=False)
        self.batches = 0

    def on_epoch_start(self, loop: Loop) -> None:
        """Start the epoch's means."""
        self.seen_2M.zero_()
        self.batches = 0

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on masked fused features and unmasked ones of each modality."""
        features, label_B = loop.encode(batch), batch["label"]
        own_MBC = loop.alone(features)
        with torch.no_grad():
            dependence_M = dependence(loop, own_MBC, features)
            ratio_M = mask_ratio(dependence_M, self.sigma, self.epsilon)
            self.seen_2M += torch.stack([dependence_M, ratio_M])
            self.batches += 1
        draw, width = self.draws(loop, ratio_M.device), features.rows[0].shape[1]
        draws = (uniform(features, draw, width) for _ in features.rows)
        rows = map(masked, features.rows, ratio_M, draws)
        joint = loop.loss(loop.fuse(features.with_rows(rows), self.all_1M), label_B)[0]
        own = own_loss(own_MBC, label_B, features).sum()
        loop.update(joint + self.weight * own, range(len(self.modalities)))
        return {"joint": joint.detach(), "own": own.detach()}

    def describe(self) -> dict[str, Any]:
        """Dependence and masked share of each modality, means over the epoch's batches."""
        rows = (self.seen_2M / max(self.batches, 1)).tolist()
        each = (dict(zip(self.modalities, row, strict=True)) for row in rows)
        return dict(zip(("dependence", "masked"), each, strict=True))


def dependence(loop: Loop, own_MBC: Tensor, features: Features) -> Tensor:
    """Each modality's share of the softmax over all modalities' logits, [M]; sums to 1.

    The mean over the samples of all ranks that have every modality; 0 where there is none.
    """
    share_MB = own_MBC.float().logsumexp(-1).softmax(0)
    whole_B = torch.ones_like(share_MB[0])
    if features.present_BM is not None:
        whole_B = features.present_BM.all(1).to(share_MB)
    sums = loop.mean(torch.cat([share_MB @ whole_B, whole_B.sum()[None]]))
    return torch.where(sums[-1] > 0, sums[:-1] / sums[-1], 0.0)


def mask_ratio(dependence_M: Tensor, sigma: float, epsilon: float) -> Tensor:
    """Return p = sin(π/2 · l / ε), l = M/2 · d − σ between 0 and ε: [M].

    Examples:
        >>> mask_ratio(torch.tensor([0.4, 0.6]), 0.5, 0.3)
        tensor([0.0000, 0.5000])
    """
    excess_M = (len(dependence_M) / 2 * dependence_M - sigma).clamp(0, epsilon)
    return torch.sin(math.pi / 2 * excess_M / epsilon)


def masked(h_BD: Tensor, ratio: Tensor, draw_BD: Tensor) -> Tensor:
    """Set a random share of each sample's features to 0, those of a low draw; scale up the rest."""
    keep_BD = draw_BD >= ratio
    scale = 1 / (1 - ratio).clamp_min(1 / LARGEST_SCALE)
    return h_BD * (keep_BD * scale).to(h_BD)
