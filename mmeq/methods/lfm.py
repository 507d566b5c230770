"""LFM: aligning the modalities first and fitting labels later, by a decaying weight.

Shape suffixes: B batch, M modalities, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.collective import whole_batch
from mmeq.errors import MmeqError, did_you_mean
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows

Schedule = Literal["reciprocal", "exponential"]


class Lfm(Method):
    """Learning the modality gap dynamically: contrastive alignment beside the fused loss.

    L = 2 (α_0 · CE(all) + α_1 · L_align), α_0 = 1 − α_1. L_align: symmetric InfoNCE over the batch
    of cos(h_a, h_b)/τ, the features of one sample the positive pair. Heuristic integration, in
    epoch t = 0, 1, …: α_1 = 1 − exp(−1/t) (``reciprocal``: the paper's [second-hand]) or exp(−r t)
    (``exponential``: the authors' code), kept within [least, most].

    Source: NeurIPS 2024, "Facilitating Multimodal Classification via Dynamically Learning Modality
    Gap".

    M > 2: the mean over pairs of modalities [ours]. A sample that lacks one of a pair leaves that
    pair out; a pair that fewer than two samples of the batch have counts as 0 [ours]. The batch is
    that of all processes.

    Departures from the authors' code: the contrastive loss of the paper, where theirs ends up with
    a divergence of the softmax of the features and has no negative pairs; τ from an unused function
    of it; the fusion is chosen freely, theirs averages unimodal logits. The learned (bilevel)
    weight is left out.

    Args:
        modalities: names.
        seed: of the run.
        schedule: of α_1: ``reciprocal`` or ``exponential``.
        rate: r of ``schedule=exponential``, per epoch.
        most: largest α_1, that of the first epoch.
        least: smallest α_1.
        temperature: τ.
    """

    min_modalities = 2
    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        schedule: Schedule = "reciprocal",
        rate: float = 0.3,
        most: float = 0.95,
        least: float = 0.05,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(modalities, seed)
        if schedule not in get_args(Schedule):
            hint = did_you_mean(schedule, get_args(Schedule))
            raise MmeqError(f"method.schedule={schedule!r} is unknown{hint}")
        self.check(
            rate=(rate, 0.0, float("inf")),
            most=(most, 0.0, 1.0),
            least=(least, 0.0, most),
            temperature=(temperature, 1e-6, float("inf")),
        )
        self.schedule, self.rate, self.most, self.least = schedule, rate, most, least
        self.temperature = temperature
        self.share = most
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)

    def alignment_share(self, epoch: int) -> float:
        """α_1 of an epoch: falls, and never below `least`."""
        if self.schedule == "exponential":
            share = math.exp(-self.rate * epoch)
        else:
            share = -math.expm1(-1 / epoch) if epoch else 1.0
        return min(max(share, self.least), self.most)

    def on_epoch_start(self, loop: Loop) -> None:
        """Set the weights of the epoch."""
        self.share = self.alignment_share(loop.epoch)

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the weighted sum."""
        features = loop.encode(batch)
        joint = loop.loss(loop.fuse(features, self.all_1M), batch["label"])[0]
        alignment = self.alignment(features)
        loss = 2 * ((1 - self.share) * joint + self.share * alignment)
        loop.update(loss, range(len(self.modalities)))
        return {"joint": joint.detach(), "alignment": alignment.detach()}

    def alignment(self, features: Features) -> Tensor:
        """L_align, the mean over pairs of modalities."""
        rows, present_BM, _ = whole_batch(features.rows, features.present_BM)
        unit_MBD = [F.normalize(row.float(), dim=-1) for row in rows]
        losses = []
        for a, b in combinations(range(len(unit_MBD)), 2):
            both_B = None if present_BM is None else present_BM[:, a] & present_BM[:, b]
            losses.append(info_nce(unit_MBD[a], unit_MBD[b], self.temperature, both_B))
        return torch.stack(losses).mean()

    def describe(self) -> dict[str, Any]:
        """The weights of the epoch."""
        return {"alignment_share": self.share}


def info_nce(
    a_BD: Tensor, b_BD: Tensor, temperature: float, both_B: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE of unit vectors, over the samples marked in `both_B`; 0 for less than two.

    Examples:
        >>> float(info_nce(torch.eye(2), torch.eye(2), 1.0))  # ln(1 + e⁻¹)
        0.313261...
    """
    with torch.autocast(a_BD.device.type, enabled=False):
        similarity_BB = a_BD @ b_BD.T / temperature
    target_B = torch.arange(len(a_BD), device=a_BD.device)
    if both_B is None:
        both_B = torch.ones_like(target_B, dtype=torch.bool)
    # far below any similarity, yet finite: a row without candidates must not become NaN
    far = -1e9
    each_2B = [
        F.cross_entropy(one.masked_fill(~both_B, far), target_B, reduction="none")
        for one in (similarity_BB, similarity_BB.T)
    ]
    mean_B = torch.stack(each_2B).mean(0)
    return torch.where(both_B, mean_B, 0.0).sum() / both_B.sum().clamp_min(1)
