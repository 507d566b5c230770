"""Bench of the feature cache: epochs that read a frozen encoder's features or compute them anew."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from built import PAIR, SHAPLEY, Clock, built, train
from measure import in_turn, line

from mmeq.config import Run
from mmeq.config.caching import cache_features

SETTINGS = {
    "pretrained pair": (*PAIR, *SHAPLEY, "backbone.encoders.text.tune=frozen"),
    # Of the kinds that a language model takes, text alone is constant: the others have front ends
    # that are trained through it. So here text is all there is, and a method for one modality.
    "SmolLM2 text": (
        "backbone=llm",
        "backbone.encoders.text.tune=frozen",
        "dataset.modalities=[text]",
        "method=joint",
    ),
}
FEW = ("dataset.train_size=32", "dataset.fractions=[0.98,0.01,0.01]")
"""Of the samples, when quick."""


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    for name, overrides in SETTINGS.items():
        chosen = (*overrides, *(FEW if quick else ()))
        with tempfile.TemporaryDirectory() as folder:
            for found in epochs(name, Path(folder), chosen, 2 if quick else 3):
                yield {**found, "overrides": list(chosen)}


class Epochs:
    """Trains an epoch on call and gives the seconds of its training part.

    Attributes:
        whole: seconds of each epoch with validation and checkpoint.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.whole = run, list[float]()
        self.clock = Clock(run.trainer.strategy.root_device)
        run.trainer.callbacks.append(self.clock)

    def __call__(self) -> float:
        """Train."""
        train(self.run)
        self.whole.append(self.clock.whole)
        return self.clock.training


class Filling:
    """Fills a new cache on call and gives the seconds."""

    def __init__(self, run: Run) -> None:
        self.run, self.count = run, 0
        self.root = Path(run.cfg["cache"])
        self.raw = dict(run.datamodule.manifest.columns)

    def __call__(self) -> float:
        """Fill."""
        self.run.datamodule.manifest.columns.update(self.raw)
        self.run.cfg["cache"] = str(self.root / str(self.count))
        self.count += 1
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # it tells its progress
            found = cache_features(self.run)
        seconds = time.perf_counter() - start
        if set(found) != set(self.raw):
            raise RuntimeError(f"of {', '.join(self.raw)} the cache has only {', '.join(found)}")
        return seconds


def epochs(
    name: str, folder: Path, overrides: tuple[str, ...], repeats: int
) -> Iterator[dict[str, Any]]:
    """Training epochs and whole ones, cached against anew; the cost of filling the cache."""
    ready = built(folder / "ready", *overrides, f"cache={folder / 'features'}")
    anew = built(folder / "anew", *overrides, "cache=off")
    filling, fast, slow = Filling(ready), Epochs(ready), Epochs(anew)
    found = in_turn({"filling": filling, "fast": fast, "slow": slow}, repeats)
    data = anew.datamodule
    sizes = {part: len(data.manifest.rows(part)) for part in ("train", "validation", "test")}
    trained = line(f"training epoch encoding anew / cached, {name}", found["slow"], found["fast"])
    yield {**trained, **rates(trained, sizes["train"]), "samples": sizes}
    whole = line(f"the same with validation and checkpoint, {name}", slow.whole[1:], fast.whole[1:])
    yield {**whole, **rates(whole, sizes["train"] + sizes["validation"])}
    # the cache holds the test part as well
    yield line(
        f"filling the cache / an epoch encoding anew, {name}", found["filling"], slow.whole[1:]
    )


def rates(line: dict[str, Any], samples: int) -> dict[str, Any]:
    """Samples per second on both sides of a line."""
    return {"samples_per_second": [samples / seconds for seconds in line["seconds"]]}
