"""MLA: one modality at a time through a shared head whose gradient spares what it has learnt.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.methods.base import Batch, Features, Loop, Method, own_mean, there
from mmeq.methods.heads import added, answer


class Mla(Method):
    """Alternating unimodal adaptation (CVPR 2024, 2311.10707); a head W of its own, no fusion.

    Each batch, for m = 1..M: L = CE(W h_m + b, y); step of encoder m and the head, where
    r = mean of h_m over the batch, k = P rᵀ, P ← P - k kᵀ/(α_t + r k), α_t = α^(1+b/B),
    P ← P/‖P‖_F, and ∇W Pᵀ replaces ∇W; b is the batch of B in the epoch, P = I at first.
    Test: o = Σ_m λ_m o_m, λ_m ∝ exp(H_max - H_m), H_m the entropy of the sample's softmax(o_m).

    M > 2: the same, in the dataset's order [paper: three modalities]. P is one matrix for all of
    them [second-hand: its index is the step, not the modality], so a step spares the directions
    of every modality before it and of its own mean. A sample counts in the steps of the modalities
    that it has, and is weighted over those [ours].

    Departures from the released code: it takes the test-time softmax over the batch, which gives
    one weight a batch and makes predictions depend on their neighbours; it divides k kᵀ entry by
    entry by the matrix α_t + k r, not by the number α_t + r k; it leaves the gradient of the very
    first step alone. Published with SGD: rate 1e-3, momentum 0.9, weight decay 1e-4, batch 64.

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        classes: C.
        alpha: α, above 0: the smaller, the stricter directions are spared.
        project: P at work; False is the paper's ablation.
        dynamic: λ at work; False is the mean of what there is, the paper's ablation.
    """

    partial_updates = True
    uses_fusion = False

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        *,
        dim: int,
        classes: int,
        alpha: float = 0.1,
        project: bool = True,
        dynamic: bool = True,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(alpha=(alpha, 1e-8, 1))
        self.alpha, self.project, self.dynamic = alpha, project, dynamic
        self.head = nn.Linear(dim, classes)
        self.projector_DD: Tensor
        self.register_buffer("projector_DD", torch.eye(dim))

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """Encode once, then a step a modality."""
        features = loop.encode(batch)
        losses = {}
        for m, name in enumerate(self.modalities):
            logits_BC = self.head(features.rows[m]).float()
            each_B = F.cross_entropy(logits_BC, batch["label"], reduction="none")
            loss = own_mean(each_B.expand(len(self.modalities), -1), features)[m]
            edit = partial(self._edit, loop, features, m) if self.project else None
            loop.update(loss, [m], edit=edit)
            losses[f"step/{name}"] = loss.detach()
        return losses

    def _edit(self, loop: Loop, features: Features, m: int) -> None:
        """Update P by the mean feature of m and project the gradient of the head's weight."""
        rows_BD = features.rows[m].detach().to(self.projector_DD)
        there_B = rows_BD.new_ones(len(rows_BD))
        if features.present_BM is not None:
            there_B = features.present_BM[:, m].to(rows_BD)
        # sums, so that a rank on which few have m counts little; zero where nobody has it
        sums = loop.mean(torch.cat([there_B @ rows_BD, there_B.sum()[None]]))
        r_D = sums[:-1] / sums[-1].clamp_min(1e-6)
        k_D = self.projector_DD @ r_D
        alpha = self.alpha ** (1 + loop.batch / loop.batches)
        left_DD = self.projector_DD - torch.outer(k_D, k_D) / (alpha + r_D @ k_D)
        self.projector_DD.copy_(left_DD / left_DD.norm().clamp_min(1e-12))
        grad_CD = self.head.weight.grad
        if grad_CD is not None:
            grad_CD.copy_(grad_CD @ self.projector_DD.T.to(grad_CD))

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]: the head's for each modality, weighted by certainty."""
        own_MBC = torch.stack([self.head(h) for h in features.rows]).float()
        there_SBM = there(features, coalitions_SM)
        score_BM = own_MBC.new_zeros(own_MBC.shape[:2]).T
        if self.dynamic:
            log_p_MBC = own_MBC.log_softmax(-1)
            score_BM = (log_p_MBC.exp() * log_p_MBC).sum(-1).T  # -H
        score_SBM = score_BM.expand(there_SBM.shape)
        lowest = torch.finfo(score_SBM.dtype).min
        weight_SBM = score_SBM.masked_fill(~there_SBM, lowest).softmax(-1)
        return answer(added(own_MBC, weight_SBM), there_SBM, loop.log_prior)

    def describe(self) -> dict[str, Any]:
        """How many of the D directions the head may still move in: tr(P)²/‖P‖²."""
        trace, norm = self.projector_DD.trace(), self.projector_DD.norm()
        return {"directions": float((trace / norm.clamp_min(1e-12)) ** 2)}
