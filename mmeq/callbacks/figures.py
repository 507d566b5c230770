"""Draws the run's figures when it ends; matplotlib is imported only then."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.callbacks.drawing import draw_figures
from mmeq.callbacks.entries import best_epoch, report_entry
from mmeq.callbacks.predictions import load_predictions
from mmeq.files import read_jsonl

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Figures(Callback):
    """Write ``figures/*.png`` and send them to the loggers that take images.

    After fit: ``shapley``, ``edm``, ``order`` and ``losses`` over the epochs, from
    ``history.jsonl``; also when the run is broken off, as far as it came. After test:
    ``coalitions``, and ``confusion`` from ``predictions/test.npz`` where that is saved. Where they
    cannot be written the run goes on without them.

    Args:
        run_dir: the run folder.
    """

    def __init__(self, run_dir: str | Path) -> None:
        """Remember where to read and write."""
        self.run_dir = Path(run_dir)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the history."""
        if trainer.is_global_zero:
            self._draw_history(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test; the predictions were written at the end of its epoch."""
        if not trainer.is_global_zero:
            return
        from mmeq.callbacks import plot_results as plots

        module: Any = pl_module
        entry = report_entry(module.test_report)
        figures: dict[str, Callable[[], Figure]] = {
            "coalitions": lambda: plots.plot_coalitions(entry)
        }
        saved = self.run_dir / "predictions" / "test.npz"
        if saved.exists():
            arrays = load_predictions(saved)
            predicted_N = arrays["logits"][:, -1].argmax(-1)
            classes = arrays["classes"].tolist()
            figures["confusion"] = lambda: plots.plot_confusion(
                arrays["labels"], predicted_N, classes
            )
        draw_figures(trainer, self.run_dir, figures)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Draw what there is; a failure to draw must not hide why the run ended."""
        if not trainer.is_global_zero:
            return
        try:
            self._draw_history(trainer)
        except Exception as error:  # the exception under way matters more, whatever this one is
            warnings.warn(f"figures could not be drawn: {error}", stacklevel=2)

    def _draw_history(self, trainer: Trainer) -> None:
        history = read_jsonl(self.run_dir / "history.jsonl")
        if not history:
            return
        from mmeq.callbacks import plot_history as plots

        index = best_epoch(history, getattr(trainer.checkpoint_callback, "mode", "max"))
        best = None if index is None else history[index]["epoch"]
        figures: dict[str, Callable[[], Figure]] = {
            "shapley": lambda: plots.plot_shapley(history, best),
            "edm": lambda: plots.plot_edm(history, best),
            "order": lambda: plots.plot_order(history, best),
        }
        if any(line["losses"] for line in history):
            figures["losses"] = lambda: plots.plot_losses(history, best)
        draw_figures(trainer, self.run_dir, figures)
