"""Figures from real runs, and from made-up ones of every size."""

from __future__ import annotations

import resource
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.image import imread

from mmeq.callbacks import plot_history, plot_results
from mmeq.callbacks.figures import Figures
from mmeq.callbacks.plotting import save_figure
from mmeq.callbacks.predictions import Predictions
from mmeq.callbacks.record import RunRecord
from mmeq.callbacks.scheduler import ShapleyScheduler
from tests.callbacks.tiny import Stop, run


def test_run_leaves_six_figures(tmp_path: Path) -> None:
    # Figures before Predictions and RunRecord: the result must not depend on the order.
    run(
        tmp_path,
        [Figures(tmp_path), ShapleyScheduler(), RunRecord(tmp_path), Predictions(tmp_path)],
    )
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    names = ("coalitions", "confusion", "edm", "losses", "order", "shapley")
    assert drawn == [f"{name}.png" for name in names]
    for path in (tmp_path / "figures").iterdir():
        image = imread(path)
        assert image.shape[0] > 200
        assert image.std() > 0.01


def test_broken_run_leaves_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="plug"):
        run(tmp_path, [RunRecord(tmp_path), Figures(tmp_path), Stop(1)])
    assert (tmp_path / "figures" / "shapley.png").exists()
    assert not (tmp_path / "figures" / "coalitions.png").exists()


def test_run_broken_before_the_first_epoch_draws_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="plug"):
        run(tmp_path, [Stop(0), RunRecord(tmp_path), Figures(tmp_path)])
    assert not (tmp_path / "figures").exists()


class Limit(Callback):
    """Refuses files of more than so many bytes from here on, as a full disk does."""

    def __init__(self, size: int) -> None:
        self.size = size

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The system's limit."""
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, most))


@pytest.mark.parametrize("fault", ["full disk", "unwritable folder"])
def test_figures_that_cannot_be_written_cost_no_run(fault: str, tmp_path: Path) -> None:
    before, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = [Limit(4000), Figures(tmp_path), Limit(before)]
    if fault == "full disk":
        callbacks, why = [RunRecord(tmp_path), *full], "File too large"
    else:
        (tmp_path / "figures").write_text("in the way", encoding="utf-8")
        callbacks, why = [RunRecord(tmp_path), Figures(tmp_path)], "File exists"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        run(tmp_path, callbacks)
    said = [str(one.message) for one in caught if "figures" in str(one.message)]
    place = tmp_path / "figures"
    assert said == [f"{place} cannot be written ({why}): the run goes on without its figures"]
    assert (tmp_path / "results.json").is_file()
    drawn = [path.name for path in place.iterdir()] if place.is_dir() else []
    assert drawn == (["coalitions.png"] if fault == "full disk" else [])


def test_plots_are_imported_only_when_drawing(warm) -> None:
    assert "mmeq.callbacks.plotting" not in warm.imported("mmeq.callbacks.figures")


def history(count: int, epochs: int, game: str = "accuracy") -> list[dict[str, Any]]:
    """Made-up lines of history with one undefined EDM."""
    rng = np.random.default_rng(0)
    names = [f"m{m}" for m in range(count)]
    keys = [
        "none",
        *("+".join(n for i, n in enumerate(names) if r >> i & 1) for r in range(1, 2**count)),
    ]
    lines = []
    for epoch in range(epochs):
        number = {"value": rng.random(), "low": 0.2, "high": 0.9}
        values = {
            k: {"accuracy": rng.random(), "macro_f1": 0.5, "nll": 1.0, **number} for k in keys
        }
        values["none"].update(low=None, high=None)
        lines.append(
            {
                "epoch": epoch, "game": game, "samples": 10, "proper_mean": 0.5,
                "order": [names[m] for m in rng.permutation(count)],
                "phi": {n: {"value": rng.normal(), "low": -0.5, "high": 0.5} for n in names},
                "edm": {"value": None if epoch == 1 else 20.0, "low": 10.0, "high": 40.0},
                "losses": {"final": 1.0, **{f"step/{n}": rng.random() for n in names}},
                "values": values, **dict.fromkeys(("accuracy", "macro_f1", "nll"), number),
            }
        )  # fmt: skip
    return lines


@pytest.mark.parametrize(
    ("count", "epochs", "game"), [(2, 1, "nll"), (5, 3, "accuracy"), (10, 2, "macro_f1")]
)
def test_every_size_can_be_drawn(count: int, epochs: int, game: str, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    lines = history(count, epochs, game)
    for name in ("shapley", "edm", "order", "losses"):
        figure = getattr(plot_history, f"plot_{name}")(lines, best=0)
        assert save_figure(figure, tmp_path / f"{name}.png").stat().st_size > 5000
    save_figure(plot_results.plot_coalitions(lines[-1]), tmp_path / "coalitions.png")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("count", [2, 30, 100])
def test_confusion_of_many_classes(count: int, tmp_path: Path) -> None:
    labels = np.arange(200) % count
    figure = plot_results.plot_confusion(labels, labels, [f"class {c}" for c in range(count)])
    assert figure.axes[0].get_title(loc="left") == "Test: 100.0 % of 200 right"
    save_figure(figure, tmp_path / "confusion.png")
