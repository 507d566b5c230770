"""Hands each validation's game to the method, which sets the order of the next epoch."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.game.order import kendall_tau


class ShapleyScheduler(Callback):
    """Measure on the validation set, reorder for the next epoch.

    The method holds the rule and its state (`Method.on_report`), so that they are checkpointed with
    it; this callback only says when: after the module has its report, before the checkpoint is
    written, so that a resumed run starts with the same order as an uninterrupted one.

    Lightning calls a callback's ``on_validation_epoch_end`` *before* the module's, where the report
    is made; hence ``on_validation_end``.

    Attributes:
        kendall_tau: rank correlation of the order used and the next one; 1 no change, −1 reversed.
    """

    def __init__(self) -> None:
        """Start without a measurement."""
        self.kendall_tau: float | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the method choose the next order, at the end of a training epoch only."""
        module: Any = pl_module
        # A stand-alone trainer.validate measures a model; it must not move its order.
        if trainer.sanity_checking or trainer.state.fn != "fit" or module.report is None:
            return
        module.method.on_report(module.report, trainer.current_epoch)
        used, following = tuple(module.order), tuple(module.method.order)
        self.kendall_tau = float(kendall_tau(used, following))
