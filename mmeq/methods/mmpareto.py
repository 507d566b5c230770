"""MMPareto: one direction that serves the fused and the unimodal loss, at no smaller a magnitude.

Shape suffixes: B batch, M modalities, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.methods.base import Batch, Loop, coalition_rows, own_loss, trained
from mmeq.methods.heads import HeadedMethod


class MmPareto(HeadedMethod):
    """Pareto integration of the multimodal and the unimodal gradient of each encoder.

    L = L_J + Σ_m L_m: cross-entropy of the fusion, and of a head for each modality. For encoder m
    with g_J = ∇L_J, g_m = ∇L_m, over all of its parameters: ⟨g_J, g_m⟩ ≥ 0: w_J = w_m = ½; else
    w_J = argmin ‖w g_J + (1−w) g_m‖² = (‖g_m‖² − ⟨g_J, g_m⟩) / ‖g_J − g_m‖², w_m = 1 − w_J.
    g = 2 w_J g_J + 2 w_m g_m; each parameter tensor becomes γ · g · max(1, ‖g_J + g_m‖ / ‖g‖).
    Heads and fusion follow the plain sum L.

    Source: ICML 2024, arXiv 2405.17730.

    M > 2: the same, each encoder has two gradients however many modalities there are. A sample
    without the modality leaves L_m out [ours].

    Departures from the authors' code: two backwards a batch in place of M + 2, since L_m touches no
    other encoder and g_J is the plain sum's gradient less g_m (equal up to rounding, which under
    bf16 is some 0.5 % of the longer one); halves at ⟨g_J, g_m⟩ = 0 too, so that a loss that says
    nothing of an encoder does not stop it; a zero g stays zero (there: 0/0). BalanceBenchmark's
    copy does not zero gradients between the losses, so that g_m stands in both of its gradients;
    here each is the gradient of its own loss.

    Args:
        modalities: names.
        seed: of the run.
        gamma: γ, by which the magnitude is enhanced.
        dim: D.
        classes: C.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        gamma: float = 1.5,
        *,
        dim: int,
        classes: int,
    ) -> None:
        super().__init__(modalities, seed, dim=dim, classes=classes)
        self.check(gamma=(gamma, 0.0, float("inf")))
        self.gamma = gamma
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        # sums over the epoch, for its record only: batches, conflicts, w_J
        self.batches: Tensor
        self.conflicts_M: Tensor
        self.weights_M: Tensor
        self.register_buffer("batches", torch.zeros(()), persistent=False)
        self.register_buffer("conflicts_M", torch.zeros(count), persistent=False)
        self.register_buffer("weights_M", torch.zeros(count), persistent=False)

    def on_epoch_start(self, loop: Loop) -> None:
        """Forget the last epoch's sums."""
        for total in (self.batches, self.conflicts_M, self.weights_M):
            total.zero_()

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of everything, the encoders along the integrated gradients."""
        features, label_B = loop.encode(batch), batch["label"]
        joint = loop.loss(loop.fuse(features, self.all_1M), label_B)[0]
        own = own_loss(self.heads(features.rows), label_B, features).sum()
        every = range(len(self.modalities))
        gradients = loop.gradients(own, every)
        loop.update(joint + own, every, edit=lambda: self.integrate(loop, gradients))
        return {"joint": joint.detach(), "heads": own.detach()}

    def integrate(self, loop: Loop, gradients: dict[int, list[Tensor]]) -> None:
        """Replace the sum's gradient of each encoder, given the unimodal part of it."""
        self.batches += 1
        for m, own_gradients in gradients.items():
            sums = (parameter.grad for parameter in trained(loop.encoder(m)))
            pairs = [
                (total, own)
                for total, own in zip(sums, own_gradients, strict=True)
                if total is not None
            ]
            zero = self.batches.new_zeros(())
            dot = sum((((total - own) * own).sum() for total, own in pairs), zero)
            joint_square = sum(((total - own).square().sum() for total, own in pairs), zero)
            own_square = sum((own.square().sum() for _, own in pairs), zero)
            weight = joint_weight(joint_square, dot, own_square)
            for total, own in pairs:
                mixed = 2 * weight * (total - own) + 2 * (1 - weight) * own
                total.copy_(self.gamma * mixed * enlargement(total, mixed))
            self.conflicts_M[m] += dot < 0
            self.weights_M[m] += weight

    def describe(self) -> dict[str, Any]:
        """Share of the epoch's batches in which the gradients conflicted, and the mean w_J."""
        batches = float(self.batches)
        if not batches:
            return {}
        means = {"conflict": self.conflicts_M / batches, "weight": self.weights_M / batches}
        return {
            name: dict(zip(self.modalities, mean_M.tolist(), strict=True))
            for name, mean_M in means.items()
        }


def joint_weight(joint_square: Tensor, dot: Tensor, own_square: Tensor) -> Tensor:
    """w_J from ‖g_J‖², ⟨g_J, g_m⟩ and ‖g_m‖².

    Examples:
        >>> joint_weight(torch.tensor(1.0), torch.tensor(-1.0), torch.tensor(4.0))  # (1,0), (-1,√3)
        tensor(0.7143)
    """
    least_norm = (own_square - dot) / (joint_square + own_square - 2 * dot)
    return torch.where(dot < 0, least_norm, 0.5)


def enlargement(total: Tensor, mixed: Tensor) -> Tensor:
    """What brings a mixed gradient up to the norm of the plain sum; 1 where it is no shorter."""
    norm = mixed.norm()
    return torch.where(norm > 0, (total.norm() / norm).clamp_min(1), 1.0)
