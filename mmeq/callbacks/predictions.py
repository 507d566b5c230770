"""Saves every coalition's prediction for every test sample, for reports that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.files import write_npz
from mmeq.game.coalitions import all_coalitions

# Shape suffixes: N samples, S non-empty coalitions, B batch, C classes, M modalities.


class Predictions(Callback):
    """Write ``predictions/<split>.npz`` at the end of ``trainer.test``.

    Arrays: ``logits`` float32 [N, S, C], ``coalitions`` bool [S, M] (the non-empty ones in binary
    order), ``labels`` int64 [N], ``index`` int64 [N] (row of the manifest, ascending), ``ids``,
    ``modalities`` and ``classes`` (unicode). All ranks are gathered; no pickle is needed to read.

    Args:
        run_dir: the run folder.
        split: name of the file; what ``trainer.test`` is given is the test part by default.
    """

    def __init__(self, run_dir: str | Path, split: str = "test") -> None:
        """Remember where to write."""
        self.run_dir = Path(run_dir)
        self.split = split
        self._batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._ids: list[str] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._batches, self._ids = [], []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's hook
        batch: Any,  # noqa: ANN401 - Lightning's hook
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the batch's logits to the host: device memory stays flat over any test set."""
        logits_BSC = outputs["logits_SBC"].detach().float().transpose(0, 1).cpu().numpy()
        self._batches.append(
            (logits_BSC, outputs["label"].cpu().numpy(), outputs["index"].cpu().numpy())
        )
        self._ids.extend(outputs["id"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the ranks, sort by row of the manifest and write."""
        parts = _gather((self._batches, self._ids), trainer)
        self._batches, self._ids = [], []
        if parts is None:
            return
        spec: Any = pl_module.spec
        batches = [batch for part, _ in parts for batch in part]
        ids = np.asarray([name for _, names in parts for name in names], dtype=np.str_)
        logits_NSC, labels_N, index_N = (
            np.concatenate(arrays) for arrays in zip(*batches, strict=True)
        )
        # Sorts and drops what a padding sampler might have repeated.
        index_N, rows_N = np.unique(index_N, return_index=True)
        write_npz(
            self.run_dir / "predictions" / f"{self.split}.npz",
            logits=logits_NSC[rows_N],
            coalitions=np.asarray(all_coalitions(len(spec.modalities)))[1:].astype(bool),
            labels=labels_N[rows_N].astype(np.int64),
            index=index_N.astype(np.int64),
            ids=ids[rows_N],
            modalities=np.asarray(spec.names, dtype=np.str_),
            classes=np.asarray([str(name) for name in spec.classes], dtype=np.str_),
        )


def _gather(part: Any, trainer: Trainer) -> Sequence[Any] | None:  # noqa: ANN401 - any object
    """Return every rank's part on rank 0 and None elsewhere; a collective."""
    if trainer.world_size == 1:
        return [part]
    # all_gather_object, not gather_object: NCCL offers only the former.
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, part)
    return parts if trainer.is_global_zero else None


def load_predictions(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a predictions file, read without pickle."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
