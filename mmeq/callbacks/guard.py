"""Stops a run whose loss is NaN or infinite, before the last good checkpoint is overwritten."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.errors import MmeqError


class LossGuard(Callback):
    """Raise `MmeqError` when a training loss of the epoch is not finite.

    It looks at what the module sums up on the device and fetches once an epoch
    (``train_losses``, ``first_bad``), so no step waits for the host. The check comes at
    ``on_validation_epoch_start``: before validation, report, order, history and checkpoints of the
    epoch, so that ``checkpoints/last.ckpt`` stays the one of the epoch before.
    """

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check after training and before anything of the epoch is kept."""
        module: Any = pl_module
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        losses: dict[str, float] = module.train_losses
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        # Every rank must leave, or the others would wait for it in their next collective.
        found = bool(bad) or module.first_bad is not None
        if trainer.strategy.reduce_boolean_decision(found, all=False):
            raise MmeqError(_message(trainer, bad, module))


def _message(trainer: Trainer, bad: list[str], module: Any) -> str:  # noqa: ANN401
    where = f"epoch {trainer.current_epoch}"
    if module.first_bad is not None:  # the loss that went first; the others follow from it
        name, batch = module.first_bad
        bad = [name]
        where += f", batch {batch}"
    named = ", ".join(map(_named, bad)) or "on another process"
    values = ", ".join(f"{name} {value:.4g}" for name, value in module.train_losses.items())
    checkpoint: Any = trainer.checkpoint_callback
    last = checkpoint and (checkpoint.last_model_path or checkpoint.best_model_path)
    kept = f"the last good checkpoint is {last}" if last else "no checkpoint was written before"
    return (
        f"loss {named} is not finite in {where} (epoch means: {values}). "
        f"Stopped before this epoch was saved: {kept}. "
        "A lower optim.optimizer.lr or an optim.clip_norm is the usual remedy."
    )


def _named(loss: str) -> str:
    part, _, modality = loss.partition("/")
    return f"{loss!r} (modality {modality!r})" if modality and part == "step" else repr(loss)
