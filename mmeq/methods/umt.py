"""Uni-modal teachers: the joint model's encoders imitate encoders that were trained alone.

Shape suffixes: B batch, M modalities, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmeq.device import on_host
from mmeq.encoders.present import PresentRows
from mmeq.methods.base import Batch, Features, Loop, Method, coalition_rows, own_loss, own_mean
from mmeq.methods.heads import Heads


class Umt(Method):
    """Distil from frozen unimodal teachers (UMT, arXiv 2305.01233, ICML 2023).

    Teachers, first: each f*_m and its head by CE({m}) alone. Then they are frozen, and the
    student learns by L = CE(all) + λ Σ_m ‖h_m − f*_m(x_m)‖² / D [paper].
    M > 2: the sum has M terms [ours].

    The published teachers are fully trained in separate runs. Here they have the first share of
    this run's epochs and of its learning-rate schedule, so that the method needs no other run and
    the same budget as any other [ours]; they begin with the student's first weights [ours]. As
    long as they train the student does not: its validation is that of an untrained model. A
    sample that lacks m is left out of m's losses and batch norms. λ is that of a reimplementation
    (BalanceBenchmark, 2502.10816) [second-hand]: the authors' value was not found.

    Args:
        modalities: names.
        seed: of the run.
        dim: D.
        classes: C.
        weight: λ of the distillation.
        teacher_share: share of the epochs that trains the teachers, at least one epoch; one at
            least is left to the student where there are two.

    Attributes:
        teacher_epochs: how many epochs that is, fixed at the first; None before.
    """

    partial_updates = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        *,
        dim: int,
        classes: int,
        weight: float = 1.0,
        teacher_share: float = 0.3,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(weight=(weight, 0, float("inf")), teacher_share=(teacher_share, 0, 1))
        self.weight, self.teacher_share, self.dim = weight, teacher_share, dim
        self._rows = PresentRows()
        self.teachers = nn.ModuleDict()
        self.heads = Heads(len(self.modalities), dim, classes)
        self.all_1M = coalition_rows([range(len(self.modalities))], len(self.modalities))
        self.teacher_epochs: int | None = None
        self.teaching = False

    def min_epochs(self) -> int:
        """One for the teachers and one for the student."""
        return 2

    def adopt(self, encoders: nn.ModuleDict) -> None:
        """Make a teacher of each encoder's copy."""
        self.teachers = copy.deepcopy(encoders)

    def on_epoch_start(self, loop: Loop) -> None:
        """Say whose turn it is."""
        if self.teacher_epochs is None:
            wanted = max(1, round(self.teacher_share * loop.epochs))
            self.teacher_epochs = min(wanted, max(1, loop.epochs - 1))
        self.teaching = loop.epoch < self.teacher_epochs
        self._rows.forget()

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of all teachers, or of the student."""
        return self.teach(loop, batch) if self.teaching else self.learn(loop, batch)

    def teach(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """Train the teachers; the losses share no parameter, so one step is a step of each."""
        taught, label_B = self.taught(batch), batch["label"]
        loss_M = own_loss(self.heads(taught.rows), label_B, taught)
        loop.update(loss_M.sum(), [])
        return {f"step/{n}": x for n, x in zip(self.modalities, loss_M.detach(), strict=True)}

    def learn(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """Train the student; the trainer has put the teachers into training mode, so undo that."""
        self.teachers.eval()
        with torch.no_grad():
            taught = self.taught(batch)
        features = loop.encode(batch)
        joint = loop.loss(loop.fuse(features, self.all_1M), batch["label"])[0]
        pairs = zip(features.rows, taught.rows, strict=True)
        gap_MB = torch.stack([(h.float() - t.float()).square().mean(1) for h, t in pairs])
        distillation = own_mean(gap_MB, features).sum()
        loop.update(joint + self.weight * distillation, range(len(self.modalities)))
        return {"joint": joint.detach(), "distillation": distillation.detach()}

    def taught(self, batch: Batch) -> Features:
        """What the teachers make of a batch."""
        has_BM, place = on_host(batch["present"]), batch["label"].device
        rows = (
            self._rows.encode(
                self.teachers[name], batch["inputs"][name], has_BM[:, m], self.dim, place
            )
            for m, name in enumerate(self.modalities)
        )
        return Features(tuple(rows), batch["present"])

    def describe(self) -> dict[str, Any]:
        """Who has just trained, and for how many epochs the teachers do."""
        phase = "teachers" if self.teaching else "student"
        return {"phase": phase, "teacher_epochs": self.teacher_epochs}

    def state(self) -> dict[str, Any]:
        """The teachers' epochs too, lest a longer resumed run train them again."""
        return {**super().state(), "teacher_epochs": self.teacher_epochs}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        super().load_state(state)
        self.teacher_epochs = state["teacher_epochs"]
