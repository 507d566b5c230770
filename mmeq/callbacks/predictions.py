"""Saves every coalition's prediction for every test sample, for reports that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.game.predictions import read_predictions, write_predictions

# Shape suffixes: N samples, S non-empty coalitions, B batch, C classes, M modalities.


class Collect(Callback):
    """Gather what the model answers in ``trainer.test`` or ``trainer.predict``.

    Attributes:
        arrays: after the pass, on rank 0: what `write_predictions` writes, rows by ascending index;
            None on other ranks.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.arrays: dict[str, np.ndarray] | None = None
        self._batches: list[dict[str, np.ndarray]] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier pass."""
        self.arrays, self._batches = None, []

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
        logits_SBC = outputs["logits_SBC"].detach().float()
        everything = logits_SBC.new_ones(logits_SBC.shape[1], len(pl_module.spec.modalities))
        tensors = {
            "logits": logits_SBC.transpose(0, 1),
            "labels": outputs["label"].long(),
            "index": outputs["index"].long(),
            "present": batch.get("present", everything).bool(),
        }
        self._batches.append({name: tensor.cpu().numpy() for name, tensor in tensors.items()})
        self._batches[-1]["ids"] = np.asarray(outputs["id"], dtype=np.str_)

    on_predict_epoch_start = on_test_epoch_start
    on_predict_batch_end = on_test_batch_end

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the ranks and sort by row of the manifest."""
        parts = _gather(self._batches, trainer)
        self._batches = []
        if parts is None:
            return
        module: Any = pl_module
        batches = [batch for part in parts for batch in part]
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        # Sorts and drops what a padding sampler might have repeated.
        _, rows_N = np.unique(joined["index"], return_index=True)
        game = module.test_game
        custom = getattr(game, "custom", None)
        self.arrays = {
            **{name: array[rows_N] for name, array in joined.items()},
            "coalitions": module.coalitions_SM.cpu().numpy(),
            "modalities": np.asarray(module.spec.names, dtype=np.str_),
            "classes": np.asarray([str(name) for name in module.spec.classes], dtype=np.str_),
            "class_frequencies": np.asarray(game.class_frequencies, dtype=np.float64),
            "value": np.asarray(game.value if custom is None else custom.name),
            "seed": np.asarray(game.seed, dtype=np.int64),
        }

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same."""
        self.on_test_epoch_end(trainer, pl_module)


class Predictions(Collect):
    """Write ``predictions/<split>.npz`` at the end of ``trainer.test``.

    Its arrays are those of `mmeq.game.predictions.write_predictions`; all ranks are gathered, and
    no pickle is needed to read. `mmeq.game.measure_predictions` plays the game again from it.

    Args:
        run_dir: the run folder.
        split: name of the file; what ``trainer.test`` is given is the test part by default.
    """

    def __init__(self, run_dir: str | Path, split: str = "test") -> None:
        """Remember where to write."""
        super().__init__()
        self.run_dir, self.split = Path(run_dir), split

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather and write."""
        super().on_test_epoch_end(trainer, pl_module)
        if self.arrays is not None:
            write_predictions(self.run_dir / "predictions" / f"{self.split}.npz", self.arrays)
            self.arrays = None


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
    return read_predictions(path)
