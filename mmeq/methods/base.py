"""The small interface between a training method and the loop that runs it.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.collective import mean_over_ranks, place
from mmeq.device import carried
from mmeq.errors import MmeqError
from mmeq.fusions.orders import Orders
from mmeq.game.report import GameReport

Batch = dict[str, Any]
TINY = 1e-6
"""Below any mean over ranks of a number of samples that is not 0."""


@dataclass(frozen=True)
class Features:
    """Features of one batch, encoded once.

    Attributes:
        rows: M tensors [B, D], each with its graph or detached.
        present_BM: who has what; None when the dataset has no gaps.
        ids: of the samples.
        share: samples of this rank's batch over the mean of all ranks'; 1 but in a last batch.
    """

    rows: tuple[Tensor, ...]
    present_BM: Tensor | None
    ids: Sequence[str] | None = None
    share: float = 1.0

    def only(self, modality: int) -> Features:
        """Keep the graph of one modality and detach the others."""
        return self.with_rows(h if m == modality else h.detach() for m, h in enumerate(self.rows))

    def with_rows(self, rows: Iterable[Tensor]) -> Features:
        """The same samples with other features."""
        return replace(self, rows=tuple(rows))

    def detached(self) -> Features:
        """Without any graph."""
        return self.with_rows(h.detach() for h in self.rows)


class Loop(Protocol):
    """What a method may ask of the training loop (`mmeq.module.MultimodalModule`).

    Attributes:
        epoch: the current epoch, from 0.
        epochs: how many there shall be.
        batch: place of the current batch in its epoch, from 0.
        batches: how many the epoch has.
        shared: a trained parameter belongs to several encoders, so that a step for one modality
            moves others too, and no graph that was made before it can be used after it.
        inference_orders: the orders that the inference strategy looks at.
        log_prior: [C] logits of the best constant predictor, the answer of the empty coalition.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    shared: bool
    inference_orders: Orders
    log_prior: Tensor

    def encode(self, batch: Batch, modalities: Iterable[int] | None = None) -> Features:
        """Encode a batch once, with graphs; or with graphs for some modalities only."""

    def reencode(
        self, batch: Batch, features: Features, modality: int, graph: bool = False
    ) -> Features:
        """Replace one modality's features by what its encoder gives now.

        Without graph it is encoded in eval mode; with one, as `encode` does.
        """

    def fuse(
        self, features: Features, coalitions_SM: Tensor, orders: Orders | None = None
    ) -> Tensor:
        """Logits [S, B, C]; `orders` default to the inference strategy's."""

    def alone(self, features: Features) -> Tensor:
        """Each modality's own logits [M, B, C]: its part of the fused ones, see `Fusion.alone`."""

    def loss(self, logits_SBC: Tensor, label_B: Tensor) -> Tensor:
        """Cross-entropy of each coalition: [S], the mean over the batch.

        In training the batch is that of all ranks: the mean over ranks of what this gives, as DDP
        makes it of gradients, is the mean over their samples. So are `over` and `own_mean`.
        """

    def update(
        self,
        loss: Tensor,
        modalities: Iterable[int],
        edit: Callable[[], None] | None = None,
        rates: Mapping[int, float] | None = None,
        fusion_rate: float = 1.0,
    ) -> None:
        """Backward and step: the encoders of these modalities, the fusion and the method.

        `edit` is called between backward and step, when ``.grad`` of every parameter is the
        batch's gradient (the mean over ranks); it may change them in place, on each rank alike.
        `rates` are factors of the learning rates of these encoders in this step, `fusion_rate` is
        that of the fusion's.
        """

    def encoder(self, modality: int) -> nn.Module:
        """The encoder of a modality, to read and edit its parameters."""

    def gradients(self, loss: Tensor, modalities: Iterable[int]) -> dict[int, list[Tensor]]:
        """Gradients of a loss by the trained parameters of some encoders, the mean over ranks.

        One backward for all of them; it keeps the graph and leaves ``.grad`` alone.
        """

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks of a detached value: what all of them shall decide by."""

    def sweep(self, split: str = "train", share: float = 1.0) -> Iterator[tuple[Batch, Features]]:
        """Encode a part of the data without graph, augmentation or change of statistics.

        Every rank sees the same samples: all, or a share drawn by (seed, epoch).
        """


class Method(nn.Module, ABC):
    """Base of all methods. State that must survive a restart is a buffer or in `state`.

    A method that takes them is given ``dim`` (D) and ``classes`` (C) beside modalities and seed.

    Args:
        modalities: names, in the order of every M axis.
        seed: of the run, for methods that draw.

    Attributes:
        order: the order of the modalities in the next epoch, weakest first.
        finished: nothing is left to train: the run ends with this epoch.
        partial_updates: a step leaves some parameters without gradient (DDP must look for them).
        min_modalities: fewest modalities that the method is defined for.
        max_modalities: most of them; None for any number.
        single: it trains the modality of its option ``modality`` alone.
        shares: it can train encoders that have parameters in common (`Loop.shared`).
        uses_fusion: it trains and answers through the fusion; otherwise it has heads of its own,
            and the fusion is neither trained nor asked.
    """

    partial_updates: ClassVar[bool] = False
    min_modalities: ClassVar[int] = 1
    max_modalities: ClassVar[int | None] = None
    single: ClassVar[bool] = False
    shares: ClassVar[bool] = False
    uses_fusion: ClassVar[bool] = True
    finished: bool = False

    def __init__(self, modalities: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.modalities, self.seed = tuple(modalities), seed
        self.order: tuple[int, ...] = tuple(range(len(self.modalities)))

    @classmethod
    def title(cls) -> str:
        """The name by which it is chosen: that of its file."""
        return cls.__module__.rpartition(".")[2]

    def min_epochs(self) -> int:
        """Fewest epochs in which all that it does has its turn; fewer are refused."""
        return 1

    def adopt(self, encoders: nn.ModuleDict) -> None:
        """See the encoders once, before training, to keep a copy or their first weights."""

    @abstractmethod
    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch; return its losses by name, detached scalars, in order of steps."""

    def on_epoch_start(self, loop: Loop) -> None:
        """Prepare an epoch."""

    def on_report(self, report: GameReport, epoch: int) -> None:
        """Learn from the validation of `epoch`; sets `order` for the next one."""

    def logits(self, loop: Loop, features: Features, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C] at inference: the fusion's, under the inference strategy.

        A sample that lacks modalities is to be answered by what it has of each coalition, and by
        `Loop.log_prior` where that is nothing (see `there` and `mmeq.methods.heads.answer`).
        """
        return loop.fuse(features, coalitions_SM)

    def describe(self) -> dict[str, Any]:
        """Plain facts for the record of an epoch."""
        return {}

    def state(self) -> dict[str, Any]:
        """Plain Python state to checkpoint beside the buffers."""
        return {"order": list(self.order), "finished": self.finished}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.order = tuple(state["order"])
        self.finished = state.get("finished", False)

    def get_extra_state(self) -> dict[str, Any]:
        """`state`, into the checkpoint."""
        return self.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """`load_state`, from the checkpoint."""
        self.load_state(state)

    def draws(self, loop: Loop, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator that depends on seed, epoch and batch alone: alike on all ranks."""
        number = (self.seed * 1_000_003 + loop.epoch) * 1_000_003 + loop.batch
        return torch.Generator(device).manual_seed(number % 2**63)

    def check(self, **numbers: tuple[float, float, float]) -> None:
        """Refuse options outside their range, ends included; NaN too.

        Args:
            **numbers: option → (value, least, most).

        Raises:
            MmeqError: names the option, its value and the range.
        """
        for option, (value, least, most) in numbers.items():
            if not least <= value <= most:
                right = f"{least:g} or more" if most == float("inf") else f"{least:g} to {most:g}"
                raise MmeqError(f"method.{option}={value}: give {right}")


