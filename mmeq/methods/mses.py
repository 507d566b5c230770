"""Modality-specific early stopping: a modality that validates no better is frozen.

Shape suffixes: B batch, M modalities, V coalitions of a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.report import GameReport
from mmeq.methods.base import Batch, Features, Loop, coalition_rows, own_mean
from mmeq.methods.heads import HeadedMethod

Metric = Literal["nll", "accuracy", "macro_f1"]


class Mses(HeadedMethod):
    """MSES (Fujimori et al., Modality-Specific Learning Rate Control, ACPR 2019).

    L = CE(all modalities) + λ Σ_{m active} CE_m, CE_m of modality m's own head.
    After each epoch: has the validation metric of {m} not exceeded its best for P epochs, m is
    frozen for good: the learning rate of f_m and of its head is 0 from then on.
    The run ends once all modalities are frozen; until then the fusion trains on.

    M > 2: as it stands. CE_m leaves out samples that lack m [ours].

    Departures: no code of the authors is known to us. A frozen encoder is run in eval mode, so that
    neither batch-norm statistics nor moments move, and keeps the weights that it has, not those of
    its best epoch [ours]. P, λ and the metric are [ours].

    Args:
        modalities: names.
        seed: of the run.
        patience: P, epochs.
        metric: that must improve: ``nll`` (falls), ``accuracy`` or ``macro_f1`` (rise).
        weight: λ.
        dim: D.
        classes: C.
    """

    partial_updates = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        patience: int = 5,
        metric: Metric = "nll",
        weight: float = 1.0,
        *,
        dim: int,
        classes: int,
    ) -> None:
        super().__init__(modalities, seed, dim=dim, classes=classes)
        infinity = float("inf")
        self.check(patience=(patience, 1, infinity), weight=(weight, 0, infinity))
        if metric not in get_args(Metric):
            known = get_args(Metric)
            raise MmeqError(f"method.metric={metric!r} is unknown{did_you_mean(metric, known)}")
        self.patience, self.metric, self.weight = patience, metric, weight
        count = len(self.modalities)
        self.best, self.waited, self.frozen = [-infinity] * count, [0] * count, [False] * count
        self.coalitions_1M = coalition_rows([range(count)], count)

    @property
    def active(self) -> list[int]:
        """The modalities that still learn."""
        return [m for m, frozen in enumerate(self.frozen) if not frozen]

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of the active encoders, their heads and the fusion."""
        active = self.active
        features = loop.encode(batch, active)
        joint = loop.loss(loop.fuse(features, self.coalitions_1M), batch["label"])[0]
        own_M = own_mean(self.own_losses(features, batch["label"]), features)
        loop.update(joint + self.weight * own_M.sum(), active)
        heads = {f"head/{self.modalities[m]}": own_M[m].detach() for m in active}
        return {"joint": joint.detach(), **heads}

    def own_losses(self, features: Features, label_B: Tensor) -> Tensor:
        """Cross-entropy of each active modality's head [M, B]; 0 of the others.

        A frozen head is not run: a gradient of 0 would still let weight decay move it.
        """
        nothing_B = torch.zeros(len(label_B), device=label_B.device)
        return torch.stack(
            [
                nothing_B if frozen else F.cross_entropy(head(h).float(), label_B, reduction="none")
                for frozen, head, h in zip(self.frozen, self.heads.each, features.rows, strict=True)
            ]
        )

    def on_report(self, report: GameReport, epoch: int) -> None:
        """Freeze what has not improved for too long."""
        sign = -1.0 if self.metric == "nll" else 1.0
        for m, value in enumerate((sign * report.alone_in(self.metric)).tolist()):
            if self.frozen[m]:
                continue
            better = value > self.best[m]
            self.waited[m] = 0 if better else self.waited[m] + 1
            self.best[m] = value if better else self.best[m]
            self.frozen[m] = self.waited[m] >= self.patience
        self.finished = all(self.frozen)

    def describe(self) -> dict[str, Any]:
        """Epochs without improvement, and what is frozen."""
        frozen = [self.modalities[m] for m, yes in enumerate(self.frozen) if yes]
        return {"waited": dict(zip(self.modalities, self.waited, strict=True)), "frozen": frozen}

    def state(self) -> dict[str, Any]:
        """Best values, epochs since, what is frozen."""
        own = {"best": list(self.best), "waited": list(self.waited), "frozen": list(self.frozen)}
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        super().load_state(state)
        self.best, self.waited = list(state["best"]), list(state["waited"])
        self.frozen = list(state["frozen"])
