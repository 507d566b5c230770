"""The experiment on approximation: its measurements on tiny runs, its file of results, its page."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hydra import compose, initialize_config_dir

from mmeq.config import build, conf_dir, validate

SMALL = ["fusion=memory", "dataset=mfeat", "dataset.train_size=60", "trainer.max_epochs=2"]
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
                "splits": [0, 0],
                "budgets": [4, 6, 8],
                "samples": [25, 50, 100, "all"],
                "reference": "validation",
            }
        },
    },
    "orders": {
        "seeds": [0, 1],
        "splits": [0, 0],
        "options": SMALL,
        "supervise": ["sequential"],
        "data": {"small": []},
        "rules": {"shapley": [], "strong_first": ["method.order=strong_first"]},
    },
}


@pytest.fixture(scope="module")
def measured(answered, tmp_path_factory):
    """A folder in which the tiny sweep was run."""
    return answered("approximation", SWEEP, tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def noise(measure):
    return measure("approximation").noise


def test_what_is_missing_is_measured_and_gives_the_same(answered, measured, copied):
    folder = copied(measured)
    results = folder / "results.jsonl"
    whole = results.read_bytes()
    assert len(whole.splitlines()) == 6
    results.write_bytes(b"".join(whole.splitlines(keepends=True)[1:-1]))
    answered("approximation", SWEEP, folder.parent)
    assert results.read_bytes() == whole
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page == (measured / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# Tiny\n\nby hand\n")
    assert page.endswith("\n\nafter\n")
    assert "yesterday" not in page
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_changed_settings_are_measured_anew_and_others_are_not(answered, measured, copied):
    folder = copied(measured)
    before = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    changed = json.loads(json.dumps(SWEEP))
    changed["orders"]["rules"]["strong_first"].append("method.ema=0.5")
    answered("approximation", changed, folder.parent)
    after = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(after) == len(before)
    new = [json.loads(line) for line in after if line not in before]
    assert [(x["rule"], x["seed"]) for x in new] == [("strong_first", 0), ("strong_first", 1)]
    assert len([*(folder.parent / "runs" / "approximation").iterdir()]) == 2


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
    ours = load("engine.trained").trained(given).module
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


def test_worths_are_those_of_the_report(load, noise):
    run = load("engine.trained").trained(SMALL)
    worths = noise.worths(run, run.datamodule.test_dataloader())
    report = run.module.test_report
    torch.testing.assert_close(worths["accuracy"].mean(0), report.values["accuracy"])
    torch.testing.assert_close(-worths["nll"].mean(0), report.values["nll"], rtol=0, atol=1e-6)


def test_scores_of_estimates_by_hand(noise):
    truth = torch.tensor([0.1, 0.2, 0.4]).double()
    drawn = torch.tensor([[0.2, 0.1, 0.4], [0.1, 0.1, 0.4]]).double()
    found = noise.scores(drawn, truth)
    assert found["mse"] == pytest.approx(0.03 / 6)
    # means of errors: .05, -.1, 0; their variances over 2 draws: .005, 0, 0
    assert found["bias2"] == pytest.approx((0.05**2 - 0.005 / 2 + 0.1**2) / 3)
    assert found["tau"] == pytest.approx(((3 - 2) / 3 + 2 / 3) / 2)  # a tie is no order
    assert found["weakest"] == pytest.approx((0 + 1 / 2) / 2)  # and is broken by lot
    assert noise.scores(drawn[:1], truth)["bias2"] is None


def test_whole_part_without_replacement_is_one_draw(noise):
    phi = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).double()
    found = list(noise.by_samples(phi, phi.mean(0), [10, "all"], range(5), replace=False))
    assert [x["n"] for x in found] == [10, 40]
    assert found[0]["mse"] > 0
    assert found[1]["mse"] == pytest.approx(0)
    assert found[1]["bias2"] is None


def test_intervals_and_marks(load):
    spread = load("engine.spread")
    mean, low, high = spread.interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == (2.0, 1.0, 3.0)
    assert spread.interval([4.0, 4.0], spread.root) == (2.0, 2.0, 2.0)
    assert spread.ratio([4.0, 4.0], [1.0, 1.0]) == (2.0, 2.0, 2.0)
    assert float(spread.root(-4.0)) == -2.0
    assert spread.told((0.5, 0.25, 1.0), 1, 100, sign=True) == "+50.0 (+25.0 to +100.0)"


def test_committed_results_are_whole_and_the_page_is_theirs(committed):
    lines = committed("approximation")
    assert not any(math.isnan(x["edm"]) for x in lines if x["part"] == "orders")
