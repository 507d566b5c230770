"""Modality-specific learning rates: an encoder's rate follows its validation accuracy.

Shape suffixes: V coalitions of a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmeq.game.report import GameReport
from mmeq.methods.base import Batch, Loop, Method, coalition_rows


class Mslr(Method):
    """MSLR, dynamic strategy (Yao & Mihalcea, Findings of ACL 2022, 2022.findings-acl.143).

    L = CE(Σ_m o_m); in epoch t encoder m steps with the rate η · r_m(t):
    r_m(t) = a_m(t−1) / mean(a_m(t−N) … a_m(t−1)), r_m(0) = 1,
    a_m(t): validation accuracy of modality m alone after epoch t, N the window (what there is of
    it at first). Improving modalities speed up, worsening ones slow down.

    M > 2: as it stands, each modality is compared with itself alone. a_m is the accuracy of {m}
    whatever ``value`` the game is played for, and counts samples that lack m too.

    Departures: no code of the authors is known to us; that the window holds the present epoch, and
    N = 5, are [second-hand]. A factor multiplies the schedule's rate, so factors do not pile up
    [ours; a reimplementation by others multiplies the rate itself, every N epochs]. It is not
    clamped; where all of the window is 0 it is 1. One η for all encoders, from ``optim``: the
    paper's static strategies, and its start from fine-tuned unimodal models with a rate each, are
    left out. The heads are the fusion's and step with η.

    Args:
        modalities: names.
        seed: of the run.
        window: N, epochs, the present one included; 1 is plain joint training.
    """

    def __init__(self, modalities: Sequence[str], seed: int = 0, window: int = 5) -> None:
        super().__init__(modalities, seed)
        self.check(window=(window, 1, float("inf")))
        self.window = window
        self.history: list[list[float]] = []
        self.coalitions_1M = coalition_rows([range(len(self.modalities))], len(self.modalities))

    @property
    def factors(self) -> list[float]:
        """What each encoder's learning rate is multiplied by."""
        if not self.history:
            return [1.0] * len(self.modalities)
        means = [sum(past) / len(past) for past in zip(*self.history, strict=True)]
        return [
            now / mean if mean > 0 else 1.0
            for now, mean in zip(self.history[-1], means, strict=True)
        ]

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the fused loss, each encoder at its own rate."""
        logits_1BC = loop.fuse(loop.encode(batch), self.coalitions_1M)
        loss = loop.loss(logits_1BC, batch["label"])[0]
        rates = dict(enumerate(self.factors))
        loop.update(loss, range(len(self.modalities)), rates=rates)
        return {"joint": loss.detach()}

    def on_report(self, report: GameReport, epoch: int) -> None:
        """Keep the accuracy of each modality alone."""
        alone = [float(a) for a in report.alone_in("accuracy")]
        self.history = [*self.history, alone][-self.window :]

    def describe(self) -> dict[str, Any]:
        """The factors of the next epoch."""
        return {"rates": dict(zip(self.modalities, self.factors, strict=True))}

    def state(self) -> dict[str, Any]:
        """Accuracies of the window, which the factors follow from."""
        return {**super().state(), "history": self.history}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        super().load_state(state)
        self.history = [list(alone) for alone in state["history"]]
