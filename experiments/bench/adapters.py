"""Bench of LoRA: a step of alternating against joint training, and both against plain peft.

The limit is the models' own forward and backward of the same batches with peft's adapters, in a
loop without mmeq: no front end, fusion, clipping or optimizer.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import peft
import torch
from built import PAIR, SHAPLEY, Clock, built, train
from gauge import Gauge
from lightning.fabric.utilities import move_data_to_device
from measure import in_turn, line, now
from torch import Tensor, nn

from mmeq.config import Run

BATCH = 8
SETTINGS = {"SmolLM2": ("backbone=llm",), "pretrained pair": PAIR}
"""Emoji as image and text; SmolLM2 is the body of both."""
LORA = "backbone.encoders.text.tune=lora"
RUNS = {
    "joint": (LORA, "method=joint"),
    "alternating": (LORA, *SHAPLEY),
    "recomputing": (LORA, *SHAPLEY, "backbone.encoders.text.checkpointing=true"),
}


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    steps, repeats = (1, 2) if quick else (3, 5)
    if torch.cuda.is_available():
        steps = 20
    for name, overrides in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            for found in compared(name, Path(folder), overrides, steps, repeats):
                yield {**found, "overrides": list(overrides)}


def compared(
    name: str, folder: Path, overrides: tuple[str, ...], steps: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Time and memory of a step, by pairs."""
    size = f"batch_size={BATCH}"
    runs = {one: built(folder / one, *overrides, size, *more) for one, more in RUNS.items()}
    batches = list(islice(runs["joint"].datamodule.train_dataloader(), steps))
    loops: dict[str, Steps | Plain] = {one: Steps(run, batches) for one, run in runs.items()}
    bare = built(folder / "plain", *overrides, *SHAPLEY, size, "backbone.encoders.text.tune=frozen")
    loops["plain"] = Plain(bare, batches)
    seconds = in_turn(loops, repeats)
    mib = {one: [loop.weigh()] for one, loop in loops.items()}  # alike to a thousandth each time
    for what, a, b in (
        ("alternating step / joint step", "alternating", "joint"),
        ("forward and backward alone / alternating step", "plain", "alternating"),
        ("alternating step with checkpointing / without", "recomputing", "alternating"),
    ):
        found = line(f"{what}, {name}", seconds[a], seconds[b])
        yield {**found, "samples_per_second": [BATCH / x for x in found["seconds"]]}
        if not any(map(math.isnan, mib[a] + mib[b])):
            yield line(f"{what}, memory, {name}", mib[a], mib[b], "mib")


class Steps:
    """Trains on ready batches on call, by Lightning's loop; gives the seconds of a step."""

    def __init__(self, run: Run, batches: list[Any]) -> None:
        self.run, self.batches, self.clock = run, batches, Clock(run.trainer.strategy.root_device)
        run.trainer.callbacks[:] = [self.clock]
        made = run.module.configure_optimizers()
        run.module.configure_optimizers = lambda: made  # moments are kept between calls

    def __call__(self) -> float:
        """Train."""
        train(self.run, self.batches)
        return median(self.clock.steps)

    def weigh(self) -> float:
        """MiB that a step takes; the most of all batches."""
        self.clock.weigh = True
        train(self.run, self.batches)
        self.clock.weigh = False
        return max(self.clock.taken)


class Plain:
    """Forward and backward of a run's models, with adapters that peft puts in, and nothing else.

    Args:
        run: built with frozen models. They are called with what its encoders call them with.
        batches: ready.
    """

    def __init__(self, run: Run, batches: list[Any]) -> None:
        self.device = run.trainer.strategy.root_device
        half = str(run.trainer.precision) == "bf16-mixed"
        self.half = torch.autocast(self.device.type, torch.bfloat16, enabled=half)
        lora = run.cfg["backbone"]["encoders"]["text"]["lora"]
        self.calls: list[list[tuple[nn.Module, Any, Any]]] = [[] for _ in batches]
        for name, encoder in run.module.encoders.items():
            model = getattr(encoder.body, "model", encoder.body)
            encoder.to(self.device)
            given = [self.seen(encoder, model, batch["inputs"][name]) for batch in batches]
            model = adapted(model, lora)
            for calls, (args, kwargs) in zip(self.calls, given, strict=True):
                calls.append((model, args, kwargs))

    def seen(self, encoder: nn.Module, model: nn.Module, inputs: Any) -> tuple[Any, Any]:
        """What the model is called with for some inputs; front ends would want gradients."""
        calls: list[tuple[Any, Any]] = []
        keep = lambda _, args, kwargs: calls.append((args, kwargs))  # noqa: E731
        hook = model.register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad(), self.half:
            encoder(move_data_to_device(inputs, self.device))
        hook.remove()
        ((args, kwargs),) = calls
        if "inputs_embeds" in kwargs:
            kwargs["inputs_embeds"].requires_grad_()
        return args, kwargs

    def clear(self) -> None:
        """Let gradients go."""
        for model, *_ in self.calls[0]:
            model.zero_grad(set_to_none=True)

    def step(self, calls: list[tuple[nn.Module, Any, Any]]) -> None:
        """Run all models forward, then backward."""
        loss: Any = 0.0
        with self.half:
            for model, args, kwargs in calls:
                found = model(*args, **kwargs)
                out: Tensor = getattr(found, "last_hidden_state", found)
                loss = loss + out.float().square().mean()
        loss.backward()

    def __call__(self) -> float:
        """Seconds of a batch."""
        seconds = []
        for calls in self.calls:
            start = now(self.device)
            self.clear()
            self.step(calls)
            seconds.append(now(self.device) - start)
        return median(seconds)

    def weigh(self) -> float:
        """MiB that a batch takes; the most of all."""
        gauge, found = Gauge(self.device), []
        for calls in self.calls:
            self.clear()
            gauge.start()
            self.step(calls)
            found.append(gauge.read())
        return max(found)


def adapted(model: nn.Module, lora: Mapping[str, Any]) -> nn.Module:
    """A model with peft's adapters in its linear layers, or without any in its convolutions."""
    named = list(model.named_modules())
    chosen = [name for name, one in named if isinstance(one, nn.Linear)] or [
        name for name, one in named if isinstance(one, nn.Conv2d) and one.groups == 1
    ]
    config = peft.LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=chosen,
    )
    model = peft.get_peft_model(model, config).train()
    for one in model.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.eval()  # as mmeq has them
    return model
