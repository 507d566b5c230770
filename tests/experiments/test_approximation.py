"""The experiment on approximation: its measurements on tiny runs, its file of results, its page."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from mmeq.config import build, conf_dir, validate

FOLDER = Path(__file__).parents[2] / "experiments" / "approximation"
OWN = (
    "run",
    "noise",
    "wrong",
    "trained",
    "spread",
    "cells",
    "approximation_page",
    "approximation_figure",
)
SMALL = ["fusion=memory", "dataset=mfeat", "dataset.train_size=60", "trainer.max_epochs=2"]
PAGE = "# Page\n\nby hand\n\n<!-- table -->\nold\n<!-- /table -->\n\nafter\n"
SWEEP = {
    "noise": {
        "draws": 3,
        "subsets": 20,
        "estimators": ["permutation", "kernel"],
        "values": ["accuracy", "nll"],
        "data": {
            "small": {
                "options": SMALL,
                "seeds": [0, 1],
                "splits": [0],
                "budgets": [4, 6, 8],
                "samples": [25, 50, 100, "all"],
                "reference": "validation",
            }
        },
    },
    "orders": {
        "seeds": [0, 1],
        "splits": [0],
        "options": SMALL,
        "supervise": ["sequential"],
        "data": {"small": []},
        "rules": {"shapley": [], "strong_first": ["method.order=strong_first"]},
    },
}


@pytest.fixture(scope="module")
def load():
    """Modules of the experiment, by name; those of other experiments have some names in common."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name in OWN:
            patch.delitem(sys.modules, name, raising=False)
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        yield importlib.import_module
        for name in OWN:
            sys.modules.pop(name, None)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def measured(load, tmp_path_factory):
    """A folder in which the tiny sweep was run."""
    folder = tmp_path_factory.mktemp("approximation")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False), encoding="utf-8")
    (folder / "README.md").write_text(PAGE, encoding="utf-8")
    load("run").main(["--folder", str(folder)])
    return folder


