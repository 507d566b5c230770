"""Trains as `mmeq.train` does, in this process and on one thread, without what only writes."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.config import Run, build, conf_dir, validate

OFF = ("console", "figures", "missing", "record", "predictions", "monitor")
"""Callbacks that nothing here needs."""
DRAWS = 20
"""Bootstrap draws of a validation, whose intervals nothing here reads."""


class Best(Callback):
    """Keeps the weights and the order of the epoch that is best by validation accuracy.

    As the checkpoint of a run does, the first of equal ones; in memory, which is a tenth faster.
    """

    def __init__(self) -> None:
        self.score = -math.inf

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep them if they are better."""
        module: Any = pl_module
        score = float(module.report.values["accuracy"][-1])
        if score > self.score:
            self.score, self.order = score, module.order
            kept = module.state_dict().items()
            self.weights = {k: v.clone() if hasattr(v, "clone") else v for k, v in kept}

    def give(self, module: Any) -> None:
        """Put them back, as loading the checkpoint does."""
        module.load_state_dict(self.weights)
        module.order = self.order
        module.strategy.follow(self.order)
        module.eval()


def built(overrides: Iterable[str], folder: Path, callbacks: Sequence[Callback] = ()) -> Run:
    """Compose, validate and build; the callbacks take the place of the one that writes weights."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    given = [*overrides, "trainer.accelerator=cpu", *(f"callbacks.{name}=null" for name in OFF)]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", given)
    validate(cfg)
    run = build(cfg, folder)
    *usual, _ = run.trainer.callbacks
    run.trainer.callbacks[:] = [*usual, *callbacks]
    run.module.val_game.draws = DRAWS
    return run


def trained(overrides: Iterable[str], callbacks: Sequence[Callback] = (), test: bool = True) -> Run:
    """Train, and give the run with the weights and the order of the best epoch by validation.

    Args:
        overrides: of the configuration.
        callbacks: beside those of the configuration.
        test: measure the test part, into ``module.test_report``.
    """
    best = Best()
    with tempfile.TemporaryDirectory() as folder:
        run = built(overrides, Path(folder), [*callbacks, best])
        run.trainer.fit(run.module, datamodule=run.datamodule)
        best.give(run.module)
        if test:
            run.trainer.test(run.module, datamodule=run.datamodule, verbose=False)
    run.module.eval()
    return run
