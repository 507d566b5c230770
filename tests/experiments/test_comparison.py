"""The comparison's cells: the same pairs and rates for every row, rates chosen by validation."""

from __future__ import annotations

import json
import sys

import pytest

from mmeq.config import groups
from tests.experiments.conftest import EXPERIMENTS


@pytest.fixture(scope="module")
def run(load):
    return load("engine.runs").module_of(EXPERIMENTS / "comparison", "run")


def finished(folder, accuracy: float | None) -> None:
    folder.mkdir(parents=True)
    told = {"validation": {"accuracy": {"value": accuracy}}}
    (folder / "results.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.mark.parametrize(
    ("low", "high", "rate"), [(0.8, 0.9, "0.003"), (0.9, 0.8, "0.001"), (0.9, 0.9, "0.001")]
)
def test_the_rate_of_the_better_validation_is_taken(run, tmp_path, low, high, rate):
    """No test part is in the files at all; of equal ones the lower rate."""
    cells = run.asked(["mfeat"], ("agm",))[3]
    for cell, accuracy in zip(cells, (low, high), strict=True):
        finished(cell.folder(tmp_path), accuracy)
    best, found = run.chosen(cells, tmp_path)
    assert best.rate == rate
    assert found == {"0.001": low, "0.003": high}


def test_every_method_has_every_pair_and_both_rates(run):
    cells = run.asked(list(run.DATA), ("",))
    assert cells[0][0].data == cells[1][0].data  # pair by pair
    assert len({cell.split for rates in cells for cell in rates}) == len(run.PAIRS) == 10
    for data in run.DATA:
        mine = [rates for rates in cells if rates[0].data == data]
        assert len(mine) == len(run.rows(data, 20)) * 10
        assert all([cell.rate for cell in rates] == list(run.RATES) for rates in mine)
        options = {word for rates in mine for word in rates[0].options}
        assert {f"method={name}" for name in groups()["method"]} <= options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data", "mfeat,x"], "--data: x is none of mfeat, mfeat150, brca, emoji"),
        (["--rows", "zzz"], "--rows: no row begins with zzz"),
        (["--page"], "has no cell of which both rates are run"),
    ],
)
def test_mistakes_are_told_before_anything_runs(run, tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.setattr(sys, "argv", ["run.py", "--runs", str(tmp_path), *given])
    with pytest.raises(SystemExit) as leaving:
        run.main()
    assert said in f"{leaving.value} {capsys.readouterr().err}"
    assert not list(tmp_path.iterdir())
