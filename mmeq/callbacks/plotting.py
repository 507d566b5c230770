"""The look that all figures share: palette, style and the small parts they are made of."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmeq.files import write_bytes

P = ParamSpec("P")

# Okabe and Ito's palette, told apart by every common form of colour blindness, and three more
# hues for M > 7; markers tell modalities apart in print without colour.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#882255", "#999933", "#7F7F7F", "#332288", "#AA4466",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "nll": "−NLL"}

STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 130,
    "savefig.dpi": 130,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the house style without changing the caller's."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one panel, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def colour(m: int) -> str:
    """Return the colour that modality ``m`` has in every figure."""
    return COLOURS[m % len(COLOURS)]


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """Return floats with None as NaN."""
    return np.asarray([np.nan if value is None else value for value in values], dtype=float)


def scale_of(game: str) -> tuple[float, str]:
    """Return the factor and the unit that a game's values are drawn in."""
    return {"nll": (1.0, "nats"), "accuracy": (100.0, "points"), "macro_f1": (100.0, "points")}.get(
        game, (1.0, "as measured")
    )


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, atomically and without a display."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return write_bytes(path, buffer.getvalue())
