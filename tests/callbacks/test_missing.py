"""The missing-modality table of a real small run: findings, figure, console, the file alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from mmeq.callbacks.missing import MissingModalities, missing_lines
from mmeq.callbacks.plot_missing import plot_missing
from mmeq.callbacks.plotting import save_figure
from mmeq.callbacks.predictions import Predictions
from mmeq.callbacks.record import RunRecord
from mmeq.callbacks.terminal import emit
from mmeq.errors import MmeqError
from mmeq.game.missing import missing_table
from mmeq.game.predictions import read_predictions, write_predictions
from tests.callbacks.tiny import NAMES, Tiny, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tiny]:
    folder, module = tmp_path_factory.mktemp("run"), Tiny()
    missing = MissingModalities(folder, unequal=[{"fou": 0.5}])
    run(folder, [RunRecord(folder), Predictions(folder), missing], module, epochs=2)
    return folder, module


def test_findings_and_figure(finished: tuple[Path, Tiny]) -> None:
    folder, module = finished
    found = json.loads((folder / "results.json").read_text("utf-8"))["missing"]
    assert found == module.findings["missing"]
    values = module.test_report.values["accuracy"].tolist()
    assert found["full"]["value"] == pytest.approx(values[-1])
    assert found["mean"]["value"] == pytest.approx(module.test_report.proper_mean)
    assert [entry["rate"] for entry in found["rates"]] == pytest.approx(np.arange(0.1, 0.75, 0.1))
    assert found["unequal"][-1]["rates"]["fou"] == 0.5
    image = imread(folder / "figures" / "missing.png")
    assert image.shape[0] > 200
    assert image.std() > 0.01


def test_the_file_alone_gives_it_again(finished: tuple[Path, Tiny]) -> None:
    folder, module = finished
    table = MissingModalities(folder).table()
    assert table["rates"] == module.findings["missing"]["rates"]


def test_gaps_of_the_samples_count(finished: tuple[Path, Tiny], tmp_path: Path) -> None:
    arrays = read_predictions(finished[0] / "predictions" / "test.npz")
    present = np.ones((len(arrays["labels"]), 3), dtype=bool)
    present[::2, 2] = False
    write_predictions(tmp_path / "predictions" / "test.npz", {**arrays, "present": present})
    table = MissingModalities(tmp_path).table()
    assert not table["complete"]
    with_gaps, without = (t["rates"][0]["effective"] for t in (table, MissingModalities(
        finished[0]).table()))  # fmt: skip
    assert with_gaps < without < 0.1  # who has two loses less, since one is kept


def table_of(count: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    names = [f"modality-{m}" for m in range(count)]
    logits = torch.randn(50, 2**count - 1, 3, generator=generator)
    label = torch.randint(3, (50,), generator=generator)
    return missing_table(logits, label, names, draws=20, unequal=[{names[0]: 0.9}])


@pytest.mark.parametrize("count", [2, 5, 10])
def test_every_size_prints_and_draws(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    table = table_of(count)
    emit(*missing_lines(table), *missing_lines(table, full=count < 6))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert f"1 of {count}" in out
    assert "70 % at random" in out
    path = save_figure(plot_missing(table), tmp_path / "missing.png")
    assert path.stat().st_size > 5000


def test_without_predictions_the_run_still_ends_well(tmp_path: Path) -> None:
    module = Tiny()
    run(tmp_path, [RunRecord(tmp_path), MissingModalities(tmp_path)], module, epochs=1)
    assert "no predictions file" in module.findings["missing"]["skipped"]
    assert (tmp_path / "results.json").exists()


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(MmeqError, match=r"callbacks.missing.rates=1.0"):
        MissingModalities(tmp_path, rates=[0.5, 1.0])
    made = MissingModalities(tmp_path, unequal=[{"fuo": 0.5}])
    with pytest.raises(MmeqError, match="did you mean 'fou'"):
        made.check_modalities(NAMES)
    with pytest.raises(MmeqError, match="did you mean 'fou'"):
        run(tmp_path, [made], Tiny())
