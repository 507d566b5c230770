"""Fits the router of inference=router before a test, and keeps it in the checkpoint.

Shape suffixes: N samples, C classes, K orders, M modalities.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.inference.base import Strategy
from mmeq.inference.router import fit_router


class FitRouter(Callback):
    """Fit the inference strategy on the validation part where it is one that learns.

    At the start of `Trainer.test`, for the weights of its checkpoint, unless that holds what was
    learnt already. Every rank fits on the whole validation part and comes to the same; the first
    writes it into the checkpoint (``mmeq_strategy``, tensors and lists), for `mmeq.eval`.
    """

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit and keep."""
        module: Any = pl_module
        if needs_router(module, module.strategy):
            state = learnt(module, trainer.datamodule, module.strategy)
            module.strategy.load_state(state)
            keep(trainer, state)


def needs_router(module: Any, strategy: Strategy) -> bool:  # noqa: ANN401 - the module
    """Say whether a strategy cannot answer for this module before it has learnt."""
    asked = module.method.uses_fusion and module.fusion.ordered
    return asked and strategy.learns and not strategy.fitted


@torch.inference_mode()
def learnt(module: Any, datamodule: Any, strategy: Strategy) -> dict[str, Any]:  # noqa: ANN401
    """Return a router's state, fitted on the whole validation part by each encoder run once."""
    full_1M = torch.ones(1, len(module.spec.names), dtype=torch.bool)
    training = module.training
    module.eval()
    logits, labels, ids = [], [], []
    for batch in datamodule.loader("validation", whole=True):
        batch = module.transfer_batch_to_device(batch, module.device, 0)
        features = module.encode(batch)
        logits_K1BC = module.fusion.per_order(
            features.rows, full_1M, strategy.orders, features.present_BM
        )
        logits.append(logits_K1BC[:, 0].float().cpu())
        labels.append(batch["label"].cpu())
        ids += batch["id"]
    module.train(training)
    return fit_router(torch.cat(logits, 1), torch.cat(labels), ids, strategy.orders, strategy.seed)


def keep(trainer: Trainer, state: dict[str, Any]) -> None:
    """Write what was learnt into the checkpoint that is tested, if there is one; atomically."""
    if trainer.ckpt_path is None or not trainer.is_global_zero:
        return
    path = Path(trainer.ckpt_path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    whole = path.with_name(f".{path.name}.tmp")
    torch.save({**checkpoint, "mmeq_strategy": state}, whole)
    whole.replace(path)
