"""CML: joint training whose confidence must not rise when a modality is removed.

Shape suffixes: B batch, M modalities, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, over


class Cml(Method):
    """Calibrating multimodal learning: a ranking regulariser of the fusion's confidence.

    L = CE(all) + λ · mean over samples and m of max(0, Conf(x^T) − Conf(x^S)),
    S = all modalities of the sample, T = S without m, Conf = the largest softmax probability.

    Source: ICML 2023, arXiv 2306.01265. λ: the authors' example and BalanceBenchmark take 0.1 of
    the *sum* over a batch; here it weighs the mean, so 6.4 is theirs at 64 samples and does not
    change with the batch.

    M > 2: the mean over each single removal [ours]; the authors remove one modality after another
    in an order drawn for each sample. A removal counts where the sample has that modality and
    another one, since T must not be empty [ours].

    Departures from the authors' code: no cross-entropy of T, and every violation counts, as in the
    paper; theirs treats pairs apart by whether the predictions are right.

    Args:
        modalities: names.
        seed: of the run.
        weight: λ; 0 is plain joint training.
    """

    min_modalities = 2
    shares = True

    def __init__(self, modalities: Sequence[str], seed: int = 0, weight: float = 6.4) -> None:
        super().__init__(modalities, seed)
        self.check(weight=(weight, 0.0, float("inf")))
        self.weight = weight
        every = range(len(self.modalities))
        self.coalitions_SM = coalition_rows(
            [every, *([k for k in every if k != m] for m in every)], len(self.modalities)
        )

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the fused loss and the regulariser."""
        features = loop.encode(batch)
        logits_SBC = loop.fuse(features, self.coalitions_SM)
        joint = loop.loss(logits_SBC[:1], batch["label"])[0]
        confidence_SB = logits_SBC.float().softmax(-1).max(-1).values
        ranking = self.ranking(confidence_SB, features)
        loop.update(joint + self.weight * ranking, range(len(self.modalities)))
        return {"joint": joint.detach(), "ranking": ranking.detach()}

    def ranking(self, confidence_SB: Tensor, features: Features) -> Tensor:
        """Mean hinge of the removals that there are; S: all, then all without m for each m."""
        rise_MB = (confidence_SB[1:] - confidence_SB[:1]).relu()
        if features.present_BM is None:
            return rise_MB.mean() * features.share
        present_MB = features.present_BM.T
        removable_MB = present_MB & (present_MB.sum(0) > 1)
        return over(rise_MB.flatten(), removable_MB.flatten())
