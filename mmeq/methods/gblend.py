"""Gradient blending: losses of all heads, weighted by generalisation over overfitting squared.

Shape suffixes: B batch, M modalities, C classes, K heads (each modality, then the joint one),
V coalitions of a report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.collective import mean_over_ranks
from mmeq.game.report import GameReport
from mmeq.methods.base import Batch, Loop, coalition_rows, own_loss
from mmeq.methods.heads import HeadedMethod


class GBlend(HeadedMethod):
    """G-Blend, online (Wang et al., CVPR 2020, arXiv 1905.12681).

    L = Σ_k w_k L_k over the heads k ∈ {each modality, joint}. After a super-epoch, from its start
    N to its end N+n: G_k = V_k(N) − V_k(N+n), O_k = (V_k − T_k)(N+n) − (V_k − T_k)(N),
    w_k = G_k/O_k² / Σ_j G_j/O_j², V the validation NLL, T the training NLL.
    [ours] max(G_k, 0), max(|O_k|, floor); if no G_k > 0 the weights stay; a part of the weight,
    ``even``, is spread equally: a head at weight 0 could not show that it learns again.

    M > 2: as it stands, M + 1 heads.

    Departures: offline G-Blend measures w_k once, in a training run of each head alone; the online
    form repeats such probing runs from a copy of the model at each super-epoch's start. Here [ours]
    G and O are read off the blended run itself and weigh the *next* super-epoch. The first one has
    equal weights, and its N is the end of the first epoch. T is the mean over an epoch's batches as
    they were trained on. Who lacks a modality counts in neither of its losses.

    Args:
        modalities: names.
        seed: of the run.
        super_epoch: n, epochs.
        floor: least |O_k|, nats.
        even: share of the weight that is spread equally; 0 is the paper's formula, 1 no blending.
        dim: D.
        classes: C.
    """

    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        super_epoch: int = 10,
        floor: float = 0.05,
        even: float = 0.1,
        *,
        dim: int,
        classes: int,
    ) -> None:
        super().__init__(modalities, seed, dim=dim, classes=classes)
        self.check(super_epoch=(super_epoch, 1, math.inf), floor=(floor, 1e-9, math.inf))
        self.check(even=(even, 0, 1))
        self.super_epoch, self.floor, self.even = super_epoch, floor, even
        count = len(self.modalities)
        self.weight_K: Tensor
        self.register_buffer("weight_K", torch.full((count + 1,), 1 / (count + 1)))
        self.tally_2K: Tensor  # of the epoch: sums of losses, samples
        self.register_buffer("tally_2K", torch.zeros(2, count + 1), persistent=False)
        self.start: list[list[float]] | None = None  # V and T of each head
        self.share: list[float] | None = None  # of the validation samples, by modality
        self.coalitions_1M = coalition_rows([range(count)], count)

    def on_epoch_start(self, loop: Loop) -> None:
        """Forget the last epoch's losses; count once who has what in the validation part."""
        self.tally_2K.zero_()
        if self.start is not None and self.share is None:
            self.share = validation_share(loop, len(self.modalities))

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of everything on the blended loss."""
        label_B, features = batch["label"], loop.encode(batch)
        joint = loop.loss(loop.fuse(features, self.coalitions_1M), label_B)[0]
        own_M = own_loss(self.heads(features.rows), label_B, features)
        loss_K = torch.cat([own_M, joint[None]])
        loop.update(self.weight_K @ loss_K, range(len(self.modalities)))
        self._count(loop, loss_K.detach(), features.present_BM, len(label_B))
        heads = {f"head/{name}": own_M[m].detach() for m, name in enumerate(self.modalities)}
        return {"joint": joint.detach(), **heads}

    def _count(self, loop: Loop, loss_K: Tensor, present_BM: Tensor | None, batch: int) -> None:
        """Add a batch to the epoch's training losses; all ranks' after the last batch."""
        samples_K = torch.full_like(loss_K, batch)
        if present_BM is not None:
            samples_K[:-1] = present_BM.sum(0)
        samples_K = mean_over_ranks(samples_K)  # as the losses are, see `over`
        self.tally_2K += torch.stack([loss_K * samples_K, samples_K])
        if loop.batch + 1 == loop.batches:
            self.tally_2K.copy_(loop.mean(self.tally_2K))

    def on_report(self, report: GameReport, epoch: int) -> None:
        """At the end of a super-epoch: set the weights of the next one."""
        nll_V = report.values["nll"].double().cpu()
        valid_K = torch.cat([report.alone_in("nll").double().cpu(), nll_V[-1:]])
        sum_K, samples_K = self.tally_2K.double().cpu()
        train_K = sum_K / samples_K.clamp_min(1)
        ended = (epoch + 1) % self.super_epoch == 0
        if ended and self.start is not None:
            self._blend(valid_K, train_K)
        if ended or self.start is None:
            self.start = [valid_K.tolist(), train_K.tolist()]

    def _blend(self, valid_K: Tensor, train_K: Tensor) -> None:
        """Weights from what changed since the super-epoch's start."""
        before_2K = torch.tensor(self.start, dtype=torch.float64)
        share_K = torch.tensor([*(self.share or [1.0] * len(self.modalities)), 1.0]).double()
        # who lacks m is answered by a constant: its share of v({m}) does not change
        rise_K = (valid_K - before_2K[0]) / share_K.clamp_min(1e-12)
        growth_K = rise_K - (train_K - before_2K[1])
        worth_K = (-rise_K).clamp_min(0) / growth_K.abs().clamp_min(self.floor).square()
        total = float(worth_K.sum())
        if total > 0:  # NaN neither
            blended_K = self.even / len(worth_K) + (1 - self.even) * worth_K / total
            self.weight_K.copy_(blended_K)

    def describe(self) -> dict[str, Any]:
        """The weights of the next epoch."""
        names = (*self.modalities, "joint")
        return {"weights": dict(zip(names, self.weight_K.tolist(), strict=True))}

    def state(self) -> dict[str, Any]:
        """Losses at the super-epoch's start, and who has what."""
        return {**super().state(), "start": self.start, "share": self.share}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        super().load_state(state)
        self.start, self.share = state["start"], state["share"]


def validation_share(loop: Loop, modalities: int) -> list[float]:
    """The share of the validation samples that has each modality."""
    have_M, samples = torch.zeros(modalities), 0
    for batch, features in loop.sweep("validation"):
        if features.present_BM is None:
            return [1.0] * modalities
        have_M += features.present_BM.sum(0).cpu()
        samples += len(batch["label"])
    return (have_M / samples).tolist()
