"""Ratios of two things measured in turn in one run: `make bench`, written to results.json.

Each line measures A, B, A, B, … and gives the median of the ratios A/B with the smallest and the
largest, so that a machine that is busy for a while slows both.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import coalitions
import lightning
import script
import torch
from measure import ratio
from torch import Tensor, nn
from torchvision.models import resnet18

from mmeq.data.spec import DatasetSpec, Modality
from mmeq.encoders.vector import VectorEncoder
from mmeq.fusions.memory import Memory
from mmeq.inference.orders import inference_orders
from mmeq.methods.base import Method
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley
from mmeq.module import MultimodalModule

DIM, CLASSES = 64, 6


class Spectrogram(nn.Module):
    """ResNet-18 on one-channel spectrograms [B, 1, 257, 188]."""

    shape = (1, 257, 188)

    def __init__(self) -> None:
        super().__init__()
        self.body = resnet18(num_classes=DIM)
        self.body.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D]."""
        return self.body(x)


class Frame(nn.Module):
    """ResNet-18 on one frame a clip [B, 3, 224, 224]."""

    shape = (3, 224, 224)

    def __init__(self) -> None:
        super().__init__()
        self.body = resnet18(num_classes=DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D]."""
        return self.body(x)


class Vector(VectorEncoder):
    """The small encoder of mmeq on 64 features."""

    shape = (64,)

    def __init__(self) -> None:
        super().__init__(Modality("x", "vector", self.shape), DIM)


class Plain(MultimodalModule):
    """Validation as a plain classifier does it: one forward, one accuracy."""

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count the right answers of the full coalition under one order."""
        order = (tuple(range(len(self.spec.names))),)
        logits_SBC = self.fuse(self.encode(batch), self.coalitions_SM[-1:], order)
        self.right += (logits_SBC[0].argmax(-1) == batch["label"]).sum()

    def on_validation_start(self) -> None:
        """Start counting."""
        self.right = torch.zeros((), dtype=torch.int64)

    def on_validation_epoch_end(self) -> None:
        """Read the count."""
        self.log("val/accuracy", float(self.right), logger=False)


class Batches(torch.utils.data.IterableDataset):
    """Ready batches, so that loading costs nothing."""

    def __init__(self, encoders: dict[str, nn.Module], batch: int, count: int) -> None:
        torch.manual_seed(0)
        self.batches = [
            {
                "inputs": {name: torch.randn(batch, *e.shape) for name, e in encoders.items()},
                "present": torch.ones(batch, len(encoders), dtype=torch.bool),
                "label": torch.randint(CLASSES, (batch,)),
                "index": torch.arange(batch) + number * batch,
                "id": [str(i) for i in range(batch)],
            }
            for number in range(count)
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give the batches."""
        return iter(self.batches)


class Clock(lightning.Callback):
    """Seconds of the last training epoch and of the last validation."""

    seconds = 0.0

    def on_train_epoch_start(self, *args: Any) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, *args: Any) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self._start

    on_validation_start = on_train_epoch_start
    on_validation_end = on_train_epoch_end


def build(
    encoders: dict[str, nn.Module], method: Callable[..., Method], kind: type = MultimodalModule
) -> MultimodalModule:
    """A module with a memory over given encoders."""
    spec = DatasetSpec(
        "bench",
        "random numbers",
        tuple(map(str, range(CLASSES))),
        tuple(Modality(name, "vector", e.shape) for name, e in encoders.items()),
    )
    prior = torch.full((CLASSES,), 1 / CLASSES)
    return kind(
        spec,
        nn.ModuleDict(encoders),
        Memory(len(encoders), DIM, CLASSES, prior),
        method(spec.names),
        partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=1e-4),
        prior,
    )


def trainer(clock: Clock) -> lightning.Trainer:
    """A trainer that only trains."""
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )


def epoch(module: MultimodalModule, loader: Any) -> Callable[[], float]:
    """A function that trains one epoch and gives its seconds."""

    def run() -> float:
        clock = Clock()
        trainer(clock).fit(module, loader)
        return clock.seconds

    return run


def validation(module: MultimodalModule, loader: Any) -> Callable[[], float]:
    """A function that validates once and gives its seconds."""

    def run() -> float:
        clock = Clock()
        lightning.Trainer(
            accelerator="cpu",
            logger=False,
            callbacks=[clock],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        ).validate(module, loader, verbose=False)
        return clock.seconds

    return run


def floor(module: MultimodalModule, loader: Any) -> Callable[[], float]:
    """A function that runs the encoders forward and backward and nothing else: the floor."""

    def run() -> float:
        module.train()
        start = time.perf_counter()
        for batch in loader:
            for name, encoder in module.encoders.items():
                encoder.zero_grad(set_to_none=True)
                encoder(batch["inputs"][name]).sum().backward()
        return time.perf_counter() - start

    return run


def resnets(modalities: int) -> dict[str, nn.Module]:
    """ResNet-18 encoders: spectrogram, frame, spectrogram, …"""
    return {f"m{k}": (Spectrogram, Frame)[k % 2]() for k in range(modalities)}


def vectors(modalities: int) -> dict[str, nn.Module]:
    """Small MLP encoders, where Python's overhead rules."""
    return {f"m{k}": Vector() for k in range(modalities)}


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    for label, make, batch, count, repeats, sizes in (
        ("ResNet-18", resnets, 8, 2 if quick else 4, 3 if quick else 5, (2, 3)),
        ("MLP", vectors, 64, 40, 5, (2, 3, 6)),
    ):
        for modalities in sizes:
            loader = torch.utils.data.DataLoader(
                Batches(make(modalities), batch, count), batch_size=None
            )
            tag = f"{label} x {modalities}"
            joint = build(make(modalities), Joint)
            alternating = build(make(modalities), Shapley)
            both = epoch(alternating, loader), epoch(joint, loader)
            yield ratio(f"alternating epoch / joint epoch, {tag}", *both, repeats)
            if label == "ResNet-18":
                yield ratio(
                    f"alternating epoch / forward and backward alone, {tag}",
                    both[0],
                    floor(alternating, loader),
                    repeats,
                )
            plain = build(make(modalities), Joint, Plain)
            yield ratio(
                f"validation with all coalitions, phi, EDM, intervals / plain, {tag}",
                validation(alternating, loader),
                validation(plain, loader),
                repeats,
            )
    yield hybrid_against_one(3 if quick else 7)
    yield from coalitions.lines(quick)


def hybrid_against_one(repeats: int) -> dict[str, Any]:
    """A fused prediction from raw inputs, M=3, ResNet-18: mean over 6 orders against one order."""
    encoders = resnets(3)
    (batch,) = Batches(encoders, 8, 1)
    module = build(encoders, Joint).eval()
    full = module.coalitions_SM[-1:]

    def predict(name: str) -> Callable[[], float]:
        orders = inference_orders(name, (0, 1, 2))

        @torch.inference_mode()
        def run() -> float:
            start = time.perf_counter()
            module.fuse(module.encode(batch), full, orders)
            return time.perf_counter() - start

        return run

    both = predict("hybrid"), predict("memory_guided")
    return ratio("hybrid inference / one order, encoders included, ResNet-18 x 3", *both, repeats)


def main() -> None:
    """Measure, print and write."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    script.main(__doc__, "results", "batches and repeats", lines, lightning=lightning.__version__)


if __name__ == "__main__":
    main()
