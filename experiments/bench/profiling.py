"""Where the time goes: shares of an epoch and of a validation, by part of mmeq.

Clocks stand at the entrance and exit of each part; a part's time is its own, without that of the
parts it calls. What is left of the whole is Lightning's loop. On CUDA every clock waits for the
device, so that shares are of its work too; the whole is slower for it.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from built import SHAPLEY, built
from measure import Line, now
from models import Batches, Clock, Shapley, build, device, trainer

from mmeq.module import MultimodalModule

LOOP = "Lightning's loop, hooks, and what no part has"


class Parts:
    """Seconds that pass in parts of a program, each without those inside it.

    Attributes:
        seconds: of each part.
    """

    def __init__(self, where: torch.device) -> None:
        self.where, self.seconds = where, defaultdict[str, float](float)
        self._open: list[str] = []
        self._since = 0.0

    def clear(self) -> None:
        """Forget."""
        self.seconds.clear()

    def enter(self, part: str) -> None:
        """A part begins."""
        self._count()
        self._open.append(part)

    def leave(self) -> None:
        """It ends."""
        self._count()
        self._open.pop()

    def _count(self) -> None:
        at = now(self.where)
        if self._open:
            self.seconds[self._open[-1]] += at - self._since
        self._since = at

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its time counted."""

        def run(*given: Any, **named: Any) -> Any:
            self.enter(part)
            try:
                return work(*given, **named)
            finally:
                self.leave()

        return run


class Timed:
    """Batches, the time until each is there counted as ``data``."""

    def __init__(self, batches: Iterable[Any], parts: Parts) -> None:
        self.batches, self.parts = batches, parts

    def __iter__(self) -> Iterator[Any]:
        """Give them."""
        source = iter(self.batches)
        while True:
            self.parts.enter("data")
            try:
                batch = next(source, None)
            finally:
                self.parts.leave()
            if batch is None:
                return
            yield batch


def watch(module: MultimodalModule, parts: Parts) -> None:
    """Put clocks into a module and its optimizer, which are of no other use then."""
    fusion, game = module.fusion, module.val_game
    for encoder in module.encoders.values():
        encoder.forward = parts.timed("encoders, forward", encoder.forward)
    made = module.configure_optimizers()
    optimizer = made["optimizer"]
    module.configure_optimizers = lambda: made  # type: ignore[method-assign]
    for part, owner, name in (
        ("moments", fusion, "observe"),
        ("fusion, forward", fusion, "forward"),
        ("losses", module, "loss"),
        ("losses", module.losses, "add"),
        ("backward", module, "manual_backward"),
        ("optimizer", optimizer, "step"),
        ("update: groups, gradients", module, "update"),
        ("encode: rows, features", module, "encode"),
        ("method", module.method, "train_batch"),
        ("game: collect", game, "collect"),
        ("game: phi, EDM, intervals", game, "report"),
    ):
        setattr(owner, name, parts.timed(part, getattr(owner, name)))


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    with tempfile.TemporaryDirectory() as place:
        run = built(Path(place), *SHAPLEY, "dataset=mfeat")
        data, module = run.datamodule, run.module
        yield from profiled(
            "MLP (mfeat x 3)", module, data.train_dataloader(), data.val_dataloader()
        )
    batches = Batches("ResNet-18", 2, 2 if quick else 8)
    yield from profiled("ResNet-18 x 2", build("ResNet-18", 2, Shapley), batches, batches)


def profiled(
    name: str, module: MultimodalModule, train: Iterable[Any], held: Iterable[Any]
) -> Iterator[Line]:
    """Shares of the second epoch, and of the second validation."""
    parts = Parts(device())
    watch(module, parts)
    clip = parts.timed("clipping", torch.nn.utils.clip_grad_norm_)
    jobs = {
        "training epoch": lambda going: going.fit(module, Timed(train, parts)),
        "validation": lambda going: going.validate(module, Timed(held, parts), verbose=False),
    }
    with patch("torch.nn.utils.clip_grad_norm_", clip):
        for job, work in jobs.items():
            clock = Clock()
            for _ in range(2):  # the first warms up
                parts.clear()
                work(trainer(clock, validates=job == "validation"))
            yield from shares(f"{job}, {name}", parts.seconds, clock.seconds)


def shares(job: str, seconds: dict[str, float], whole: float) -> Iterator[Line]:
    """A line a part, by falling share; what is left last."""
    left = {LOOP: max(0.0, whole - sum(seconds.values()))}
    ranked = dict(sorted(seconds.items(), key=lambda part: -part[1]))
    for part, value in {**ranked, **left}.items():
        facts = {"job": job, "part": part, "share": value / whole, "seconds": value}
        yield {"name": f"{job}: {part}", **facts}