def there(features: Features, coalitions_SM: Tensor) -> Tensor:
    """What each sample has of each coalition: bool [S, B, M], on the features' device."""
    device, batch = features.rows[0].device, features.rows[0].shape[0]
    wanted_SBM = carried(coalitions_SM, device)[:, None, :].expand(-1, batch, -1)
    return wanted_SBM if features.present_BM is None else wanted_SBM & features.present_BM


def over(value_B: Tensor, there_B: Tensor) -> Tensor:
    """Mean over the samples that count: [..., B] → [...]; 0 where none does.

    Those of all ranks: what a rank gives is its part, and the mean over ranks is that mean.
    """
    weight_B = there_B.to(value_B)
    return (value_B * weight_B).sum(-1) / mean_over_ranks(weight_B.sum(-1)).clamp_min(TINY)


def own_mean(value_MB: Tensor, features: Features) -> Tensor:
    """Mean over the samples that have the modality, as of `over`: [M, B] → [M]."""
    if features.present_BM is None:
        return value_MB.mean(1) * features.share
    return over(value_MB, features.present_BM.T)


def own_loss(logits_MBC: Tensor, label_B: Tensor, features: Features) -> Tensor:
    """Cross-entropy of each modality's logits over the samples that have it: [M], nats."""
    label_MB = label_B.expand(len(logits_MBC), -1)
    loss_MB = F.cross_entropy(logits_MBC.float().mT, label_MB, reduction="none")
    return own_mean(loss_MB, features)


def uniform(features: Features, generator: torch.Generator, *shape: int) -> Tensor:
    """Draw from U(0, 1) for each sample: [B, *shape], on the generator's device.

    A rank takes its samples' part of what one process would draw for the batches of all ranks.

    Args:
        features: of the batch.
        generator: alike on all ranks (see `Method.draws`); the next draw goes on with it.
        shape: of one sample's draws.
    """
    rank, ranks = place()
    samples = round(len(features.rows[0]) / features.share * ranks)
    return torch.rand(samples, *shape, generator=generator, device=generator.device)[rank::ranks]


def trained(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def coalition_rows(sets: Iterable[Iterable[int]], modalities: int) -> Tensor:
    """Bool [S, M] from sets of modality indices."""
    sets = [list(members) for members in sets]
    rows = torch.zeros(len(sets), modalities, dtype=torch.bool)
    for row, members in zip(rows, sets, strict=True):
        row[members] = True
    return rows
