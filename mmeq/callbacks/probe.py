"""Linear probes: how much each encoder knows of the classes, whatever the fusion makes of it.

Shape suffixes: N samples, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from mmeq.game.bootstrap import bootstrap_draws, mean_statistic, percentile_interval

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]
SPLITS = ("train", "validation", "test")


class LinearProbe(Callback):
    """Fit a logistic regression on the features of each encoder after training.

    Fitted on the training part (without augmentation), its L2 strength chosen on the validation
    part, its accuracy told on the test part, for the weights that `Trainer.test` sees. The fall
    of a probe from an encoder trained alone to one trained jointly is the suppression that mmeq
    exists to undo [ours]; `python -m mmeq.eval run=… unimodal=[…]` tells it. Writes ``probe`` into
    the module's findings, and so into ``results.json``: for each modality what `probe` gives. A
    modality that cannot be probed is told as a warning.
    """

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the three parts with one encoder after the other and fit."""
        module: Any = pl_module
        if not trainer.is_global_zero:
            return
        parts = {split: encode_split(module, trainer.datamodule, split) for split in SPLITS}
        module.findings["probe"] = {
            name: probe({split: (part[name], part["label"]) for split, part in parts.items()})
            for name in module.spec.names
        }
        for name, found in module.findings["probe"].items():
            if "skipped" in found:
                rank_zero_warn(f"callbacks.probe: {name} is not probed: {found['skipped']}")


@torch.inference_mode()
def encode_split(
    module: Any,  # noqa: ANN401 - a MultimodalModule
    datamodule: Any,  # noqa: ANN401 - its data
    split: str,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Encode one part in evaluation order.

    Args:
        module: in evaluation mode.
        datamodule: whose loader gives the part.
        split: the part.
        names: of the modalities to encode; None: all.

    Returns:
        Features [N, D] of each modality, NaN in rows that lack it; ``label`` and ``id`` [N].
    """
    names = module.spec.names if names is None else tuple(names)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "label", "id")}
    for batch in datamodule.loader(split, whole=True):
        batch = module.transfer_batch_to_device(batch, module.device, 0)
        for name in names:
            values = module.encoders[name](batch["inputs"][name]).float().cpu().numpy()
            present_B = batch["present"][:, module.spec.names.index(name)].cpu().numpy()
            values[~present_B] = np.nan
            rows[name].append(values)
        rows["label"].append(batch["label"].cpu().numpy())
        rows["id"].append(np.asarray(batch["id"], dtype=np.str_))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def probe(parts: Parts, *, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Test accuracy of a logistic regression on one encoder's features, with its 95 % interval.

    The interval is a bootstrap over the test samples: what another test part would give. That the
    probe was fitted on these training samples and no others is not in it.

    Args:
        parts: ``train``, ``validation`` and ``test``: features [N, D] and labels [N]; rows with
            NaN (the modality is missing) are left out.
        draws: bootstrap resamples.
        seed: of the resampling.

    Returns:
        ``accuracy``, ``low``, ``high`` and ``samples`` (of the test part); or ``skipped``: why
        there is no probe, see `lacking`.
    """
    if why := lacking(parts):
        return {"skipped": why}
    hit_N, there_N = probe_hits(parts)
    return hit_rate(hit_N[there_N], draws=draws, seed=seed)


def lacking(parts: Parts) -> str:
    """Say what keeps a probe from being fitted, chosen or told; nothing where nothing does.

    Args:
        parts: as in `probe`.
    """
    seen = {split: y_N[~np.isnan(x_ND).any(1)] for split, (x_ND, y_N) in parts.items()}
    for split, y_n in seen.items():
        if not len(y_n):
            return f"no sample of the {split} part has it"
    return "" if np.ptp(seen["train"]) else "samples of one class alone have it in the train part"


def hit_rate(hit_N: np.ndarray, *, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Accuracy of hits, bool [N], with its 95 % bootstrap interval."""
    column_N1 = torch.from_numpy(hit_N.astype(np.float64))[:, None]
    drawn_R1 = bootstrap_draws(mean_statistic(column_N1), len(hit_N), draws, seed)
    low_1, high_1 = percentile_interval(drawn_R1)
    return {
        "accuracy": float(hit_N.mean()),
        "low": low_1.item(),
        "high": high_1.item(),
        "samples": len(hit_N),
    }


def probe_hits(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Fit a probe and say on which test samples it is right.

    Args:
        parts: as in `probe`, nothing `lacking`.

    Returns:
        Right or wrong, bool [N], false where the modality is missing; and where it is there.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    there = {split: ~np.isnan(x_ND).any(1) for split, (x_ND, _) in parts.items()}
    seen = {split: (x[there[split]], y[there[split]]) for split, (x, y) in parts.items()}
    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(*seen["train"])
        for c in STRENGTHS
    ]
    best = max(fitted, key=lambda model: model.score(*seen["validation"]))
    hit_N = np.zeros(len(there["test"]), dtype=bool)
    x_nD, y_n = seen["test"]
    hit_N[there["test"]] = best.predict(x_nD) == y_n
    return hit_N, there["test"]
