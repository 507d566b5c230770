"""What the bench trains: real encoders over random inputs, a memory, and Lightning's loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from measure import now
from omegaconf import OmegaConf
from torch import Tensor, nn

from mmeq.config import conf_dir
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.encoders.resnet import AudioResNet, PictureResNet
from mmeq.encoders.transformer import SequenceTransformer
from mmeq.encoders.vector import VectorEncoder
from mmeq.game.missing import missing_table
from mmeq.methods.base import Method
from mmeq.module import MultimodalModule

CLASSES = 6
OPTIMIZER = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01, fused=True)
"""What `mmeq.config.build` makes of conf/optim/adamw.yaml."""
CLIP = 1.0
SHAPES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "ResNet-18": (("audio", (257, 188)), ("image", (3, 224, 224))),
    "transformer": (("sequence", (48, 64)),),
    "MLP": (("vector", (64,)),),
}
"""Kind of encoders → kinds and shapes of modalities, which take turns."""
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "audio": AudioResNet,
    "image": partial(PictureResNet, augment=False),
    "sequence": SequenceTransformer,
    "vector": VectorEncoder,
}
DIMS = {"ResNet-18": 512, "transformer": 512, "MLP": 64}
BATCHES = {"ResNet-18": 8, "transformer": 32, "MLP": 64}
"""Samples a batch."""


def configured(group: str, name: str) -> Callable[..., Any]:
    """What a file of conf/ makes, with its options set and the rest still to be given."""
    made: Callable[..., Any] = instantiate(
        OmegaConf.load(conf_dir() / group / f"{name}.yaml"), _partial_=True
    )
    return made


Memory = configured("fusion", "memory")
Shapley = configured("method", "shapley")
"""The default's parts."""


