"""The training loop: a model's manual optimisation, for methods that it does not know by name.

Shape suffixes: B batch, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.collective import mean_over_ranks, place, share
from mmeq.data.spec import DatasetSpec
from mmeq.errors import MmeqError
from mmeq.fusions.base import Fusion
from mmeq.losses import LossMeter
from mmeq.methods.base import Batch, Features, Method, trained
from mmeq.model import MultimodalModel


class MultimodalModule(MultimodalModel):
    """The model with manual optimisation: the methods' `Loop`.

    One optimizer holds a parameter group for each encoder (``encoder/text``), for what several
    encoders share (``encoder/image+text``), the fusion and the method. A step touches only the
    groups it is about: the gradients of the others are None, so neither weights nor moments move.
    Each epoch draws from (seed, epoch), so a resumed run draws the same.

    W processes with batches of B make the steps of one with batches of W·B, for every method: ranks
    share out its batches, and what a method counts, draws or compares it does over all of them
    (`mmeq.methods.base.over`, `uniform`, `mmeq.collective.whole_batch`). Three things are a rank's
    own, and differ: dropout inside encoders, augmentation, and the batch statistics of batch norms
    (their running ones are averaged before each validation). Ranks still hold equal weights.

    Args:
        spec: of the dataset.
        encoders: one a modality, by name, each to the common width.
        fusion: features → logits of coalitions.
        method: what a training batch does.
        optimizer: parameter groups → optimizer.
        class_frequencies: [C] of the training part: the best constant predictor.
        scheduler: optimizer → learning-rate schedule, stepped once an epoch; or None.
        clip_norm: largest gradient norm of a step, or None.
        accumulate: batches whose gradients make one step.
        **answering: inference and measurement, see `MultimodalModel`.

    Attributes:
        train_losses: mean of every loss over the epoch and all ranks.
        epoch_findings: what callbacks found out in one epoch, for its line of ``history.jsonl``.
        first_bad: the first loss that was NaN or infinite in the epoch, and its batch; or None.
        watchers: called with the parameter groups of each step, their gradients in place and not
            yet clipped; the step is made inside the context that they return.

    Raises:
        MmeqError: for a method that cannot train encoders with parameters in common.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        encoders: nn.ModuleDict,
        fusion: Fusion,
        method: Method,
        optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
        class_frequencies: Tensor,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        **answering: Any,  # noqa: ANN401  see MultimodalModel
    ) -> None:
        super().__init__(spec, encoders, fusion, method, class_frequencies, **answering)
        self.automatic_optimization = False
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.epoch_findings: dict[str, Any] = {}
        self.losses = LossMeter()
        self.train_losses: dict[str, float] = {}
        self.first_bad: tuple[str, int] | None = None
        self._held: dict[tuple[int, ...], tuple[int, list[Tensor | None]]] = {}
        self._batches = self._updates = 0
        self.watchers: list[Callable[[list[dict[str, Any]]], AbstractContextManager[None]]] = []
        owners = [len(names) for names in self._owners().values()]
        self.shared = max(owners, default=0) > 1
        if self.shared and not method.shares:
            raise MmeqError(
                f"method {method.title()} cannot train encoders that share parameters: give each "
                "modality its own (backbone=llm: backbone.encoders.text.separate=true), tune fewer "
                "(backbone.encoders.text.tune=lora), or take method=joint or method=shapley"
            )
        method.adopt(encoders)

    # what methods may ask of the loop, beside what the model answers

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self.trainer.current_epoch

    @property
    def epochs(self) -> int:
        """How many epochs there shall be."""
        return self.trainer.max_epochs

    @property
    def batch(self) -> int:
        """Place of the current batch in its epoch, from 0."""
        return self._batches

    @property
    def batches(self) -> int:
        """Batches of an epoch on this rank."""
        return int(self.trainer.num_training_batches)

    def encoder(self, modality: int) -> nn.Module:
        """The encoder of a modality."""
        return self.encoders[self.spec.names[modality]]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks of a detached value."""
        return mean_over_ranks(value)

    def gradients(self, loss: Tensor, modalities: Iterable[int]) -> dict[int, list[Tensor]]:
        """Gradients of a loss by encoder parameters, the mean over ranks; ``.grad`` stays."""
        owners = {m: trained(self.encoder(m)) for m in modalities}
        every = [parameter for parameters in owners.values() for parameter in parameters]
        if not every:  # all frozen
            return {m: [] for m in owners}
        found = torch.autograd.grad(loss, every, retain_graph=True, materialize_grads=True)
        each = iter([self.mean(gradient) for gradient in found])
        return {m: [next(each) for _ in parameters] for m, parameters in owners.items()}

    def sweep(self, split: str = "train", share: float = 1.0) -> Iterator[tuple[Batch, Features]]:
        """Encode a part of the data, the same samples on every rank; see `Loop.sweep`."""
        loader = self.trainer.datamodule.loader(
            split, whole=True, share=share, draw=(self.seed, self.epoch)
        )
        modes = {part: part.training for part in self.modules()}
        self.eval()
        try:
            for batch in loader:
                batch = self.transfer_batch_to_device(batch, self.device, 0)
                with torch.no_grad():
                    features = self.encode(batch)
                yield batch, features
        finally:
            for part, training in modes.items():
                part.training = training

    def loss(self, logits_SBC: Tensor, label_B: Tensor) -> Tensor:
        """Cross-entropy of each coalition, the mean over the batch of all ranks: [S], nats."""
        count, batch, _ = logits_SBC.shape
        target = label_B.expand(count, batch).flatten()
        each = F.cross_entropy(logits_SBC.flatten(0, 1).float(), target, reduction="none")
        return each.view(count, batch).mean(1) * self.share

    def update(
        self,
        loss: Tensor,
        modalities: Iterable[int],
        edit: Callable[[], None] | None = None,
        rates: Mapping[int, float] | None = None,
        fusion_rate: float = 1.0,
    ) -> None:
        """Backward, clip and step the encoders of `modalities`, the fusion and the method.

        With `accumulate` > 1 the gradients of equal calls in successive batches are averaged
        before one step; the last batch of an epoch steps with what there is. `edit` sees the
        gradients of this batch alone, before that and before clipping.
        """
        key = (self._updates, *modalities)
        self._updates += 1
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=True)
        if not loss.requires_grad:  # no sample of the batch has what this step is about
            part = self.fusion if self.method.uses_fusion else self.method
            # the last is the answer's bias, which any other rank that learns something uses too:
            # what nobody uses keeps no gradient, as in one process
            loss = loss + 0.0 * trained(part)[-1].sum()
        self.manual_backward(loss)
        names = {self.spec.names[m] for m in key[1:]}
        stepped: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            part, _, owners = group["name"].partition("/")
            if part != "encoder" or not names.isdisjoint(owners.split("+")):
                stepped.append(group)
            else:
                for parameter in group["params"]:
                    parameter.grad = None
        parameters: list[nn.Parameter] = [p for group in stepped for p in group["params"]]
        if edit is not None:
            with torch.autocast(self.device.type, enabled=False), torch.no_grad():
                edit()
        if self.accumulate > 1 and not self._accumulated(key, parameters):
            return
        if edit is not None:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = laid_out(parameter.grad, parameter)
        factors = {f"encoder/{self.spec.names[m]}": rate for m, rate in (rates or {}).items()}
        factors["fusion"] = fusion_rate
        with ExitStack() as watched:
            for watch in self.watchers:
                watched.enter_context(watch(stepped))
            if self.clip_norm is not None:
                on_cpu = self.device.type == "cpu"  # where torch takes one at a time by itself
                nn.utils.clip_grad_norm_(parameters, self.clip_norm, foreach=on_cpu or None)
            with scaled(optimizer.param_groups, factors):
                optimizer.step()

    def _accumulated(self, key: tuple[int, ...], parameters: list[nn.Parameter]) -> bool:
        """Add to the gradients held for this call; True when they are complete and in place."""
        in_window = self._batches % self.accumulate + 1
        if in_window == self._updates == 1:  # a call that the last window did not repeat to its end
            self._held.clear()
        calls, held = self._held.get(key, (0, [None] * len(parameters)))
        for k, parameter in enumerate(parameters):
            if parameter.grad is not None:
                held[k] = parameter.grad if held[k] is None else held[k] + parameter.grad
        self._held[key] = calls + 1, held
        if in_window < self.accumulate and not self.trainer.is_last_batch:
            return False
        del self._held[key]
        for parameter, grad in zip(parameters, held, strict=True):
            parameter.grad = None if grad is None else grad / (calls + 1)
        return True

    def configure_optimizers(self) -> dict[str, Any]:
        """One optimizer with named groups; empty groups are left out."""
        groups: dict[str, list[nn.Parameter]] = {}
        for parameter, names in self._owners().items():
            groups.setdefault(f"encoder/{'+'.join(names)}", []).append(parameter)
        groups |= {"fusion": trained(self.fusion), "method": trained(self.method)}
        optimizer = self.make_optimizer(
            [{"name": name, "params": every} for name, every in groups.items() if every]
        )
        optimizer.register_load_state_dict_post_hook(lay_out_state)
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def _owners(self) -> dict[nn.Parameter, list[str]]:
        """Trained parameters of the encoders, and the modalities that each belongs to."""
        owners: dict[nn.Parameter, list[str]] = {}
        for name in self.spec.names:
            for parameter in trained(self.encoders[name]):
                owners.setdefault(parameter, []).append(name)
        return owners

    def on_train_epoch_start(self) -> None:
        """Draw from (seed, epoch, rank) and take the order that the method chose."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)) + self.global_rank)
        self.order = self.method.order
        self._use_orders()
        self.strategy.load_state(None)
        self.losses.reset()
        self.epoch_findings = {}
        self._held.clear()
        self._batches = 0
        self.method.on_epoch_start(self)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Let the method train on the batch."""
        self._updates, size = 0, len(batch["label"])
        if place()[1] > 1 and self.trainer.is_last_batch:  # the only one that may be uneven
            self._share = share(size)
        self.losses.add(self.method.train_batch(self, batch), size / self._share)
        self._share = 1.0
        self._batches += 1

    def on_train_epoch_end(self) -> None:
        """Step the learning-rate schedule, end with the method; then checkpoints are written."""
        if self.method.finished:
            self.trainer.should_stop = True
        scheduler = self.lr_schedulers()
        if scheduler is not None:
            scheduler.step()

    def on_validation_start(self) -> None:
        """Sum up the epoch's losses before anything is measured."""
        self.train_losses, self.first_bad = self.losses.summary()
        super().on_validation_start()


def laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """The same numbers in the parameter's layout: fused kernels read memory as it lies."""
    if tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments of a loaded checkpoint the layout of their parameters."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = laid_out(value, parameter)


@contextmanager
def scaled(groups: list[dict[str, Any]], factors: Mapping[str, float]) -> Iterator[None]:
    """Multiply the learning rates of named groups for as long as the context lasts."""
    before = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = group["lr"] * factors.get(group["name"], 1.0)
    try:
        yield
    finally:
        for group, rate in zip(groups, before, strict=True):
            group["lr"] = rate
