"""ReconBoost: modalities take turns as the newest learner of a boosted sum.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, over, there
from mmeq.methods.heads import Heads, added, answer


class ReconBoost(Method):
    """ReconBoost (ICML 2024, 2405.09321): o(S) = Σ_{m∈S} o_m, o_m a head on encoder m; no fusion.

    Stage s trains modality k = s mod M. Phase 1, encoder and head of k alone:
    L = -Σ_c y_c (w1 - w2 q_c) log p_k,c + λ MSE(p_k, p_(k-1)), q = softmax of the frozen sum of
    the other learners' logits, k-1 the modality of the stage before, not trained here.
    Phase 2: CE of the sum of all learners so far, all of them trained.

    M > 2: the same, in the dataset's order, cyclic, as published for three. A modality whose first
    stage has not come is no learner: in no sum, nor at test time. So in the first stage q is
    uniform (an empty sum), and there is nothing to consolidate. A sample
    is summed over what it has, and left out of losses where that is nothing [ours].

    Departures from the released code: it detaches both sides of the MSE, a term without gradient;
    divides the boosting loss by C; has q = 1 for all classes in the first stage; shares one head,
    which phase 1 moves for all; learns a factor of the sum; forgets moments after each phase. Its
    numbers start from encoders trained alone, by SGD: rate 1e-2, momentum 0.9, weight decay 5e-4.

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        classes: C.
        alternation: epochs of phase 1, 1 or more.
        rectification: epochs of phase 2; 0 leaves it out.
        agreement: w1, the label's part.
        reconcilement: w2, the part of what the others know already; 0 to w1.
        consolidation: λ.
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
        alternation: int = 4,
        rectification: int = 4,
        agreement: float = 5.0,
        reconcilement: float = 1.0,
        consolidation: float = 0.5,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(alternation=(alternation, 1, inf), rectification=(rectification, 0, inf))
        self.check(agreement=(agreement, 0, inf), consolidation=(consolidation, 0, inf))
        self.check(reconcilement=(reconcilement, 0, agreement))
        self.alternation, self.rectification = alternation, rectification
        self.agreement, self.reconcilement = agreement, reconcilement
        self.consolidation = consolidation
        self.heads = Heads(len(self.modalities), dim, classes)
        self.stage, self.alternating = 0, True
        self.learners_M: Tensor  # for inference, which knows no epoch
        self.register_buffer("learners_M", torch.zeros(len(self.modalities), dtype=torch.bool))

    def min_epochs(self) -> int:
        """A stage for each modality, or some would never be trained."""
        return len(self.modalities) * (self.alternation + self.rectification)

    def on_epoch_start(self, loop: Loop) -> None:
        """Take the epoch's turn."""
        self.stage, place = divmod(loop.epoch, self.alternation + self.rectification)
        self.alternating = place < self.alternation
        self.learners_M[: self.stage + 1] = True

    @property
    def learners(self) -> range:
        """Modalities that have had a stage, the present one included."""
        return range(min(self.stage + 1, len(self.modalities)))

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step: of the stage's modality, or of all learners."""
        return (self._alternate if self.alternating else self._rectify)(loop, batch)

    def _alternate(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        count = len(self.modalities)
        k, before = self.stage % count, (self.stage - 1) % count
        others = [m for m in self.learners if m != k]
        features = loop.encode(batch, [k])
        has_BM, others_BM = there(features, coalition_rows([range(count), others], count))
        log_p_BC = self.heads.each[k](features.rows[k]).float().log_softmax(-1)
        with torch.no_grad():
            own_MBC = self.heads(features.rows).float()
            q_BC = added(own_MBC, others_BM[None])[0].softmax(-1)
            p_before_BC = own_MBC[before].softmax(-1)
        terms_BC = (self.reconcilement * q_BC - self.agreement) * log_p_BC
        boosting = over(terms_BC.gather(1, batch["label"][:, None])[:, 0], has_BM[:, k])
        loss, losses = boosting, {f"step/{self.modalities[k]}": boosting.detach()}
        if self.stage > 0:
            apart_B = (log_p_BC.exp() - p_before_BC).square().mean(-1)
            apart = over(apart_B, has_BM[:, k] & has_BM[:, before])
            loss, losses["consolidation"] = loss + self.consolidation * apart, apart.detach()
        loop.update(loss, [k])
        return losses

    def _rectify(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        features = loop.encode(batch, self.learners)
        has_BM = there(features, coalition_rows([self.learners], len(self.modalities)))[0]
        own = {m: self.heads.each[m](features.rows[m]).float() for m in self.learners}
        sum_BC = torch.stack([own_BC * has_BM[:, m, None] for m, own_BC in own.items()]).sum(0)
        loss = over(F.cross_entropy(sum_BC, batch["label"], reduction="none"), has_BM.any(1))
        loop.update(loss, self.learners)
        return {"joint": loss.detach()}

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]: the sum over what there is of the learners so far."""
        there_SBM = there(features, coalitions_SM) & self.learners_M
        logits_SBC = added(self.heads(features.rows).float(), there_SBM)
        return answer(logits_SBC, there_SBM, loop.log_prior)

    def describe(self) -> dict[str, Any]:
        """Whose turn it was, and in which phase."""
        return {
            "stage": self.stage,
            "modality": self.modalities[self.stage % len(self.modalities)],
            "phase": "alternation" if self.alternating else "rectification",
        }
