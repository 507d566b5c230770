"""Detached encoders that teach each other their strong dimensions, and at last a head on all.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions, K voices: M and the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.collective import whole_batch
from mmeq.fusions.concat import Concat
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, own_mean, there
from mmeq.methods.heads import Heads, added, answer


class DiMml(Method):
    """DI-MML: detached and interactive multimodal learning (2407.19514, ACM MM 2024).

    Stage 1: L = Σ_m [CE(W_m h_m) + w CE(V h_m)], V shared, from epoch `contrast_from` on
    + Σ_{m→n} −log [exp(h_n·t_m/τ) / Σ_j exp(h_n·t_mj/τ)], j in the batch, t_m = h_m detached, over
    dimensions effective in m and not in n: those whose nearest class mean is the label's more
    often than in the average dimension. Stage 2: all frozen but o_0, a linear head on all h_m.
    Answer: Σ_k a_k o_k over k = 0..M, a = softmax_k(max_c softmax(o_k) / T), o_m = W_m h_m.

    M > 2: each ordered pair m → n, its loss over M − 1 [ours].

    Released: stage 2 is a run of its own (20 epochs after 150); here it ends the run, at the run's
    learning rate. Taken from there: plain products, τ = 50, dimensions chosen once, on all of the
    training part. Departures: a pair without any teaches nothing (there: log B). [ours] The head
    joins from stage 2 on, where a sample has two or more of S; for an absent feature: its mean.

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        classes: C.
        shared_weight: w.
        contrast_from: first epoch of the contrast.
        contrast_temperature: τ.
        stage2_share: share of the epochs before stage 2; 1: no stage 2.
        temperature: T.
    """

    partial_updates = True
    uses_fusion = False
    min_modalities = 2

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        *,
        dim: int,
        classes: int,
        shared_weight: float = 1.0,
        contrast_from: int = 20,
        contrast_temperature: float = 50.0,
        stage2_share: float = 0.88,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(modalities, seed)
        most, tiny = float("inf"), 1e-6
        self.check(shared_weight=(shared_weight, 0, most), contrast_from=(contrast_from, 0, most))
        self.check(contrast_temperature=(contrast_temperature, tiny, most))
        self.check(stage2_share=(stage2_share, 0, 1), temperature=(temperature, tiny, most))
        self.shared_weight, self.temperature = shared_weight, temperature
        self.contrast_from, self.stage2_share = contrast_from, stage2_share
        self.contrast_temperature, count = contrast_temperature, len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        self.heads, self.shared = Heads(count, dim, classes), nn.Linear(dim, classes)
        self.concat = Concat(count, dim, classes, torch.full((classes,), 1 / classes))
        self.effective_MD: Tensor
        self.register_buffer("effective_MD", torch.zeros(count, dim, dtype=torch.bool))
        self.second_stage = False

    def on_epoch_start(self, loop: Loop) -> None:
        """Enter the stages."""
        self.second_stage = loop.epoch >= round(self.stage2_share * loop.epochs)
        if loop.epoch == self.contrast_from and not self.second_stage:
            self.effective_MD.copy_(self._effective(loop))

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of all encoders and classifiers, or of the head alone."""
        features = loop.encode(batch, [] if self.second_stage else None)
        if self.second_stage:
            self.concat.observe(features.rows, features.present_BM)
            fused_SBC = self.concat(features.rows, self.all_1M, None, features.present_BM)
            loss = loop.loss(fused_SBC, batch["label"])[0]
            loop.update(loss, [])
            return {"joint": loss.detach()}
        logits = torch.cat([self.heads(features.rows), self.shared(torch.stack(features.rows))])
        label = batch["label"].expand(len(logits), -1)
        own_MB, common_MB = F.cross_entropy(logits.mT.float(), label, reduction="none").chunk(2)
        loss_M = own_mean(own_MB + self.shared_weight * common_MB, features)
        losses = {f"step/{name}": loss_M[m] for m, name in enumerate(self.modalities)}
        if loop.epoch >= self.contrast_from:
            losses["contrast"] = self._contrast(features)
        loop.update(sum(losses.values(), start=loss_M.new_zeros(())), range(len(self.modalities)))
        return {name: loss.detach() for name, loss in losses.items()}

    def _contrast(self, features: Features) -> Tensor:
        """What the pairs teach: the mean over samples of all ranks that have both."""
        features = Features(*whole_batch(features.rows, features.present_BM)[:2])
        has_MB, total = there(features, self.all_1M)[0].T, features.rows[0].new_zeros(())
        for m, n in permutations(range(len(self.modalities)), 2):
            dims_D, both_B = self.effective_MD[m] & ~self.effective_MD[n], has_MB[m] & has_MB[n]
            near_BB = (features.rows[n] * dims_D) @ features.rows[m].detach().T
            near_BB = (near_BB.float() / self.contrast_temperature).masked_fill(~has_MB[m], -1e9)
            error_B = -near_BB.log_softmax(1).diagonal() * (both_B & dims_D.any())
            total = total + error_B.sum() / both_B.sum().clamp_min(1)
        return total / (len(self.modalities) - 1)

    def _effective(self, loop: Loop) -> Tensor:
        """Bool [M, D]: the dimensions that tell the classes apart better than the average one."""
        size_MC1, total_MCD, right_MD = (torch.zeros(()) for _ in range(3))
        for batch, features in loop.sweep():
            has_MB1 = there(features, self.all_1M)[0].T[..., None]
            own_MBC = (has_MB1 * F.one_hot(batch["label"], self.shared.out_features)).float()
            size_MC1 = size_MC1 + own_MBC.sum(1)[..., None]
            total_MCD = total_MCD + own_MBC.mT @ torch.stack(features.rows).float()
        mean_MCD = (total_MCD / size_MC1.clamp_min(1)).masked_fill(size_MC1 == 0, torch.inf)
        for batch, features in loop.sweep():
            has_MB1 = there(features, self.all_1M)[0].T[..., None]
            rows_MB1D = torch.stack(features.rows).float()[:, :, None]
            nearest_MBD = (rows_MB1D - mean_MCD[:, None]).abs().argmin(2)
            right_MD = right_MD + (has_MB1 & (nearest_MBD == batch["label"][:, None])).sum(1)
        share_MD = loop.mean(right_MD / size_MC1.sum(1).clamp_min(1))
        return share_MD > share_MD.mean(1, keepdim=True)

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]: the surer a voice, the louder; the head has one from stage 2 on."""
        own_MBC, there_SBM = self.heads(features.rows), there(features, coalitions_SM)
        head_SBC = self.concat(features.rows, coalitions_SM, None, features.present_BM)
        sure_MB, sure_SB = (x.float().softmax(-1).amax(-1) for x in (own_MBC, head_SBC))
        sure_SBK = torch.cat([sure_MB.T.expand_as(there_SBM), sure_SB[..., None]], -1)
        joins_SB1 = (there_SBM.sum(-1, keepdim=True) > 1) & self.concat.moments.count_MM.any()
        voice_SBK = torch.cat([there_SBM, joins_SB1], -1)
        weight_SBK = (sure_SBK / self.temperature).masked_fill(~voice_SBK, -1e9).softmax(-1)
        logits_SBC = added(own_MBC, weight_SBK[..., :-1]) + weight_SBK[..., -1:] * head_SBC
        return answer(logits_SBC, there_SBM, loop.log_prior)

    def describe(self) -> dict[str, Any]:
        """The stage, and how many dimensions of each modality are effective once chosen."""
        effective = dict(zip(self.modalities, self.effective_MD.sum(1).tolist(), strict=True))
        return {"stage": 1 + self.second_stage, "effective": effective}
