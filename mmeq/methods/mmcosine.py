"""Multi-modal cosine loss: logits are cosines between features and class weights, added.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from mmeq.fusions.base import linear_init, per_modality
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, there
from mmeq.methods.heads import added, answer


class MmCosine(Method):
    """MMCosine (Xu et al., ICASSP 2023, arXiv 2303.05338).

    o(S) = Σ_{m∈S} s · cos(W_m, h_m): features and each class's weights are normalised within
    their modality, so neither a larger norm nor a larger weight lets one modality dominate.
    L = CE(o(all modalities)); no bias.

    M > 2: the sum goes on [ours]. A modality that a sample lacks is skipped, in training too
    [ours]; who has nothing of a coalition is answered by the class frequencies.

    Departures: the released code trains on these logits and validates the fused model by another
    function, the plain linear layer W[h_1; …; h_M] + b with an untrained b; here both are the same.
    It chooses the epoch on the test part, and has s = 10 for CREMA-D. The paper's combinations
    with other fusions and with a contrastive term are left out.

    Args:
        modalities: names.
        seed: of the run.
        scale: s.
        dim: D.
        classes: C.
    """

    partial_updates = True
    uses_fusion = False
    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        scale: float = 15.0,
        *,
        dim: int,
        classes: int,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(scale=(scale, 1e-6, float("inf")))
        self.scale = scale
        count = len(self.modalities)
        self.weight_MCD = linear_init(count, classes, dim, fan_in=count * dim)
        self.coalitions_1M = coalition_rows([range(count)], count)

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of the encoders and the weights."""
        logits_1BC = self.logits(loop, loop.encode(batch), self.coalitions_1M)
        loss = loop.loss(logits_1BC, batch["label"])[0]
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss.detach()}

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C]: scaled cosines of the modalities that are there, added."""
        there_SBM = there(features, coalitions_SM)
        unit_MCD = F.normalize(self.weight_MCD, dim=-1)
        cosines_MBC = per_modality(unit_MCD, [F.normalize(h, dim=-1) for h in features.rows])
        return answer(added(self.scale * cosines_MBC, there_SBM), there_SBM, loop.log_prior)
