"""The model: encodes once and answers every coalition; measures itself on a part of the data.

Shape suffixes: B batch, M modalities, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import lightning
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric

from mmeq.data.spec import DatasetSpec
from mmeq.device import on_host, remember
from mmeq.encoders.present import PresentRows
from mmeq.errors import MmeqError
from mmeq.fusions.base import Fusion
from mmeq.fusions.orders import Orders
from mmeq.game.choice import make_game
from mmeq.game.metric import CoalitionGame
from mmeq.game.report import GameReport
from mmeq.game.sampled import SampledGame
from mmeq.inference.build import build_strategy
from mmeq.inference.orders import Inference
from mmeq.methods.base import Batch, Features, Method

Game = CoalitionGame | SampledGame


class MultimodalModel(lightning.LightningModule):
    """Encoders, a fusion and a method's way to answer; validation, test and prediction.

    What trains it is `mmeq.module.MultimodalModule`.

    Args:
        spec: of the dataset.
        encoders: one a modality, by name, each to the common width.
        fusion: features → logits of coalitions.
        method: how coalitions are answered, and whose order inference follows.
        class_frequencies: [C] of the training part: the best constant predictor.
        inference: which orders a prediction averages over, see `mmeq.inference`.
        strategy: options of the inference strategies; None: as they come.
        value: v(S) of the game: accuracy, nll, macro_f1 or a torchmetrics metric.
        estimator: of the Shapley values; auto: exact up to 12 modalities, sampled beyond.
        budget: coalitions that a sampled estimator evaluates, or None for its default.
        seed: of bootstrap and sampling.
        samples: part → hash of its samples (`Manifest.fingerprints`), told to checkpoints.

    Attributes:
        report: the game on the validation part after the last epoch; None before.
        test_report: the same on the part that `Trainer.test` saw.
        order: the order of the epoch being trained or just trained.
        findings: what callbacks found out beside the reports, plain, for ``results.json``.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        encoders: nn.ModuleDict,
        fusion: Fusion,
        method: Method,
        class_frequencies: Tensor,
        inference: Inference = "auto",
        strategy: Mapping[str, Any] | None = None,
        value: str | Metric = "accuracy",
        estimator: str = "auto",
        budget: int | None = None,
        seed: int = 0,
        samples: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        count = len(spec.modalities)
        if count < method.min_modalities:
            raise MmeqError(
                f"method {method.title()} needs at least {method.min_modalities} "
                f"modalities, the dataset gives {count} ({', '.join(spec.names)})"
            )
        if method.max_modalities is not None and count > method.max_modalities:
            raise MmeqError(
                f"method {method.title()} is defined for {method.max_modalities} modalities at "
                f"most, the dataset gives {count} ({', '.join(spec.names)})"
            )
        self.spec, self.encoders, self.fusion, self.method = spec, encoders, fusion, method
        self.inference: Inference = inference
        self.seed = seed
        self.samples = None if samples is None else dict(samples)
        self._rows = PresentRows()
        self._share = 1.0
        self.order = method.order
        self.strategy = build_strategy(inference, method.order, strategy, seed)
        self.val_game, self.test_game = (
            make_game(spec.names, class_frequencies, fusion.dim, value, estimator, budget, seed)
            for _ in range(2)
        )
        self.coalitions_SM = self.val_game.coalitions_SM
        self.report: GameReport | None = None
        self.test_report: GameReport | None = None
        self.findings: dict[str, Any] = {}

    @property
    def inference_orders(self) -> Orders:
        """The orders that the inference strategy looks at."""
        return self.strategy.orders

    @property
    def log_prior(self) -> Tensor:
        """[C] logits of the best constant predictor."""
        return self.fusion.log_prior_C

    @property
    def _fitting(self) -> bool:
        return self._trainer is not None and self._trainer.state.fn == "fit"

    @property
    def share(self) -> float:
        """Samples of this rank's training batch over the mean of all ranks'; else 1."""
        return self._share if self.training else 1.0

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch to the device; who has what stays known on the host (`on_host`)."""
        tensors = {key: value for key, value in batch.items() if key != "id"}  # names stay
        moved: Batch = super().transfer_batch_to_device(tensors, device, dataloader_idx)
        moved |= {"id": batch["id"]} if "id" in batch else {}
        remember(moved["present"], batch["present"])
        return moved

    def encode(self, batch: Batch, modalities: Iterable[int] | None = None) -> Features:
        """Run each encoder once; those not in `modalities` without graph and in eval mode."""
        chosen = None if modalities is None else set(modalities)
        rows = []
        for m, name in enumerate(self.spec.names):
            if chosen is None or m in chosen:
                rows.append(self._encoded(name, batch))
            else:
                rows.append(self._quiet(name, batch))
        present_BM = None if self.spec.complete else batch["present"]
        features = Features(tuple(rows), present_BM, batch.get("id"), self.share)
        if self.training:
            self.fusion.observe(features.rows, features.present_BM)
        if self.fusion.wants_zero_input:
            zeros: Batch = {"inputs": {n: _zeros(x) for n, x in batch["inputs"].items()}}
            zeros["present"] = torch.ones(1, len(self.spec.names), dtype=torch.bool)
            rows = [self._quiet(name, zeros)[0] for name in self.spec.names]
            self.fusion.see_zero_input(torch.stack(rows))
        return features

    def reencode(
        self, batch: Batch, features: Features, modality: int, graph: bool = False
    ) -> Features:
        """Replace one modality's features by what its encoder gives now."""
        rows, name = list(features.rows), self.spec.names[modality]
        rows[modality] = self._encoded(name, batch) if graph else self._quiet(name, batch)
        return features.with_rows(rows)

    def _encoded(self, name: str, batch: Batch) -> Tensor:
        """Encode a modality; absent samples do not enter batch statistics."""
        encoder, inputs = self.encoders[name], batch["inputs"][name]
        if self.spec.complete:
            return encoder(inputs)
        present_B = on_host(batch["present"])[:, self.spec.names.index(name)]
        return self._rows.encode(encoder, inputs, present_B, self.fusion.dim, self.device)

    @torch.no_grad()
    def _quiet(self, name: str, batch: Batch) -> Tensor:
        """Encode without graph and without moving running statistics."""
        encoder = self.encoders[name]
        training = encoder.training
        encoder.eval()
        try:
            return self._encoded(name, batch)
        finally:
            encoder.train(training)

    def fuse(
        self, features: Features, coalitions_SM: Tensor, orders: Orders | None = None
    ) -> Tensor:
        """Logits [S, B, C] of coalitions: by the given orders, else by the inference strategy.

        Training takes the mean over the strategy's orders, and so does validation while a strategy
        that learns from the validation part has not yet learnt.
        """
        if orders is None and (self.training or (self.strategy.learns and self._fitting)):
            orders = self.inference_orders
        if orders is None:
            return self.strategy.answer(
                self.fusion, features.rows, coalitions_SM, features.present_BM, features.ids
            )
        return self.fusion(features.rows, coalitions_SM, orders, features.present_BM)

    def alone(self, features: Features) -> Tensor:
        """Each modality's own logits [M, B, C], see `Fusion.alone`."""
        return self.fusion.alone(features.rows, features.present_BM)

    def on_fit_start(self) -> None:
        """Look at the encoders anew: strategies and callbacks may exchange parts of them."""
        self._rows.forget()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Encode once and answer every coalition."""
        return self._evaluate(batch, self.val_game)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The same on the test part."""
        return self._evaluate(batch, self.test_game)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Every coalition's logits; labels are not looked at, so they may be unknown."""
        kept = {key: batch[key] for key in ("label", "index", "id")}
        return {"logits_SBC": self.logits(batch), **kept}

    def on_validation_start(self) -> None:
        """Make running statistics equal on all ranks."""
        if self._fitting:
            self.fusion.settle()
        if self.trainer.world_size > 1:
            for buffer in [*self.encoders.buffers(), *_norm_buffers(self.method)]:
                if buffer.is_floating_point():
                    wide = buffer.double()  # so that what is equal on all ranks stays as it is
                    dist.all_reduce(wide)
                    buffer.copy_(wide / self.trainer.world_size)

    def on_validation_epoch_end(self) -> None:
        """Compute the game; callbacks log it and set the order."""
        report = self._finish(self.val_game)
        if not self.trainer.sanity_checking:
            self.report = report
            self.log_dict(
                {
                    **{f"val/{name}": float(values[-1]) for name, values in report.values.items()},
                    "val/edm": report.edm,
                },
                logger=False,
            )

    def on_test_epoch_start(self) -> None:
        """Predict with the orders that belong to the weights."""
        self._use_orders()
        self.strategy.reset()

    def on_test_epoch_end(self) -> None:
        """Compute the game on the test part."""
        if facts := self.strategy.facts():
            self.findings["sampling"] = facts
        self.test_report = self._finish(self.test_game)

    def logits(self, batch: Batch) -> Tensor:
        """Logits [S, B, C] of the coalitions in `coalitions_SM`."""
        return self.method.logits(self, self.encode(batch), self.coalitions_SM)

    def _evaluate(self, batch: Batch, game: Game) -> dict[str, Any]:
        features = self.encode(batch)
        logits_SBC = self.method.logits(self, features, self.coalitions_SM)
        game.collect(logits_SBC, features.rows, batch["present"], batch["label"], batch["index"])
        kept = {key: batch[key] for key in ("label", "index", "id")}
        return {"logits_SBC": logits_SBC, "features": features, **kept}

    def _finish(self, game: Game) -> GameReport:
        report = game.report(self._score)
        game.reset()
        return report

    def _score(self, rows: list[Tensor], present_BM: Tensor, coalitions_SM: Tensor) -> Tensor:
        """Logits [S, B, C] of kept features, for games that choose their coalitions."""
        features = Features(tuple(rows), None if self.spec.complete else present_BM)
        return self.method.logits(self, features, coalitions_SM)

    def _use_orders(self) -> None:
        self.strategy.follow(self.order)

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the order of the epoch that made these weights, and what inference has learnt."""
        checkpoint["mmeq_order"] = list(self.order)
        checkpoint["mmeq_data"] = self._told()
        if self.samples is not None:
            checkpoint["mmeq_samples"] = self.samples
        if (state := self.strategy.state()) is not None:
            checkpoint["mmeq_strategy"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back, so that predictions use it.

        Raises:
            MmeqError: the weights belong to other classes or modalities than the data have now.
        """
        kept, now = checkpoint.get("mmeq_data"), self._told()
        for what in now if kept is not None else ():
            if kept[what] != now[what]:
                raise MmeqError(
                    f"the weights were trained with {what} {', '.join(kept[what])}; the data have "
                    f"{', '.join(now[what])} now: give the data of the run"
                )
        self.order = tuple(checkpoint["mmeq_order"])
        self._use_orders()
        self.strategy.load_state(checkpoint.get("mmeq_strategy"))

    def _told(self) -> dict[str, list[str]]:
        """What outputs and encoders stand for, in their order."""
        return {"classes": list(map(str, self.spec.classes)), "modalities": list(self.spec.names)}


def _norm_buffers(module: nn.Module) -> Iterator[Tensor]:
    """Running statistics of batch norms in a method's own networks."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            yield from part.buffers()


def _zeros(inputs: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """One sample of zeros in the form of a modality's inputs."""
    if isinstance(inputs, dict):
        return {key: torch.zeros_like(value[:1]) for key, value in inputs.items()}
    return torch.zeros_like(inputs[:1])
