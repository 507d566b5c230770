"""Joint training: one step for all encoders and the fusion."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.methods.base import Batch, Loop, Method, coalition_rows


class Joint(Method):
    """Plain joint training, what everybody compares with.

    L = CE(all modalities) + λ · mean_m CE({m}); one backward, one step of everything.
    A memory is trained on the mean of the orders that inference averages over.

    Args:
        modalities: names.
        seed: of the run.
        weight: λ of the unimodal readout losses; 0 is plain joint training.
    """

    shares = True

    def __init__(self, modalities: Sequence[str], seed: int = 0, weight: float = 0.0) -> None:
        super().__init__(modalities, seed)
        if not weight >= 0:  # NaN neither
            raise MmeqError(f"method.weight={weight}: must be 0 or more")
        self.weight = weight
        count = len(self.modalities)
        sets = [range(count), *([m] for m in range(count) if weight)]
        self.coalitions_SM = coalition_rows(sets, count)

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the fused loss."""
        loss_S = loop.loss(loop.fuse(loop.encode(batch), self.coalitions_SM), batch["label"])
        loss = loss_S[0]
        if self.weight:
            loss = loss + self.weight * loss_S[1:].mean()
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss_S[0].detach()}
