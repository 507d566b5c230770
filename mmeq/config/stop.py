"""SIGTERM ends a run in good order: what is kept, how to go on, and a status of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.config.hold import child_rank

STATUS = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as a shell counts it."""


class Stopped(SystemExit):
    """The run ends because it was told to."""

    def __init__(self) -> None:
        super().__init__(STATUS)


class Stop(Callback):
    """Leave at SIGTERM: in training after the step under way, elsewhere at once.

    Nothing is written then: a checkpoint in the middle of an epoch could not be exact, since what
    each method sums up within an epoch, accumulated gradients and the findings of callbacks are in
    no checkpoint. The run goes on from the end of the last epoch, and
    the message says so. When the epoch's last batch is done, validation and checkpoint come first:
    whoever is in a hurry sends SIGTERM once more. Every rank leaves by itself; the first passes the
    signal on to ranks that it started.

    Args:
        run_dir: the run folder.
    """

    def __init__(self, run_dir: str | Path) -> None:
        """Hear nothing yet."""
        self.run_dir = Path(run_dir)
        self.received = False
        self._trainer: Trainer | None = None
        self._training = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM for as long as the context lasts; only a process's first thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def attend(self, trainer: Trainer) -> None:
        """Join the callbacks of a trainer, whose own way with signals is left out.

        Lightning answers SIGTERM by a collective inside the signal handler, which waits for ever
        when another rank is in another collective; it would leave with status 0.
        """
        self._trainer = trainer
        connector: Any = trainer._signal_connector
        connector.register_signal_handlers = lambda: None
        trainer.callbacks.insert(0, self)  # type: ignore[attr-defined]

    def soon(self, seconds: float = 1.0) -> bool:
        """Say whether SIGTERM has come or comes now: to a group it comes at several moments."""
        until = time.monotonic() + seconds
        while not self.received and time.monotonic() < until:
            time.sleep(0.05)
        return self.received

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on a step is not broken off."""
        self._training = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave between two epochs."""
        if self.received:
            self.leave()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's hook
        batch: Any,  # noqa: ANN401 - Lightning's hook
        batch_idx: int,
    ) -> None:
        """Leave between two steps."""
        if self.received and not trainer.is_last_batch:
            self.leave(f" after batch {batch_idx + 1} of {trainer.num_training_batches}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave before the test."""
        self._training = False
        if self.received:
            self.leave()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """No step is under way any more."""
        self._training = False

    def leave(self, where: str = "") -> None:
        """Say what is kept and how to go on, once for all ranks, and end the run.

        Raises:
            Stopped: always.
        """
        self._training = False
        if not child_rank():
            text = f"mmeq: stopped by SIGTERM{self._where(where)}: {self._kept()}\n"
            with contextlib.suppress(OSError):  # past buffers: a signal may have come amid a print
                os.write(2, text.encode())
        raise Stopped

    def _note(self, signum: int, frame: FrameType | None) -> None:
        launcher = None if self._trainer is None else self._trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signum)
        again, self.received = self.received, True
        if again or not self._training:
            self.leave()

    def _where(self, where: str) -> str:
        if self._trainer is None or self._trainer.state.fn != "fit":
            return ""
        epoch, epochs = self._trainer.current_epoch, self._trainer.max_epochs
        return f" in epoch {epoch + 1} of {epochs}{where}" if where else ""

    def _kept(self) -> str:
        if not (self.run_dir / "config.yaml").is_file():
            return "nothing was begun; start it again"
        go_on = f"go on by resume={self.run_dir}"
        checkpoint: Any = None if self._trainer is None else self._trainer.checkpoint_callback
        if not (self.run_dir / "checkpoints" / "last.ckpt").is_file():
            return f"no epoch had ended, so the run will begin anew; {go_on}"
        epochs = None if checkpoint is None else checkpoint.epochs_kept
        kept = "the last epoch that ended" if epochs is None else f"epoch {epochs}"
        return f"kept is all up to the end of {kept}; {go_on}"
