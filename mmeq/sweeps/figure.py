"""The figure of a sweep: what was reached in turn, and against each option that was varied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmeq.config.schema import MONITORS
from mmeq.sweeps.state import Job

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 8
"""Options that have a panel of their own."""


def draw(found: Sequence[Job], options: Sequence[str], path: Path) -> bool:
    """Draw a sweep; say whether there was anything to draw.

    Args:
        found: jobs.
        options: in which they differ.
        path: file to write.
    """
    from matplotlib.figure import Figure

    from mmeq.callbacks.plotting import save_figure, styled

    done = [job for job in found if job.state == "finished" and job.value is not None]
    if len(done) < 2 or len({job.monitor for job in done}) > 1:
        return False

    @styled
    def drawn() -> Figure:
        shown = list(options)[:PANELS]
        columns = min(3, 1 + len(shown))
        lines = math.ceil((1 + len(shown)) / columns)
        figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
        panels = list(np.ravel(figure.subplots(lines, columns, squeeze=False)))
        _in_turn(panels[0], found, done)
        for axes, option in zip(panels[1:], shown, strict=False):
            _against(axes, done, option)
        for axes in panels[1 + len(shown) :]:
            axes.set_visible(False)
        return figure

    save_figure(drawn(), path)
    return True


def _in_turn(axes: Axes, found: Sequence[Job], done: Sequence[Job]) -> None:
    """Draw each job's value, and the best so far."""
    from mmeq.callbacks.plotting import colour

    number = [job.number for job in done]
    value = [float(job.value or 0.0) for job in done]
    lower = MONITORS.get(done[0].monitor or "") == "min"
    best = (np.minimum if lower else np.maximum).accumulate(value)
    axes.step(number, best, where="post", color=colour(1), lw=1.2, label="best so far")
    axes.plot(number, value, "o", color=colour(0), ms=5, label="finished")
    low = axes.get_ylim()[0]
    for state, mark in (("pruned", "v"), ("failed", "x")):
        at = [job.number for job in found if job.state == state]
        if at:
            axes.plot(at, [low] * len(at), mark, color="#7F7F7F", ms=6, label=state, clip_on=False)
    axes.set_xlabel("job")
    axes.set_ylabel(str(done[0].monitor))
    axes.set_title("In turn")
    axes.legend(fontsize=8)


def _against(axes: Axes, done: Sequence[Job], option: str) -> None:
    """Draw the values against an option: by its numbers, or by its names."""
    from mmeq.callbacks.plotting import colour
    from mmeq.sweeps.summary import parsed

    given = [parsed(job).get(option, "") for job in done]
    value = np.array([float(job.value or 0.0) for job in done])
    numbers = [_number(text) for text in given]
    real = [number for number in numbers if number is not None]
    names = list(dict.fromkeys(sorted(given)))
    if len(real) == len(given) and len(names) > 1:
        axes.plot(real, value, "o", color=colour(0), ms=5)
        if min(real) > 0 and max(real) / min(real) >= 10:
            axes.set_xscale("log")
    else:
        place = np.array([names.index(text) for text in given])
        beside = (np.arange(len(given)) % 7 - 3) * 0.04
        axes.plot(place + beside, value, "o", color=colour(0), ms=5)
        means = [float(value[place == k].mean()) for k in range(len(names))]
        axes.plot(range(len(names)), means, "_", color=colour(1), ms=22, mew=2)
        axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
        axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xlabel(option)
    axes.set_ylabel(str(done[0].monitor))
    axes.set_title(option.rpartition(".")[2])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