def device() -> torch.device:
    """Where everything runs: CUDA if it is there."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half() -> torch.autocast:
    """The precision that mmeq trains in by default: bf16 on CUDA, else float32."""
    where = device().type
    return torch.autocast(where, torch.bfloat16, enabled=where == "cuda")


def modalities(kind: str, count: int) -> tuple[Modality, ...]:
    """So many modalities of a kind of encoders."""
    shapes = SHAPES[kind]
    return tuple(Modality(f"m{k}", *shapes[k % len(shapes)]) for k in range(count))


def inputs(modality: Modality, batch: int) -> Any:
    """Random inputs of a modality."""
    if modality.kind == "image":
        return torch.randint(256, (batch, *modality.shape), dtype=torch.uint8)
    values = torch.randn(batch, *modality.shape)
    if modality.kind == "sequence":
        return {"values": values, "length": torch.full((batch,), modality.shape[0])}
    return values


class Batches(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Ready batches, so that loading costs nothing.

    Args:
        kind: of encoders.
        modalities: M.
        count: batches.
        batch: samples of each; None: as `BATCHES` has it.
        classes: C.
    """

    def __init__(
        self,
        kind: str,
        modalities: int,
        count: int,
        batch: int | None = None,
        classes: int = CLASSES,
    ) -> None:
        torch.manual_seed(0)
        self.size = size = BATCHES[kind] if batch is None else batch
        self.samples = size * count
        self.batches = [
            {
                "inputs": {m.name: inputs(m, size) for m in spec(kind, modalities).modalities},
                "present": torch.ones(size, modalities, dtype=torch.bool),
                "label": torch.randint(classes, (size,)),
                "index": torch.arange(size) + number * size,
                "id": [str(i) for i in range(size)],
            }
            for number in range(count)
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give the batches."""
        return iter(self.batches)

    def loader(self) -> torch.utils.data.DataLoader[Any]:
        """For Lightning; batches are pinned, as mmeq's loaders pin them."""
        pinned = torch.cuda.is_available()
        return torch.utils.data.DataLoader(self, batch_size=None, pin_memory=pinned)


def spec(kind: str, count: int, classes: int = CLASSES) -> DatasetSpec:
    """A data set of random numbers."""
    names = tuple(map(str, range(classes)))
    return DatasetSpec("bench", "random numbers", names, modalities(kind, count))


class Plain(MultimodalModule):
    """Validation as a plain classifier does it: one forward, one accuracy."""

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count the right answers of the full coalition under one order."""
        order = (tuple(range(len(self.spec.names))),)
        logits_SBC = self.fuse(self.encode(batch), self.coalitions_SM[-1:], order)
        self.right += (logits_SBC[0].argmax(-1) == batch["label"]).sum()

    def on_validation_start(self) -> None:
        """Start counting."""
        self.right = torch.zeros((), dtype=torch.int64, device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Read the count."""
        self.log("val/accuracy", float(self.right), logger=False)


def build(
    kind: str,
    count: int,
    method: Callable[..., Method],
    classes: int = CLASSES,
    of: type[MultimodalModule] = MultimodalModule,
) -> MultimodalModule:
    """A module with a memory; its optimizer's moments are kept from one fit to the next."""
    about, dim = spec(kind, count, classes), DIMS[kind]
    torch.manual_seed(0)
    prior = torch.full((classes,), 1 / classes)
    module = of(
        about,
        nn.ModuleDict({m.name: ENCODERS[m.kind](m, dim) for m in about.modalities}).to(
            memory_format=torch.channels_last  # as mmeq.config.build does with such large pictures
        ),
        Memory(count, dim, classes, prior),
        method(about.names),
        OPTIMIZER,
        prior,
        clip_norm=CLIP,
    )
    module.to(device())
    made = module.configure_optimizers()
    module.configure_optimizers = lambda: made  # type: ignore[method-assign]
    return module


class Clock(lightning.Callback):
    """Seconds of the last training epoch or of the last validation."""

    seconds = 0.0

    def start(self) -> None:
        """Start."""
        self._begun = now(device())

    def stop(self) -> None:
        """Stop."""
        self.seconds = now(device()) - self._begun

    def on_train_epoch_start(self, *args: Any) -> None:
        """Start."""
        self.start()

    def on_train_epoch_end(self, *args: Any) -> None:
        """Stop."""
        self.stop()

    def on_validation_start(self, *args: Any) -> None:
        """Start."""
        self.start()

    def on_validation_end(self, *args: Any) -> None:
        """Stop."""
        self.stop()


class Everything(Clock):
    """A clock of validations that make the table of missing modalities as well."""

    def on_validation_start(self, *args: Any) -> None:
        """Start."""
        self.start()
        self.kept: list[tuple[Tensor, Tensor]] = []

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
        """Keep what the table is made of."""
        self.kept.append((outputs["logits_SBC"], outputs["label"]))

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Make the table, then stop."""
        logits_SNC = torch.cat([logits for logits, _ in self.kept], 1).float().cpu()
        label_N = torch.cat([label for _, label in self.kept]).cpu()
        missing_table(logits_SNC.transpose(0, 1), label_N, module.spec.names)
        self.stop()


def trainer(
    *callbacks: lightning.Callback, validates: bool = False, precision: str | None = None
) -> lightning.Trainer:
    """A trainer that trains one epoch, or only validates; in mmeq's precision or another."""
    usual = "bf16-mixed" if device().type == "cuda" else "32-true"
    return lightning.Trainer(
        max_epochs=1,
        accelerator="auto",
        devices=1,
        precision=precision or usual,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=1.0 if validates else 0,
    )


def epoch(
    module: MultimodalModule, batches: Batches, precision: str | None = None
) -> Callable[[], float]:
    """A function that trains one epoch and gives its seconds."""

    def run() -> float:
        clock = Clock()
        trainer(clock, precision=precision).fit(module, batches.loader())
        module.zero_grad(set_to_none=True)  # those of an epoch are no part of the next
        return clock.seconds

    return run


def validation(
    module: MultimodalModule, batches: Batches, clock: type[Clock] = Clock
) -> Callable[[], float]:
    """A function that validates once and gives its seconds."""

    def run() -> float:
        watch = clock()
        trainer(watch, validates=True).validate(module, batches.loader(), verbose=False)
        return watch.seconds

    return run


def floor(module: MultimodalModule, batches: Batches) -> Callable[[], float]:
    """A function that runs the encoders forward and backward and nothing else: the floor."""

    def run() -> float:
        where = device()
        module.to(where).train()
        ready = [moved(batch["inputs"], where) for batch in batches]
        start = now(where)
        for batch in ready:
            for name, encoder in module.encoders.items():
                encoder.zero_grad(set_to_none=True)
                with half():
                    out = encoder(batch[name])
                out.float().sum().backward()
        seconds = now(where) - start
        module.zero_grad(set_to_none=True)
        return seconds

    return run


def moved(given: Any, where: torch.device) -> Any:
    """Tensors of a tree of dicts, on a device."""
    if isinstance(given, dict):
        return {key: moved(value, where) for key, value in given.items()}
    return given.to(where) if isinstance(given, Tensor) else given
