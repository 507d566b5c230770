"""Boosting the weak modality: one more classifier whenever it has fallen behind.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions, K classifiers in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, over, there
from mmeq.methods.heads import added, answer


class Aug(Method):
    """AUG: sustained boosting with adaptive classifier assignment (2502.20120, NeurIPS 2025).

    Classifier k of m: o_mk = W relu(V_mk h_m), W shared by all. Each batch steps m by m on
    L_m = ℓ(Σ_k≤n o_mk, y) + ℓ(Σ_k<n o_mk, y) + ℓ(o_mn, ŷ), n = n_m being those in use and
    ŷ = y ⊙ (1 − λ softmax(Σ_k<n o_mk)), detached; n_m = 1 leaves the first term.
    s_m = mean softmax(Σ_k o_mk)[y] over an epoch's training. Every `every` epochs the weakest
    gets one more: n_w ← n_w + 1 if s_max − σ s_w > τ. Answer: o(S) = mean_{m∈S} Σ_k o_mk.

    M > 2: the weakest against the strongest [ours] (released, M = 3: against the others' sum).

    Departures from the released code: no growth after the first epoch; no learned weight of the
    newest classifier (not in the paper); equal weights in the answer, not 0.4 and 0.6; a step of m
    moves nothing of the others, where zeroed gradients let momentum and decay move them. As there,
    ŷ takes the softmax of summed logits, and |s_a − s_v| ≤ τ is left alone (at σ = 1; the paper
    prints s_a − σ s_v < τ for the other side). At most `heads` classifiers a modality [ours].

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        classes: C.
        every: epochs between two looks at s.
        sigma: σ, 1 or more.
        threshold: τ.
        residual: λ.
        heads: most classifiers of a modality; the published 200 epochs end with 11.
        hidden: width of a classifier's first layer.
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
        every: int = 20,
        sigma: float = 1.0,
        threshold: float = 0.01,
        residual: float = 0.5,
        heads: int = 5,
        hidden: int = 256,
    ) -> None:
        super().__init__(modalities, seed)
        most = float("inf")
        self.check(every=(every, 1, most), sigma=(sigma, 1, most), threshold=(threshold, 0, 1))
        self.check(residual=(residual, 0, 1), heads=(heads, 1, most), hidden=(hidden, 1, most))
        self.every, self.sigma, self.threshold = every, sigma, threshold
        self.residual, self.heads = residual, heads
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        # tensors of their own: one not in use has no gradient, so that it does not even decay
        self.first = nn.ModuleList(nn.Linear(dim, hidden) for _ in range(count * heads))
        self.shared = nn.Linear(hidden, classes)
        self.active_M: Tensor
        self.register_buffer("active_M", torch.ones(count, dtype=torch.long))
        self.in_use = [1] * count  # active_M on the host: no batch waits for the device
        self.seen_2M: Tensor  # in this epoch, mean over ranks: Σ probability of the label, samples
        self.register_buffer("seen_2M", torch.zeros(2, count))

    def on_epoch_start(self, loop: Loop) -> None:
        """Every few epochs: one more classifier for the weakest, by what the last epoch showed."""
        score = self.confidence()
        if loop.epoch % self.every == 0 and len(score) > 1:
            name, least = min(score.items(), key=lambda item: item[1])
            if max(score.values()) - self.sigma * least > self.threshold:
                self.active_M[self.modalities.index(name)] += 1
                self.in_use = self.active_M.clamp_(max=self.heads).tolist()
        self.seen_2M.zero_()

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step a modality: its encoder, its classifiers in use and the shared layer."""
        features, losses, seen = loop.encode(batch), {}, []
        has_MB = there(features, self.all_1M)[0].T.float()
        for m, name in enumerate(self.modalities):
            terms_KBC = self.terms(m, features.rows[m]).float()
            each_B = boosted(terms_KBC, batch["label"], self.residual)
            loss = over(each_B, has_MB[m])
            loop.update(loss, [m])
            losses[f"step/{name}"] = loss.detach()
            seen.append((right(terms_KBC.detach().sum(0), batch["label"]) * has_MB[m]).sum())
        self.seen_2M += loop.mean(torch.stack([torch.stack(seen), has_MB.sum(1)]))
        return losses

    def terms(self, modality: int, features_BD: Tensor) -> Tensor:
        """Logits of each classifier in use: [K, B, C]."""
        used = self.first[modality * self.heads :][: self.in_use[modality]]
        logits_KBC: Tensor = self.shared(torch.stack([layer(features_BD) for layer in used]).relu())
        return logits_KBC

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]: the mean over what a sample has of each coalition."""
        own_MBC = torch.stack([self.terms(m, h).sum(0) for m, h in enumerate(features.rows)])
        there_SBM = there(features, coalitions_SM)
        weight_SBM = there_SBM / there_SBM.sum(-1, keepdim=True).clamp_min(1)
        return answer(added(own_MBC, weight_SBM), there_SBM, loop.log_prior)

    def confidence(self) -> dict[str, float]:
        """s_m of the modalities that any sample of the epoch had."""
        rows = zip(self.modalities, *self.seen_2M.tolist(), strict=True)
        return {name: total / samples for name, total, samples in rows if samples}

    def describe(self) -> dict[str, Any]:
        """Classifiers in use, and s over the epoch."""
        used = dict(zip(self.modalities, self.in_use, strict=True))
        return {"heads": used, "confidence": self.confidence()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave; the buffers are there already."""
        super().load_state(state)
        self.in_use = self.active_M.tolist()


def right(logits_BC: Tensor, label_B: Tensor) -> Tensor:
    """Probability of the label: [B]."""
    return logits_BC.softmax(-1).gather(-1, label_B[:, None])[:, 0]


def boosted(terms_KBC: Tensor, label_B: Tensor, residual: float) -> Tensor:
    """L of each sample: [B]."""
    error = partial(F.cross_entropy, target=label_B, reduction="none")
    if len(terms_KBC) == 1:
        return error(terms_KBC[0])
    before_BC = terms_KBC[:-1].sum(0)
    left_B = 1 - residual * right(before_BC.detach(), label_B)
    return error(terms_KBC.sum(0)) + error(before_BC) + left_B * error(terms_KBC[-1])
