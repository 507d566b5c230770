"""The small interface between a training method and the loop that runs it.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mmeq.fusions.orders import Orders
from mmeq.game.report import GameReport

Batch = dict[str, Any]


@dataclass(frozen=True)
class Features:
    """Features of one batch, encoded once.

    Attributes:
        rows: M tensors [B, D], each with its graph or detached.
        present_BM: who has what; None when the dataset has no gaps.
        ids: of the samples.
    """

    rows: tuple[Tensor, ...]
    present_BM: Tensor | None
    ids: Sequence[str] | None = None

    def only(self, modality: int) -> Features:
        """Keep the graph of one modality and detach the others."""
        rows = (h if m == modality else h.detach() for m, h in enumerate(self.rows))
        return Features(tuple(rows), self.present_BM, self.ids)


class Loop(Protocol):
    """What a method may ask of the training loop (`mmeq.module.MultimodalModule`)."""

    epoch: int
    inference_orders: Orders

    def encode(self, batch: Batch, modalities: Iterable[int] | None = None) -> Features:
        """Encode a batch once, with graphs; or with graphs for some modalities only."""

    def reencode(self, batch: Batch, features: Features, modality: int) -> Features:
        """Replace one modality's features by what its encoder gives now, without graph."""

    def fuse(
        self, features: Features, coalitions_SM: Tensor, orders: Orders | None = None
    ) -> Tensor:
        """Logits [S, B, C]; `orders` default to the inference strategy's."""

    def loss(self, logits_SBC: Tensor, label_B: Tensor) -> Tensor:
        """Cross-entropy of each coalition, the mean over the batch: [S]."""

    def update(self, loss: Tensor, modalities: Iterable[int]) -> None:
        """Backward and step: the encoders of these modalities, the fusion and the method."""


class Method(nn.Module, ABC):
    """Base of all methods. State that must survive a restart is a buffer or in `state`.

    Args:
        modalities: names, in the order of every M axis.
        seed: of the run, for methods that draw.

    Attributes:
        order: the order of the modalities in the next epoch, weakest first.
        partial_updates: a step leaves some parameters without gradient (DDP must look for them).
        min_modalities: fewest modalities that the method is defined for.
        single: it trains the modality of its option ``modality`` alone.
    """

    partial_updates: ClassVar[bool] = False
    min_modalities: ClassVar[int] = 1
    single: ClassVar[bool] = False

    def __init__(self, modalities: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.modalities, self.seed = tuple(modalities), seed
        self.order: tuple[int, ...] = tuple(range(len(self.modalities)))

    @abstractmethod
    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch; return its losses by name, detached scalars, in order of steps."""

    def on_epoch_start(self, loop: Loop) -> None:
        """Prepare an epoch."""

    def on_report(self, report: GameReport, epoch: int) -> None:
        """Learn from the validation of `epoch`; sets `order` for the next one."""

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C] at inference: the fusion's, under the inference strategy."""
        return loop.fuse(features, coalitions_SM)

    def describe(self) -> dict[str, Any]:
        """Plain facts for the record of an epoch."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain Python state to checkpoint beside the buffers."""
        return {"order": list(self.order)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.order = tuple(state["order"])

    def get_extra_state(self) -> dict[str, Any]:
        """`state`, into the checkpoint."""
        return self.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """`load_state`, from the checkpoint."""
        self.load_state(state)


def coalition_rows(sets: Iterable[Iterable[int]], modalities: int) -> Tensor:
    """Bool [S, M] from sets of modality indices."""
    sets = [list(members) for members in sets]
    rows = torch.zeros(len(sets), modalities, dtype=torch.bool)
    for row, members in zip(rows, sets, strict=True):
        row[members] = True
    return rows
