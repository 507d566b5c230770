"""What modalities cost: CPU seconds of predictions and of training epochs, measured in turn.

CPU seconds, since a busy machine blurs them less; on one thread they are the time that passes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from engine.trained import built
from lightning.pytorch import Callback
from strategies import encoded, predicted, strategies

LEAST = 0.05
"""CPU seconds that a measurement repeats a prediction for, at least."""

ALIKE = ("fusion=memory", "inference=memory_guided")
"""Of both methods: joint training averages over the orders of inference, alternating never does."""
METHODS = {"joint": ("method=joint",), "shapley": ("method=shapley",)}


class Clock(Callback):
    """CPU seconds of each training epoch, validation left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start."""
        self.begun = time.process_time()

    def on_validation_start(self, *_: Any) -> None:
        """Stop."""
        self.seconds.append(time.process_time() - self.begun)


def epoch(overrides: list[str]) -> float:
    """Train anew; the median of the epochs, without the first."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = built(overrides, Path(folder), [clock])
        run.trainer.fit(run.module, datamodule=run.datamodule)
    return median(clock.seconds[1:])


def timed(run: Callable[[], object]) -> float:
    """CPU seconds of a call: the mean of as many as `LEAST` asks for."""
    begun, calls = time.process_time(), 0
    while (spent := time.process_time() - begun) < LEAST or not calls:
        run()
        calls += 1
    return spent / calls


def spread(above: list[float], below: list[float]) -> list[float]:
    """Median, lowest and highest ratio."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return [float(f"{x:.4g}") for x in (median(ratios), min(ratios), max(ratios))]


def measured(options: Mapping[str, Any], compared: Mapping[str, Any]) -> dict[str, Any]:
    """Ratios to one pass along the last order, and of an alternating epoch to a joint one."""
    given = [*options["options"], f"dataset.sources={options['modalities']}"]
    with tempfile.TemporaryDirectory() as folder:
        run = built(given, Path(folder))
        run.trainer.fit(run.module, datamodule=run.datamodule)
    module = run.module.eval()
    features, _ = encoded(run, run.datamodule.test_dataloader())
    features = [feature[: options["samples"]] for feature in features]
    runs = {
        name: lambda strategy=strategy: predicted(strategy, module.fusion, features)
        for name, strategy in strategies(module.order, module.seed, compared).items()
        if name != "reference" or options["modalities"] <= compared["hybrid"]
    }
    for warm in runs.values():
        warm()  # plans of walks are made once, and kept
    rounds = [{name: timed(each) for name, each in runs.items()} for _ in range(options["repeats"])]
    passes = [one["memory_guided"] for one in rounds]
    predictions = {name: spread([one[name] for one in rounds], passes) for name in runs}
    methods = {name: [*given, *own, *ALIKE] for name, own in METHODS.items()}
    epochs = [
        {name: epoch(each) for name, each in methods.items()} for _ in range(options["repeats"])
    ]
    joint, shapley = ([one[name] for one in epochs] for name in ("joint", "shapley"))
    return {
        "predictions": predictions,
        "epoch": spread(shapley, joint),
        "seconds": {
            "pass": float(f"{median(passes):.4g}"),
            "joint": float(f"{median(joint):.4g}"),
            "shapley": float(f"{median(shapley):.4g}"),
        },
    }
