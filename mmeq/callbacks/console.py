"""The table per epoch in which a person watches the modalities come into balance."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.text import Text

from mmeq.callbacks.entries import report_entry
from mmeq.callbacks.progress import remaining
from mmeq.callbacks.tables import epoch_line, modality_table, test_lines
from mmeq.callbacks.terminal import duration, emit
from mmeq.errors import MmeqError


class EpochTable(Callback):
    """Print each epoch's modalities (alone, φ, share, order now → next) and, at the end, the test.

    On a terminal with colours and bars; elsewhere plain lines of at most 100 characters.

    Args:
        run_dir: the run folder, named at the end; None for an evaluation that has none.
        every: print each so many epochs, and always the last.
    """

    def __init__(self, run_dir: str | Path | None = None, every: int = 1) -> None:
        """Remember what to print."""
        self.run_dir = None if run_dir is None else Path(run_dir)
        if every < 1:
            raise MmeqError(f"callbacks.console.every={every}: give 1 or more")
        self.every = every
        self._start = 0.0
        self._seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch, before its checkpoint is written."""
        module: Any = pl_module
        self._seconds.append(time.perf_counter() - self._start)
        epoch, total = trainer.current_epoch + 1, trainer.max_epochs or -1
        last = epoch == total or trainer.should_stop
        if not trainer.is_global_zero or module.report is None or (epoch % self.every and not last):
            return
        entry = {**report_entry(module.report), **getattr(module, "epoch_findings", {})}
        spent = duration(self._seconds[-1])
        left = remaining(self._seconds, total - epoch)
        if left:
            spent += f", about {duration(left)} left"
        label = f"epoch {epoch:>{len(str(total))}}/{total}" if total > 0 else f"epoch {epoch}"
        losses = dict(module.train_losses)
        head = epoch_line(entry, label=label, losses=losses, time=spent, best=_is_best(trainer))
        names = module.report.modalities
        now, following = (
            [names[m] for m in order] for order in (module.order, module.method.order)
        )
        emit(*head, modality_table(entry, now, following))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the test table."""
        module: Any = pl_module
        if not trainer.is_global_zero:
            return
        report = module.test_report
        title = f"test  {module.spec.name}, {report.samples} samples, {module.spec.protocol}"
        emit(Text(), *test_lines(report_entry(report), title), Text())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say where everything is, once all of it is written."""
        if stage != "test" or not trainer.is_global_zero or self.run_dir is None:
            return
        figures = self.run_dir / "figures"
        if drawn := len(list(figures.glob("*.png"))):
            emit(Text(f"figures     {_shown(figures)} ({drawn} files)", overflow="fold"))
        emit(Text(f"run folder  {_shown(self.run_dir)}", overflow="fold"))


def _is_best(trainer: Trainer) -> bool:
    """Say whether ModelCheckpoint, which comes after this, will keep this epoch as the best."""
    checkpoint: Any = trainer.checkpoint_callback
    current = trainer.callback_metrics.get(getattr(checkpoint, "monitor", None) or "")
    if current is None or bool(current != current):  # NaN
        return False
    best = checkpoint.best_model_score
    if best is None:
        return True
    return bool(current > best if checkpoint.mode == "max" else current < best)


def _shown(path: Path) -> str:
    """Return a path as the person would type it: relative where it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