def test_a_run_broken_off_is_taken_up_and_gives_the_same(load, measured, tmp_path):
    folder = shutil.copytree(measured, tmp_path / "copy")
    results = folder / "results.jsonl"
    whole = results.read_bytes()
    assert len(whole.splitlines()) == 6
    results.write_bytes(whole[:-40])  # as a kill leaves it
    load("run").main(["--folder", str(folder)])
    assert results.read_bytes() == whole
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page == (measured / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# Page\n\nby hand\n")
    assert page.endswith("\n\nafter\n")
    assert "old" not in page
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_changed_settings_are_measured_anew_and_others_are_not(load, measured, tmp_path):
    folder = shutil.copytree(measured, tmp_path / "copy")
    before = (folder / "results.jsonl").read_text(encoding="utf-8")
    changed = json.loads(json.dumps(SWEEP))
    changed["orders"]["rules"]["strong_first"].append("method.ema=0.5")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    load("run").main(["--folder", str(folder)])
    after = (folder / "results.jsonl").read_text(encoding="utf-8")
    assert after.startswith(before)
    new = [json.loads(line) for line in after[len(before) :].splitlines()]
    assert [(x["rule"], x["seed"]) for x in new] == [("strong_first", 0), ("strong_first", 1)]


def test_lines_hold_what_the_page_tells(measured):
    lines = [json.loads(x) for x in (measured / "results.jsonl").read_text().splitlines()]
    orders = [x for x in lines if x["part"] == "orders"]
    assert {(x["rule"], x["tau"]) for x in orders} == {("shapley", 1.0), ("strong_first", -1.0)}
    for line in lines[:2]:
        for value in ("accuracy", "nll"):
            exact = [x for x in line[value]["budgets"] if x["budget"] == 8]
            assert [x["estimator"] for x in exact] == ["permutation", "kernel"]
            assert max(x["mse"] for x in exact) < 1e-20
            assert [x["budget"] for x in line[value]["budgets"]] == [6, 8, 8]  # 4 is too few
            sizes = {x["n"]: x["mse"] for x in line[value]["sizes"]}
            assert sizes[25] > sizes[100] > sizes[line["n"]] > 0
    assert lines[0]["accuracy"]["budgets"][0] != lines[1]["accuracy"]["budgets"][0]


def test_the_best_epoch_is_that_of_the_checkpoint(load, tmp_path):
    given = [*SMALL, "trainer.max_epochs=5", "seed=3", "method.supervise=sequential"]
    ours = load("trained").trained(given).module
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [*given, "trainer.accelerator=cpu", "callbacks.console=null"])
    validate(cfg)
    run = build(cfg, tmp_path)
    run.trainer.fit(run.module, datamodule=run.datamodule)
    run.trainer.test(
        run.module, datamodule=run.datamodule, ckpt_path="best", verbose=False, weights_only=True
    )
    assert ours.order == run.module.order
    assert torch.equal(ours.test_report.phi, run.module.test_report.phi)
    pairs = zip(ours.parameters(), run.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_worths_are_those_of_the_report(load):
    run = load("trained").trained(SMALL)
    worths = load("noise").worths(run, run.datamodule.test_dataloader())
    report = run.module.test_report
    torch.testing.assert_close(worths["accuracy"].mean(0), report.values["accuracy"])
    torch.testing.assert_close(-worths["nll"].mean(0), report.values["nll"], rtol=0, atol=1e-6)


def test_scores_of_estimates_by_hand(load):
    truth = torch.tensor([0.1, 0.2, 0.4]).double()
    drawn = torch.tensor([[0.2, 0.1, 0.4], [0.1, 0.1, 0.4]]).double()
    found = load("noise").scores(drawn, truth)
    assert found["mse"] == pytest.approx(0.03 / 6)
    # means of errors: .05, -.1, 0; their variances over 2 draws: .005, 0, 0
    assert found["bias2"] == pytest.approx((0.05**2 - 0.005 / 2 + 0.1**2) / 3)
    assert found["tau"] == pytest.approx(((3 - 2) / 3 + 2 / 3) / 2)  # a tie is no order
    assert found["weakest"] == pytest.approx((0 + 1 / 2) / 2)  # and is broken by lot
    assert load("noise").scores(drawn[:1], truth)["bias2"] is None


def test_whole_part_without_replacement_is_one_draw(load):
    phi = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).double()
    found = list(load("noise").by_samples(phi, phi.mean(0), [10, "all"], range(5), replace=False))
    assert [x["n"] for x in found] == [10, 40]
    assert found[0]["mse"] > 0
    assert found[1]["mse"] == pytest.approx(0)
    assert found[1]["bias2"] is None


def test_intervals_and_marks(load):
    spread = load("spread")
    mean, low, high = spread.interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == (2.0, 1.0, 3.0)
    assert spread.interval([4.0, 4.0], spread.root) == (2.0, 2.0, 2.0)
    assert spread.ratio([4.0, 4.0], [1.0, 1.0]) == (2.0, 2.0, 2.0)
    assert float(spread.root(-4.0)) == -2.0
    assert spread.told((0.5, 0.25, 1.0), 1, 100, sign=True) == "+50.0 (+25.0 to +100.0)"
    with pytest.raises(ValueError, match="lacks the marks"):
        spread.replaced("no marks", "part")


def test_committed_results_are_whole_and_the_page_is_theirs(load):
    run, page = load("run"), load("approximation_page")
    settings = yaml.safe_load((FOLDER / "sweep.yaml").read_text(encoding="utf-8"))
    wanted = [cell for cell, _ in run.cells(settings)]
    lines = load("cells").known(FOLDER / "results.jsonl", wanted)
    assert len(lines) == len(wanted)
    parts = page.parted(lines)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == load("spread").replaced(readme, page.tables(*parts))
    assert (FOLDER / "results.jsonl").stat().st_size < 400_000
    assert not any(math.isnan(x["edm"]) for x in parts[1])
