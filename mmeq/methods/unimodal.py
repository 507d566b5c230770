"""Unimodal training: one modality alone, the reference of every claim about fusion."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeq.errors import MmeqError, did_you_mean
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows


class Unimodal(Method):
    """Train one modality's encoder and readout alone: L = CE({m}).

    A coalition without m answers the best constant predictor, one with m what {m} answers; so
    the Shapley values put everything on m, as they should.

    Args:
        modalities: names.
        seed: of the run.
        modality: m.
    """

    partial_updates = True
    single = True
    shares = True

    def __init__(self, modalities: Sequence[str], seed: int = 0, *, modality: str) -> None:
        super().__init__(modalities, seed)
        if modality not in self.modalities:
            raise MmeqError(
                f"method.modality={modality!r}: the dataset has no such modality"
                + did_you_mean(modality, self.modalities)
            )
        self.index = self.modalities.index(modality)
        self.coalition_SM = coalition_rows([[self.index]], len(self.modalities))

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of m's encoder and the fusion."""
        features = loop.encode(batch, [self.index])
        loss = loop.loss(loop.fuse(features, self.coalition_SM), batch["label"])[0]
        loop.update(loss, [self.index])
        return {f"step/{self.modalities[self.index]}": loss.detach()}

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C] that look at m only."""
        return loop.fuse(features, coalitions_SM & self.coalition_SM)
