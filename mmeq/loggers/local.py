"""Lightning's loggers that write into the run folder and need no account."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from mmeq.errors import MmeqError


class FigureTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, which takes figures too."""

    def log_figures(self, paths: Mapping[str, Path], epoch: int) -> None:
        """Add figures, by name, as ``figures/<name>``."""
        import numpy as np
        from PIL import Image

        for name, path in paths.items():
            pixels = np.asarray(Image.open(path).convert("RGB"))
            self.experiment.add_image(f"figures/{name}", pixels, epoch, dataformats="HWC")


def tensorboard_logger(
    save_dir: str | Path = ".", name: str = "tensorboard"
) -> FigureTensorBoardLogger:
    """Build the TensorBoard logger; a resumed run goes on in the same folder.

    Args:
        save_dir: the run folder.
        name: folder in it.

    Raises:
        MmeqError: when TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MmeqError(
            "logger=tensorboard needs the package tensorboard: pip install 'mmeq[tensorboard]'; "
            "or take logger=csv, which needs nothing"
        )
    return FigureTensorBoardLogger(str(save_dir), name=name, version="", default_hp_metric=False)


def csv_logger(save_dir: str | Path = ".", name: str = "csv") -> CSVLogger:
    """Build Lightning's CSV logger, which writes every epoch; a resumed run gets a new version.

    Args:
        save_dir: the run folder, whose own ``metrics.csv`` has the same numbers.
        name: folder in it.
    """
    return CSVLogger(str(save_dir), name=name, flush_logs_every_n_steps=1)
