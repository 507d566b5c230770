"""Figures of a run: drawn, written, and sent to the loggers; none of them is worth the run."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

from mmeq.loggers import log_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_figures(
    trainer: Trainer, run_dir: Path, figures: Mapping[str, Callable[[], Figure]]
) -> None:
    """Write ``figures/<name>.png`` and send them to the loggers that take images.

    Where they cannot be written, on a full disk or in a folder that is read-only, a warning says
    so, once, and the run goes on: what they show is in ``history.jsonl`` and ``results.json``.

    Args:
        trainer: of the run.
        run_dir: the run folder.
        figures: what draws each, by name.
    """
    from mmeq.callbacks.plotting import save_figure

    folder, paths = run_dir / "figures", dict[str, Path]()
    try:
        for name, draw in figures.items():
            paths[name] = save_figure(draw(), folder / f"{name}.png")
    except OSError as error:
        _say(folder, error.strerror or str(error))
    log_figures(trainer.loggers, paths, epoch=trainer.current_epoch)


@functools.cache
def _say(folder: Path, why: str) -> None:
    """Warn once of a run, however often it draws."""
    text = f"{folder} cannot be written ({why}): the run goes on without its figures"
    warnings.warn(text, stacklevel=2)
