"""On-the-fly prediction modulation: dropping the dominant modality's feature (Wei et al., 2024).

Shape suffixes: B batch, M modalities, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.device import carried
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, there, uniform
from mmeq.methods.dominance import ratios, scores


class Opm(Method):
    """Joint training in which a dominant modality's feature is often zeroed.

    s_m = mean softmax(o_m)[y] of a batch, o_m the modality's own logits; ρ_m = s_m / s_other;
    q_m = q_base (1 + λ tanh(ρ_m − 1)), at most 1, where ρ_m > 1, else 0. After the warm-up, in a
    share p_exe of the batches: h_m of each sample is zeroed with probability q_m; then CE(all)
    [paper: On-the-fly Modulation for Balanced Multimodal Learning, TPAMI 2024, arXiv 2410.11582].

    M > 2: ρ_m is against the smallest s of the others, so every modality but the weakest may be
    zeroed [ours].

    Departures from the authors' released code: it leaves samples of which nothing is left out of
    the loss, while here such a sample keeps all that it has; it divides what is kept by 1 − mean q
    (`rescale`); its warm-up is one epoch longer than it says.

    Args:
        modalities: names.
        seed: of the run, for the batches in which features are dropped.
        q_base: q_base, least probability of zeroing a dominant feature.
        strength: λ, how much dominance adds to it.
        p_exe: p_exe, share of the batches in which features are dropped.
        warmup: epochs of plain joint training before.
        rescale: divide the features of those batches by 1 − mean_m q_m, as the released code does.
    """

    min_modalities = 2
    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        q_base: float = 0.5,
        strength: float = 0.5,
        p_exe: float = 0.7,
        warmup: int = 5,
        rescale: bool = False,
    ) -> None:
        super().__init__(modalities, seed)
        most = float("inf")
        self.check(q_base=(q_base, 0, 1), strength=(strength, 0, most), p_exe=(p_exe, 0, 1))
        self.check(warmup=(warmup, 0, most))
        self.q_base, self.strength, self.p_exe = q_base, strength, p_exe
        self.warmup, self.rescale = warmup, rescale
        self.all_1M = coalition_rows([range(len(self.modalities))], len(self.modalities))
        self.kept: list[Tensor] = []

    def on_epoch_start(self, loop: Loop) -> None:
        """Forget the probabilities of the epoch before."""
        self.kept = []

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the fused loss, dominant features zeroed where the batch's draw says so."""
        features, label = loop.encode(batch), batch["label"]
        draw = self.draws(loop)
        if loop.epoch >= self.warmup and self.carried_out(draw):
            with torch.no_grad():
                drop_M = self.probability(*scores(loop, features, loop.alone(features), label))
            self.kept.append(drop_M)
            features = self.dropped(features, drop_M, draw)
        loss = loop.loss(loop.fuse(features, self.all_1M), label)[0]
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss.detach()}

    def carried_out(self, draw: torch.Generator) -> bool:
        """Whether features are dropped in this batch."""
        return float(torch.rand(1, generator=draw)) < self.p_exe

    def probability(self, score_M: Tensor, rival_M: Tensor) -> Tensor:
        """q_m [M] from the scores and the smallest of the others'."""
        lead_M = ratios(score_M, rival_M) - 1
        drop_M = self.q_base * (1 + self.strength * torch.tanh(lead_M))
        return torch.where(lead_M > 0, drop_M.clamp_max(1), 0.0)

    def dropped(self, features: Features, drop_M: Tensor, draw: torch.Generator) -> Features:
        """The same samples with features zeroed, never all that a sample has."""
        there_BM = there(features, self.all_1M)[0]
        keep_BM = carried(uniform(features, draw, len(drop_M)), drop_M.device) >= drop_M
        keep_BM = keep_BM | ~(keep_BM & there_BM).any(1, keepdim=True)
        scale = 1 / (1 - drop_M.mean()) if self.rescale else drop_M.new_ones(())
        factor_BM = keep_BM * scale
        rows = (h * factor_BM[:, m, None].to(h) for m, h in enumerate(features.rows))
        return features.with_rows(rows)

    def describe(self) -> dict[str, Any]:
        """Mean q_m over the batches of the epoch in which features were dropped, and their number.

        Nothing in an epoch without such a batch.
        """
        if not self.kept:
            return {}
        mean = torch.stack(self.kept).mean(0).tolist()
        return {
            "drop": dict(zip(self.modalities, mean, strict=True)),
            "carried_out": len(self.kept),
        }
