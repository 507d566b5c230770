"""Memory: whether it grows from epoch to epoch, and the peaks of training and validation."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from built import SHAPLEY, built
from gauge import peak, trim
from lightning.pytorch import Callback, Trainer
from measure import Line, line
from models import Batches, Everything, Plain, Shapley, build, device, epoch, validation
from torch import Tensor

from mmeq.callbacks.memory import resident
from mmeq.methods.joint import Joint

GROWTH = (*SHAPLEY, "dataset=mfeat", "dataset.train_size=150", "callbacks.console=null")
"""Alternating training, its record and figures too, on few samples."""
NONE = 1.02
"""Resident memory at the end over that after a few epochs: the history of losses is kept."""


class Watch(Callback):
    """Counts memory and tensors when so many epochs are over.

    Args:
        after: so many.
    """

    def __init__(self, after: tuple[int, ...]) -> None:
        self.after, self.mib, self.tensors = after, list[float](), list[int]()

    def on_train_epoch_start(self, trainer: Trainer, *rest: Any) -> None:
        """Look."""
        if trainer.current_epoch in self.after:
            gc.collect()
            trim()
            self.mib.append(resident("VmRSS"))
            self.tensors.append(sum(issubclass(type(one), Tensor) for one in gc.get_objects()))


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    for kind, size in (("ResNet-18", 2), ("transformer", 3))[: 1 if quick else None]:
        yield from peaks(kind, size)
    yield growth((5, 10, 20) if quick else (5, 25, 50))


def peaks(kind: str, size: int) -> Iterator[Line]:
    """MiB that an epoch takes above what was there, gradients and activations, not the moments."""
    batches = Batches(kind, size, 1)
    shapley, joint = (build(kind, size, method) for method in (Shapley, Joint))
    plain = build(kind, size, Joint, of=Plain)
    for what, a, b in (
        ("alternating / joint training", epoch(shapley, batches), epoch(joint, batches)),
        (
            "validation with everything / plain",
            validation(shapley, batches, Everything),
            validation(plain, batches),
        ),
    ):
        for run in (a, b):
            run()  # what the first run makes libraries load is no part of it
        found = [peak(run) for run in (a, b)]
        if all(found):
            ours, theirs = ([one["peak_mb"]] for one in found)
            yield {
                **line(f"peak memory, {what}, {kind} x {size}", ours, theirs, "mib"),
                "peak_mb": ours[0],
            }


def growth(after: tuple[int, ...]) -> Line:
    """Resident memory of the default run after so many epochs, and its tensors."""
    watch = Watch(after)
    with tempfile.TemporaryDirectory() as place:
        epochs = f"trainer.max_epochs={after[-1] + 1}"
        run = built(Path(place), *GROWTH, epochs, bare=False)
        run.trainer.callbacks.append(watch)
        run.trainer.fit(run.module, datamodule=run.datamodule)
    share = watch.mib[-1] / watch.mib[0]
    told = ", ".join(map(str, after))
    return {
        "name": f"resident memory of the default run after epochs {told}: last / first",
        "ratio": share,
        "lowest": share,
        "highest": share,
        "repeats": 1,
        "aim": NONE,
        "mib": watch.mib,
        "tensors": watch.tensors,
        "device": str(device()),
    }
