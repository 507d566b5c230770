"""The page of the tuning question: what is kept, paired, and told apart."""

from __future__ import annotations

import json

import pytest

from tests.experiments.conftest import EXPERIMENTS


@pytest.fixture(scope="module")
def tuning(load):
    return load("engine.runs").module_of(EXPERIMENTS / "tuning", "run")


def row(method: str, seeds: range, gain: float = 0.0) -> dict:
    """A row of the pair over frozen bodies, whose accuracies rise by a gain."""
    runs = [
        {
            "seed": seed, "accuracy": 0.8 + 0.01 * seed + gain, "edm": 10.0,
            "alone": {"image": 0.6, "text": 0.7 + gain}, "proper_mean": 0.65,
            "norms": {"encoder/image": {"spikes": 1, "steps": 100}},
            "worst": {"encoder/image": 4.0},
            "interference": {m: {"image": 0.001, "text": 0.002} for m in ("image", "text")},
            "forgetting": {"image": 0.0, "text": 0.01}, "drift": {"image": 0.0, "text": 0.0},
        }
        for seed in seeds
    ]  # fmt: skip
    named = {"setting": "pretrained", "tune": "frozen", "method": method, "rate": "0.001"}
    return {**named, "runs": runs}


def test_rows_found_anew_take_the_place_of_kept_ones_in_the_order_of_the_settings(tuning):
    kept = [row("shapley", range(2)), row("joint", range(2))]
    found = tuning.merged(kept, [row("shapley", range(3))])
    assert [(one["method"], len(one["runs"])) for one in found] == [("joint", 2), ("shapley", 3)]


@pytest.mark.parametrize(("pairs", "told"), [(4, "1.0 (1.0 to 1.0)"), (5, "**1.0 (1.0 to 1.0)**")])
def test_differences_are_paired_by_seed_and_few_pairs_tell_nothing(tuning, pairs, told):
    text = tuning.table([row("joint", range(9)), row("shapley", range(pairs), gain=0.01)])
    line = next(line for line in text.splitlines() if line.startswith("| pretrained | frozen | "))
    assert line.split(" | ")[2] == told
    assert line.endswith(f" | {pairs} |")


def test_a_page_keeps_rows_whose_folders_are_gone(tuning, monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "HERE", tmp_path)
    (tmp_path / "README.md").write_text(
        f"# Page\n\n{tuning.MARK}\n\nformer table\n", encoding="utf-8"
    )
    kept = [row("joint", range(5)), row("shapley", range(5))]
    (tmp_path / "results.json").write_text(json.dumps(kept), encoding="utf-8")
    tuning.page(tmp_path / "none")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == kept
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Page")
    assert "former table" not in text
