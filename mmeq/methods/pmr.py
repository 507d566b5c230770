"""Prototypical modal rebalance: class prototypes pull the slower modality's features along.

Shape suffixes: B batch, M modalities, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, over, there

INF = float("inf")
NO_PROTOTYPE = -1e4
"""Similarity to a class without prototype: its softmax is 0, and 0 times it is finite."""
TOUCHING = 1e-5
"""Distance that counts as none: a norm of rounding alone has a gradient of full length."""


class Pmr(Method):
    """Joint training and, for the weaker modality, a cross-entropy over distances to prototypes.

    p_c^m: mean eval-mode feature of class c, ← ε p_c^m + (1 − ε) new at each epoch's start.
    q_m = softmax_c(−‖z_m − p_c^m‖₂); s_m = Σ_batch q_m[y]; ρ = s_0 / s_1.
    L = CE + α β CE(q_0, y) + α γ CE(q_1, y) − [epoch < E_r] μ (γ H(q_0) + β H(q_1)),
    β = clip(1/ρ − 1, 0, 1), γ = clip(ρ − 1, 0, 1): only the weaker modality's is not 0. The
    entropy H of the dominant one is raised in the early epochs.

    Source: 2211.07089, CVPR 2023; clip, weights of H, μ and E_r as the code of 2502.10816 has
    them [second-hand].

    M > 2 [ours]: relative to the largest s, that of the dominant modality: β_m = clip(max s / s_m
    − 1, 0, 1); H of the dominant one weighs μ max_m β_m. With two it is the paper's rule.

    The released code gives the weaker modality α whatever the gap, has no entropy term and makes
    NaN of a class that its share of the data does not show; on two data sets its prototypes are
    of validation or test data. Here: the weights above, training data alone; such a class keeps
    its prototype, and before it has one it is left out. Means are over samples that have m.

    Args:
        modalities: names.
        seed: of the run.
        alpha: α.
        momentum: ε, share of the past in a prototype.
        share: of the training part that prototypes are made of.
        start: first epoch of the extra terms.
        end: last epoch of them.
        entropy: μ.
        early: E_r, epochs from `start` on in which the dominant modality's entropy is raised.
        dim: D.
        classes: C.
    """

    min_modalities = 2
    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        alpha: float = 1.0,
        momentum: float = 0.5,
        share: float = 0.1,
        start: int = 0,
        end: int = 50,
        entropy: float = 0.01,
        early: int = 10,
        *,
        dim: int,
        classes: int,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(alpha=(alpha, 0, INF), momentum=(momentum, 0, 1), share=(share, 1e-6, 1))
        self.check(start=(start, 0, INF), end=(end, start, INF))
        self.check(entropy=(entropy, 0, INF), early=(early, 0, INF))
        self.alpha, self.momentum, self.share = alpha, momentum, share
        self.start, self.end, self.entropy, self.early = start, end, entropy, early
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        self.prototype_MCD: Tensor
        self.known_MC: Tensor
        self.register_buffer("prototype_MCD", torch.zeros(count, classes, dim))
        self.register_buffer("known_MC", torch.zeros(count, classes, dtype=torch.bool))
        self.seen: list[Tensor] = []

    @torch.no_grad()
    def on_epoch_start(self, loop: Loop) -> None:
        """Move the prototypes to the means that the encoders give now."""
        self.seen = []
        if not self.start <= loop.epoch <= self.end:
            return
        sum_MCD = torch.zeros_like(self.prototype_MCD)
        count_MC1 = sum_MCD[..., :1].clone()
        for batch, features in loop.sweep("train", self.share):
            class_BC = F.one_hot(batch["label"], self.known_MC.shape[1])
            member_MCB = (there(features, self.all_1M)[0].T[..., None] * class_BC).mT.float()
            sum_MCD += member_MCB @ torch.stack(features.rows).float()
            count_MC1 += member_MCB.sum(-1, keepdim=True)
        new_MCD = loop.mean(sum_MCD / count_MC1.clamp_min(1))
        moved_MCD = torch.lerp(new_MCD, self.prototype_MCD, self.momentum)
        new_MCD = torch.where(self.known_MC[..., None], moved_MCD, new_MCD)
        self.prototype_MCD.copy_(torch.where(count_MC1 > 0, new_MCD, self.prototype_MCD))
        self.known_MC |= count_MC1[..., 0] > 0

    def log_probability(self, features: Features) -> Tensor:
        """Of classes by the prototypes, log q: [M, B, C]."""
        rows_MBD = torch.stack(features.rows).float()
        exact = "donot_use_mm_for_euclid_dist"  # the faster way cancels digits
        near_MBC = -torch.cdist(rows_MBD, self.prototype_MCD, compute_mode=exact)
        near_MBC = near_MBC.masked_fill(near_MBC > -TOUCHING, 0.0)
        return near_MBC.masked_fill(~self.known_MC[:, None], NO_PROTOTYPE).log_softmax(-1)

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the joint loss and the two terms."""
        features, label_B = loop.encode(batch), batch["label"]
        loss = loop.loss(loop.fuse(features, self.all_1M), label_B)[0]
        losses = {"joint": loss.detach()}
        if self.start <= loop.epoch <= self.end:
            log_MBC = self.log_probability(features)
            true_MB = (log_MBC * F.one_hot(label_B, log_MBC.shape[-1])).sum(-1)
            used_MB = (there(features, self.all_1M)[0].T & self.known_MC[:, label_B]).float()
            with torch.no_grad():
                sum_M, has_M = loop.mean(torch.stack([true_MB.exp() * used_MB, used_MB]).sum(-1))
                score_M = sum_M / has_M.clamp_min(1e-9)
                beta_M = (score_M.max() / score_M.clamp_min(1e-30) - 1).clamp(0, 1) * (has_M > 0)
            near_M = over(-true_MB, used_MB)
            loss = loss + self.alpha * (beta_M * near_M).sum()
            losses["prototype"] = near_M.detach().mean()
            if loop.epoch < self.start + self.early:
                entropy_MB = -(log_MBC.exp() * log_MBC).sum(-1)
                first_M = F.one_hot(score_M.argmax(), len(score_M))
                raised = first_M.float() @ over(entropy_MB, used_MB)
                loss = loss - self.entropy * beta_M.max() * raised
            self.seen.append(torch.stack([score_M, beta_M]))
        loop.update(loss, range(len(self.modalities)))
        return losses

    def describe(self) -> dict[str, Any]:
        """The epoch's mean scores s and weights β."""
        if not self.seen:
            return {}
        score, beta = (
            dict(zip(self.modalities, row, strict=True))
            for row in torch.stack(self.seen).mean(0).tolist()
        )
        return {"prototype_scores": score, "weights": beta}
