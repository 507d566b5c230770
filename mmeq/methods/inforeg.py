"""Information acquisition regulation: a pull on the dominant encoder (Huang et al., CVPR 2025).

Shape suffixes: B batch, M modalities, C classes, S coalitions, K epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.methods.base import Batch, Loop, Method, coalition_rows, own_loss, trained
from mmeq.methods.dominance import scores


class InfoReg(Method):
    """Hold the dominant encoder back for as long as it takes information in fast.

    T_t = mean ‖∇_θm L‖² over the batches of epoch t, the Fisher trace of encoder m; T̄_t its mean
    over the last K epochs. m is in its prime window at first and while (T̄_t − T̄_{t−1}) / T̄_t >
    threshold. In it, where m dominates: ∇_θm ← ∇_θm + β (θ_m − θ_m of the epoch's start), with
    β = β_0 exp(tanh(s_m − s_other)), s_m = mean softmax(o_m)[y] of the batch, o_m m's own logits;
    L = CE(all) + λ Σ_m CE(o_m) [arXiv 2503.18595; second-hand: λ, K and T̄_t, of its released code].

    M > 2: the modality of the largest s is pulled, against the smallest s of the others [ours].

    Departures from the authors' released code: it looks at the audio encoder's trace alone, here
    each encoder has its own window; its β_0 is 0.1 for video by name, here one for all; its gap is
    a sum over the batch, which saturates tanh, so that its β is 2.58 almost always; its trace has
    the pull in it and means over each convolution's or linear map's weights, here it is that of
    the loss, by all the encoder's parameters.

    Args:
        modalities: names.
        seed: of the run.
        beta: β_0, strength of the pull.
        threshold: least growth of the trace in the window.
        smooth: K, epochs of the running mean; those before the first count as 0.
        weight: λ of the unimodal losses.
    """

    min_modalities = 2

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        beta: float = 0.95,
        threshold: float = 0.05,
        smooth: int = 10,
        weight: float = 1.0,
    ) -> None:
        super().__init__(modalities, seed)
        most = float("inf")
        self.check(beta=(beta, 0, most), threshold=(threshold, -most, most))
        self.check(smooth=(smooth, 1, most), weight=(weight, 0, most))
        self.beta, self.threshold, self.weight = beta, threshold, weight
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        self.past_KM: Tensor
        self.trace_M: Tensor
        self.batches: Tensor
        self.register_buffer("past_KM", torch.zeros(smooth + 1, count))
        self.register_buffer("trace_M", torch.zeros(count))  # sum over the epoch's batches
        self.register_buffer("batches", torch.zeros(()))
        self.growth: list[float] = []
        self.first: dict[int, list[Tensor]] = {}
        self.kept: list[Tensor] = []

    def on_epoch_start(self, loop: Loop) -> None:
        """See whose window is open, and copy the weights of those encoders."""
        if self.batches > 0:
            self.past_KM.copy_(torch.cat([self.past_KM[1:], (self.trace_M / self.batches)[None]]))
            self.trace_M.zero_()
            self.batches.zero_()
        now_M, before_M = self.past_KM[1:].mean(0), self.past_KM[:-1].mean(0)
        self.growth = torch.where(now_M > 0, (now_M - before_M) / now_M, 1.0).tolist()
        self.first = {
            m: [parameter.detach().clone() for parameter in trained(loop.encoder(m))]
            for m, growth in enumerate(self.growth)
            if growth > self.threshold
        }
        self.kept = []

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on fused and unimodal losses, the dominant encoder pulled back."""
        features, label = loop.encode(batch), batch["label"]
        joint = loop.loss(loop.fuse(features, self.all_1M), label)[0]
        own_MBC = loop.alone(features)
        losses = {"joint": joint.detach()}
        loss = joint
        if self.weight:
            unimodal = own_loss(own_MBC, label, features).sum()
            loss = joint + self.weight * unimodal
            losses["unimodal"] = unimodal.detach()
        pull_M = self.pulls(*scores(loop, features, own_MBC, label))
        self.kept.append(pull_M)
        loop.update(loss, range(len(self.modalities)), edit=lambda: self.regulate(loop, pull_M))
        return losses

    def pulls(self, score_M: Tensor, rival_M: Tensor) -> Tensor:
        """β of the dominant modality, 0 of the others: [M]."""
        gap_M = score_M - rival_M
        leads_M = (score_M == score_M.amax()) & (gap_M > 0)
        return torch.where(leads_M, self.beta * torch.exp(torch.tanh(gap_M)), 0.0)

    def regulate(self, loop: Loop, pull_M: Tensor) -> None:
        """Add the batch's gradients to the traces, then the pull to the gradients."""
        self.batches += 1
        for m, pull in enumerate(pull_M):
            parameters = trained(loop.encoder(m))
            for parameter in parameters:
                if parameter.grad is not None:
                    self.trace_M[m] += parameter.grad.float().square().sum()
            if m not in self.first:
                continue
            for parameter, first in zip(parameters, self.first[m], strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(pull * (parameter - first))

    def describe(self) -> dict[str, Any]:
        """The epoch's traces, the growth that opened its windows, its mean pulls in those."""
        trace_M = self.trace_M / self.batches.clamp_min(1)
        found = {"growth": self.growth, "trace": trace_M.tolist()}
        if self.kept:
            mean = torch.stack(self.kept).mean(0).tolist()
            found["pull"] = [value if m in self.first else 0.0 for m, value in enumerate(mean)]
        rows = {key: row for key, row in found.items() if row}
        return {key: dict(zip(self.modalities, row, strict=True)) for key, row in rows.items()}
