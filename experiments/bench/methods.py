"""What each method's epoch costs, relative to plain joint training, on mfeat.

An epoch is what a run's is: training, the method's sweeps over the data, validation with all
coalitions. Every method trains mfeat (3 views, small encoders) for a few epochs, its schedules
scaled to them, in turn with joint training of a linear concatenation. One thread.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra import compose, initialize_config_dir
from measure import Line, ratio

from mmeq.config import build, conf_dir, validate

QUIET = [f"callbacks.{name}=null" for name in ("console", "figures", "missing")]
QUIET += ["callbacks.record=null", "callbacks.predictions=null", "callbacks.monitor=null"]
REFERENCE = "joint-concat"
FEW = ("joint-memory", "shapley-memory", "ogm_ge", "mmpareto")
"""Methods when quick."""


class Clock(lightning.Callback):
    """Seconds of an epoch, the mean over those of a fit."""

    seconds = 0.0

    def on_train_start(self, trainer: Any, *args: Any) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Any, *args: Any) -> None:
        """Stop."""
        self.seconds = (time.perf_counter() - self._start) / trainer.current_epoch


def rows(epochs: int) -> dict[str, list[str]]:
    """Method → options, as the comparison of all methods has them."""
    path = Path(__file__).parents[1] / "comparison" / "run.py"
    found = importlib.util.spec_from_file_location("comparison_run", path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} cannot be read")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    table: dict[str, list[str]] = module.rows("mfeat", epochs)
    return {name: options for name, options in table.items() if not name.startswith("alone-")}


def epochs_of(options: list[str], epochs: int) -> Callable[[], float]:
    """A function that trains anew and gives the seconds of an epoch."""
    given = ["dataset=mfeat", *options, f"trainer.max_epochs={epochs}", *QUIET]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", given)
    validate(cfg)

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            made, clock = build(cfg, Path(folder)), Clock()
            made.trainer.callbacks.append(clock)
            made.trainer.fit(made.module, datamodule=made.datamodule)
        return clock.seconds

    return run


def against_joint(
    epochs: int, repeats: int, chosen: tuple[str, ...] | None = None
) -> Iterator[Line]:
    """Epochs of the chosen methods, or of all, each in turn with joint training's."""
    table = rows(epochs)
    reference = epochs_of(table[REFERENCE], epochs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, options in table.items():
            if name != REFERENCE and (chosen is None or name in chosen):
                yield ratio(name, epochs_of(options, epochs), reference, repeats)
    finally:
        torch.set_num_threads(threads)


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    found = against_joint(2, 1, FEW) if quick else against_joint(6, 2)
    for one in found:
        yield {**one, "name": f"epoch of {one['name']} / of {REFERENCE}, mfeat"}
