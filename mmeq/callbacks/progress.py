"""One live bar on a terminal; nothing in a log file, where each epoch's table is the progress."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mmeq.callbacks.terminal import console, duration, emit, is_terminal


def remaining(done: list[float], left: int) -> float | None:
    """Return the seconds that the run still needs: mean of the last five epochs × those left.

    Examples:
        >>> remaining([9.0, 2.0, 2.0, 2.0, 2.0, 2.0], left=10)
        20.0
        >>> remaining([], left=10)
    """
    if not done or left < 0:
        return None
    recent = done[-5:]
    return left * sum(recent) / len(recent)


class EpochProgress(ProgressBar):
    """A bar over the batches of the epoch, with batches per second and the time left in the run.

    Being Lightning's `ProgressBar`, it takes the place of Lightning's own, which writes carriage
    returns into log files. It reads nothing from the device, so it costs no host sync.
    """

    def __init__(self) -> None:
        """Start enabled; Lightning disables it on every rank but the first."""
        super().__init__()
        self._enabled = True
        self._bar: Progress | None = None
        self._task: Any = None
        self._seconds: list[float] = []
        self._epoch_start = self._stage_start = 0.0

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False
        self._stop()

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Print above the bar."""
        emit(" ".join(str(argument) for argument in args))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch's bar."""
        self._epoch_start = time.perf_counter()
        total = trainer.max_epochs
        epoch = trainer.current_epoch + 1
        label = f"epoch {epoch}/{total}" if total and total > 0 else f"epoch {epoch}"
        self._stage(label, self.total_train_batches, self._left(trainer))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:  # noqa: ANN401
        """Move on by a batch."""
        self._advance()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show validation on the same line."""
        if not trainer.sanity_checking:
            self._stage("validation", sum(_counts(trainer.num_val_batches)), self._left(trainer))

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Move on by a batch."""
        self._advance()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn how long an epoch takes."""
        self._seconds.append(time.perf_counter() - self._epoch_start)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._stop()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test."""
        self._stage("test", sum(_counts(trainer.num_test_batches)), None)

    def on_test_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Move on by a batch."""
        self._advance()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away before the table comes."""
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back before the error is printed."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._stop()

    def _left(self, trainer: Trainer) -> float | None:
        return remaining(self._seconds, (trainer.max_epochs or -1) - trainer.current_epoch)

    def _stage(self, label: str, total: float, left: float | None) -> None:
        if not self._enabled or not is_terminal():
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description:<14}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}{task.fields[left]}"),
                console=console(),
                transient=True,
            )
            self._task = self._bar.add_task(label, total=None, speed="", left="")
            self._bar.start()
        self._stage_start = time.perf_counter()
        self._bar.reset(
            self._task,
            description=label,
            total=None if total == float("inf") else total,
            speed="",
            left="" if left is None else f" · about {duration(left)} left",
        )

    def _advance(self) -> None:
        if self._bar is not None:
            task = self._bar.tasks[0]
            elapsed = max(time.perf_counter() - self._stage_start, 1e-9)
            speed = f"{(task.completed + 1) / elapsed:.1f} batches/s"
            self._bar.update(self._task, advance=1, speed=speed)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _counts(batches: Any) -> list[float]:  # noqa: ANN401 - Lightning gives a list or a number
    return list(batches) if isinstance(batches, list) else [batches]
