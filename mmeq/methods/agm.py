"""Adaptive gradient modulation through Shapley terms of the logits (Li et al., ICCV 2023).

Shape suffixes: B batch, M modalities, C classes, S coalitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.game.coalitions import all_coalitions
from mmeq.game.shapley import shapley_weights
from mmeq.methods.base import Batch, Loop, Method, there
from mmeq.methods.heads import answer

FLOOR = 1e-8
"""Least probability whose logarithm counts [released code]."""


class Agm(Method):
    """Split the fused logits f(all) into Shapley terms φ_m and scale the gradient through each.

    φ_m = Σ_{S∌m} |S|!(M−|S|−1)!/M! [f(S∪m) − f(S)], f(∅) = 0, so o = Σ_m φ_m = f(all);
    s_m = mean NLL of softmax(φ_m), its running mean s̄_m; r_m = exp(mean_{j≠m} s_j − s_m),
    τ_m the same of s̄; κ_m = exp(α min(τ_m − r_m, cap)); L = CE(Σ_m κ_m φ_m + (1−κ_m) sg[φ_m]),
    sg: no gradient [paper: arXiv 2308.07686]. Cap 10 for M = 2, 7 for more [released code].

    M > 2: the same; for three, r_m is the published exp(3/2 (mean_j s_j − s_m)), and from four on
    that exponent goes on as M/(M−1) [ours]. A batch needs all 2^M coalitions: up to 8 modalities.

    Departures from the authors' released code: it encodes each coalition anew with inputs of
    zeros, in eval mode; here encoders run once and an absent feature is what the fusion puts there
    (``fusion.absence=input`` is nearest to theirs). It has one formula a number of modalities,
    written out; here is the general one. A sample that lacks m has φ_m = 0 and no part in s_m,
    and a batch in which nobody has m counts as s_m = s̄_m [ours]. Published with
    ``optim.clip_norm=1``.

    Args:
        modalities: names.
        seed: of the run.
        alpha: α, how strongly.
    """

    min_modalities = 2
    max_modalities = 8
    shares = True

    def __init__(self, modalities: Sequence[str], seed: int = 0, alpha: float = 1.0) -> None:
        super().__init__(modalities, seed)
        self.check(alpha=(alpha, 0, float("inf")))
        self.alpha = alpha
        count = len(self.modalities)
        self.cap = 10.0 if count == 2 else 7.0
        self.running_M: Tensor
        self.batches_M: Tensor
        self.register_buffer("running_M", torch.zeros(count))
        self.register_buffer("batches_M", torch.zeros(count))
        self.kept: list[Tensor] = []

    def on_epoch_start(self, loop: Loop) -> None:
        """Forget the coefficients of the epoch before."""
        self.kept = []

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the sum of the terms, the gradient through each of them scaled."""
        features, label = loop.encode(batch), batch["label"]
        coalitions_SM = all_coalitions(len(self.modalities))[1:]
        there_SBM = there(features, coalitions_SM)
        value_SBC = loop.fuse(features, coalitions_SM).float()
        # what a sample has nothing of is worth 0, as the empty coalition, not the prior
        value_SBC = torch.where(there_SBM.any(-1, keepdim=True), value_SBC, 0.0)
        term_MBC = terms(value_SBC)
        factor_M = self.factors(*self.score(loop, term_MBC, label, there_SBM[-1]))
        self.kept.append(factor_M)
        factor_M11 = factor_M[:, None, None]
        term_MBC = factor_M11 * term_MBC + (1 - factor_M11) * term_MBC.detach()
        logits_1BC = answer(term_MBC.sum(0, keepdim=True), there_SBM[-1:], loop.log_prior)
        loss = loop.loss(logits_1BC, label)[0]
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss.detach()}

    @torch.no_grad()
    def score(
        self, loop: Loop, term_MBC: Tensor, label_B: Tensor, there_BM: Tensor
    ) -> tuple[Tensor, Tensor]:
        """s_m [M] over all ranks' samples that have m, and which m [M] somebody has."""
        count, batch, _ = term_MBC.shape
        loss_MB = F.cross_entropy(
            term_MBC.flatten(0, 1), label_B.repeat(count), reduction="none"
        ).view(count, batch)
        loss_MB = loss_MB.clamp_max(-math.log(FLOOR))
        there_MB = there_BM.T.to(loss_MB)
        sums_2M = torch.stack([(loss_MB * there_MB).sum(1), there_MB.sum(1)])
        total_M, number_M = loop.mean(sums_2M)
        seen_M = number_M > 0
        return torch.where(seen_M, total_M / number_M, self.running_M), seen_M

    @torch.no_grad()
    def factors(self, score_M: Tensor, seen_M: Tensor) -> Tensor:
        """κ_m [M] against the running means so far; then these take the new scores in."""
        gain_M = ratio(self.running_M) - ratio(score_M)
        self.batches_M.add_(seen_M)
        share_M = seen_M / self.batches_M.clamp_min(1)
        self.running_M.add_(share_M * (score_M - self.running_M))
        return torch.exp(self.alpha * gain_M.clamp_max(self.cap))

    def describe(self) -> dict[str, Any]:
        """Running scores, and the mean κ_m over the epoch's batches."""
        found = {"score": self.running_M.tolist()}
        if self.kept:
            found["coefficient"] = torch.stack(self.kept).mean(0).tolist()
        return {key: dict(zip(self.modalities, row, strict=True)) for key, row in found.items()}


def terms(value_SBC: Tensor) -> Tensor:
    """Shapley terms φ [M, B, C] of the logits of all coalitions but the empty one, worth 0."""
    modalities = (len(value_SBC) + 1).bit_length() - 1
    weight_MS = shapley_weights(modalities)[:, 1:].to(value_SBC, non_blocking=True)
    return torch.einsum("ms,sbc->mbc", weight_MS, value_SBC)


def ratio(score_M: Tensor) -> Tensor:
    """exp(mean of the others' scores − own score), [M]."""
    count = len(score_M)
    return torch.exp((score_M.mean() - score_M) * count / (count - 1))
