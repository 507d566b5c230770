"""The best and the last model of a run, in a run folder that may be moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mmeq.config.runs import BEFORE, LAST
from mmeq.files import write_stream


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints that are whole or absent, and keep the last but one.

    Lightning's own goes through the system's temporary folder: from another file system it is
    copied into place, and a kill in between leaves a part. ``last.ckpt`` becomes ``before.ckpt``
    when the next one is whole, so there is one to fall back to when a disk has damaged the last.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Write it.

        Raises:
            NotWritten: when the system refuses; the checkpoints are then what they were.
        """
        path = Path(path)
        keep = path.with_name(BEFORE) if path.name == LAST else None
        write_stream(path, lambda stream: torch.save(checkpoint, stream), keep=keep)


class RunCheckpoint(ModelCheckpoint):
    """Keep ``checkpoints/best.ckpt`` (by a validation metric) and ``checkpoints/last.ckpt``.

    Args:
        run_dir: the run folder.
        monitor: the validation metric.
        mode: ``max`` or ``min``.
    """

    def __init__(self, run_dir: Path, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=run_dir / "checkpoints",
            filename="best",
            monitor=monitor,
            mode=mode,
            save_last=True,
            save_top_k=1,
            save_on_train_epoch_end=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._epochs: int | None = None

    @property
    def epochs_kept(self) -> int | None:
        """How many epochs ``last.ckpt`` holds; None before training begins."""
        return self._epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after every epoch; Lightning 2.6 writes ``last`` only when there is a new best."""
        if not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
            self._epochs = trainer.current_epoch + 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know what a resumed run has."""
        super().on_train_start(trainer, pl_module)
        self._epochs = trainer.current_epoch or None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score back; in a folder that was moved Lightning would forget it."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {
            key: here(state_dict[key])
            for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        super().load_state_dict(
            {**state_dict, **moved, "dirpath": self.dirpath, "best_k_models": best}
        )
