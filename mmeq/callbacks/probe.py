"""Linear probes: how much each encoder knows of the classes, whatever the fusion makes of it.

Shape suffixes: N samples, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

STRENGTHS = (0.001, 0.01, 0.1, 1.0)


class LinearProbe(Callback):
    """Fit a logistic regression on the features of each encoder after training.

    Fitted on the training part (without augmentation), its L2 strength chosen on the validation
    part, its accuracy told on the test part, for the weights that `Trainer.test` sees. The fall
    of a probe from an encoder trained alone to one trained jointly is the suppression that mmeq
    exists to undo [ours]. Writes ``probe`` into the module's findings, and so into
    ``results.json``: ``{modality: {"accuracy", "samples"}}``.
    """

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the three parts with one encoder after the other and fit."""
        module: Any = pl_module
        if not trainer.is_global_zero:
            return
        parts = {
            split: encode_split(module, trainer.datamodule, split)
            for split in ("train", "validation", "test")
        }
        module.findings["probe"] = {
            name: probe({split: (part[name], part["label"]) for split, part in parts.items()})
            for name in module.spec.names
        }


@torch.inference_mode()
def encode_split(module: Any, datamodule: Any, split: str) -> dict[str, np.ndarray]:  # noqa: ANN401
    """Features [N, D] of every modality and ``label`` [N] of one part, in evaluation order.

    Rows that lack a modality are NaN there.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*module.spec.names, "label")}
    for batch in datamodule.loader(split, whole=True):
        batch = module.transfer_batch_to_device(batch, module.device, 0)
        features = module.encode(batch)
        for m, name in enumerate(module.spec.names):
            values = features.rows[m].float().cpu().numpy()
            values[~batch["present"][:, m].cpu().numpy()] = np.nan
            rows[name].append(values)
        rows["label"].append(batch["label"].cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def probe(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Test accuracy of a logistic regression on one encoder's features.

    Args:
        parts: ``train``, ``validation`` and ``test``: features [N, D] and labels [N]; rows with
            NaN (the modality is missing) are left out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen = {}
    for split, (x_ND, y_N) in parts.items():
        there_N = ~np.isnan(x_ND).any(1)
        seen[split] = (x_ND[there_N], y_N[there_N])
    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(*seen["train"])
        for c in STRENGTHS
    ]
    best = max(fitted, key=lambda model: model.score(*seen["validation"]))
    return {"accuracy": float(best.score(*seen["test"])), "samples": len(seen["test"][1])}
