"""Balanced conditional learning speed: cross gates, and windows that train one branch alone.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from mmeq.fusions.moments import RunningMoments
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, own_mean, there


class Greedy(Method):
    """Balanced multi-modal learning by conditional learning speed (2202.05306, ICML 2022).

    Gates (MMTM): z = relu(W_z [h_1;…;h_M]), h'_m = 2σ(W_m z) ⊙ h_m; L = Σ_m CE(ŷ_m), ŷ their mean.
    μ(θ) = ‖∇θ‖² / ‖θ‖²; s_m = log10 Σ_t μ(W_z, W_m) / Σ_t μ(f_m): how fast branch m learns from
    the *other* modalities. max s − min s > ε: for Q steps train the branch of the largest s alone,
    its gate at its running average, so that it must learn from m; then one step of all at least.
    M > 2: largest against smallest s [ours]; the published difference is that of two.

    Departures: gates at the final features only, not at two earlier layers; f_m has no readout. The
    released code gates by σ without the 2, averages the first modality's gates for both and at
    evaluation too, trains all branches in a window: not here. What is absent enters z by its mean
    feature, as in conditional utilisation [ours], and no average or loss.

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        ratio: z has 2·M·D / ratio units.
        epsilon: ε, tolerated difference of speeds.
        window: Q.
        start: first epochs, which only measure speeds.
        fused: L = CE(all), for fusions that are no mean of unimodal logits [ours].
    """

    partial_updates = True
    min_modalities, max_modalities = 2, 6

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        *,
        dim: int,
        ratio: float = 4.0,
        epsilon: float = 0.01,
        window: int = 5,
        start: int = 1,
        fused: bool = False,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(ratio=(ratio, 1, math.inf), epsilon=(epsilon, 0, math.inf))
        self.check(window=(window, 1, math.inf), start=(start, 0, math.inf))
        self.epsilon, self.window, self.start, self.fused = epsilon, window, start, fused
        count = len(self.modalities)
        width = max(1, int(2 * count * dim / ratio))
        self.squeeze = nn.Linear(count * dim, width)
        self.gates = nn.ModuleList(nn.Linear(width, dim) for _ in range(count))
        self.means = RunningMoments(count, dim, cross=False)
        self.averages = RunningMoments(count, dim, cross=False, decay=1.0)  # of gates, ever
        self.updates_2M: Tensor  # Σ_t μ of gates and of encoders
        self.register_buffer("updates_2M", torch.zeros(2, count))
        self.all_1M = coalition_rows([range(count)], count)
        self.left = self.slow = self.alone = 0  # steps left of a window, whose, such steps so far

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of all branches, or in a window of the slow one."""
        stepped = [self.slow] if self.left else list(range(len(self.modalities)))
        features = loop.encode(batch, stepped)
        self.means.update(features.rows, features.present_BM)
        gates = self.scales(features.rows, there(features, self.all_1M)[0])
        self.averages.update(gates, features.present_BM)
        if self.left:
            gates = [gate.detach() for gate in gates]
            gates[self.slow] = self.averages.mean_MD[self.slow].to(gates[self.slow])
        gated = features.with_rows(g * h for g, h in zip(gates, features.rows, strict=True))
        if self.fused:
            losses = {"joint": loop.loss(loop.fuse(gated, self.all_1M), batch["label"])[0]}
        else:
            target_MB = batch["label"].expand(len(self.modalities), -1)
            own_MBC = loop.alone(gated).float()
            own_M = own_mean(F.cross_entropy(own_MBC.mT, target_MB, reduction="none"), features)
            losses = {f"step/{self.modalities[m]}": own_M[m] for m in stepped}
        total = torch.stack(list(losses.values())).sum()
        loop.update(total, stepped, None if self.left else lambda: self.measure(loop))
        if len(stepped) == 1:
            self.left, self.alone = self.left - 1, self.alone + 1
        return {name: loss.detach() for name, loss in losses.items()}

    def scales(self, rows: Sequence[Tensor], there_BM: Tensor) -> list[Tensor]:
        """The gates 2σ(W_m z), M × [B, D], of what each sample has."""
        each = zip(there_BM.T[..., None], rows, self.means.mean_MD, strict=True)
        filled = [torch.where(has_B1, h, mean_D.to(h)) for has_B1, h, mean_D in each]
        z = torch.relu(self.squeeze(torch.cat(filled, 1)))
        return [2 * torch.sigmoid(gate(z)) for gate in self.gates]

    def measure(self, loop: Loop) -> None:
        """Add up μ and open a window where speeds differ; between backward and step."""
        parts = [[self.squeeze, gate] for gate in self.gates]
        parts += [[loop.encoder(m)] for m in range(len(self.modalities))]
        fresh = torch.stack([relative_update(part, self.updates_2M) for part in parts])
        self.updates_2M += loop.mean(fresh).view(2, -1)
        known = self.speeds() if loop.epoch >= self.start else {}
        if known and max(known.values()) - min(known.values()) > self.epsilon:
            self.left, self.slow = self.window, max(known, key=lambda m: known[m])

    def speeds(self) -> dict[int, float]:
        """s_m of the modalities that have one: a frozen encoder has none."""
        each = enumerate((self.updates_2M[0] / self.updates_2M[1]).log10().tolist())
        return {m: speed for m, speed in each if math.isfinite(speed)}

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]: gates see of each sample what it has of the coalition."""
        parts = []
        for s, there_BM in enumerate(there(features, coalitions_SM)):
            pairs = zip(self.scales(features.rows, there_BM), features.rows, strict=True)
            gated = features.with_rows(gate * h for gate, h in pairs)
            parts.append(loop.fuse(gated, coalitions_SM[s : s + 1]))
        return torch.cat(parts)

    def describe(self) -> dict[str, Any]:
        """Speeds, and how many steps so far trained one branch alone."""
        named = {self.modalities[m]: speed for m, speed in self.speeds().items()}
        return {"speed": named, "alone": self.alone}

    def state(self) -> dict[str, Any]:
        """The window that is open, and the count."""
        return {**super().state(), "window": [self.left, self.slow, self.alone]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        super().load_state(state)
        self.left, self.slow, self.alone = state["window"]


def relative_update(parts: Iterable[nn.Module], like: Tensor) -> Tensor:
    """μ = ‖∇θ‖² / ‖θ‖² of the parameters that have a gradient; 0 where none has."""
    held = [p for part in parts for p in part.parameters() if p.grad is not None]
    moved = get_total_norm([p.grad for p in held if p.grad is not None]).to(like.dtype)
    return (moved / get_total_norm(held).clamp_min(1e-15)).square().to(like, non_blocking=True)
