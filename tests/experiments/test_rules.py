"""What two pages conclude from runs: ranks with intervals, and when to leave the method on."""

from __future__ import annotations

import itertools

import pytest

from tests.experiments.conftest import EXPERIMENTS

PAIRS = list(itertools.product(range(5), range(2)))


@pytest.fixture(scope="module")
def module_of(load):
    return load("engine.runs").module_of


def ranked(since, ours: float, rival: float) -> tuple[float, float, float]:
    """`rank_of` beside amco and eight rows that differ from pair to pair, on each data set."""
    rows = {"unimodal a": [0.99] * 10, since.BEST: [rival] * 10}
    rows |= {f"row {k}": [0.5 + 0.01 * ((k + n) % 8) for n in range(10)] for k in range(8)}
    runs = [
        {"table": title, "row": row, "seed": str(seed), "split_seed": str(split),
         "accuracy": str(value)}
        for title in since.TABLES.values()
        for row, values in rows.items()
        for (seed, split), value in zip(PAIRS, values, strict=True)
    ]  # fmt: skip
    lines = [
        {"table": data, "row": "now", "seed": seed, "split_seed": split, "test": {"accuracy": ours}}
        for data in since.TABLES
        for seed, split in PAIRS
    ]
    return since.rank_of(runs, lines, "now")


def test_ranks_are_those_of_draws(module_of):
    since = module_of(EXPERIMENTS / "comparison", "since")
    assert ranked(since, ours=0.9, rival=0.8) == (1, 1, 1)
    assert ranked(since, ours=0.1, rival=0.8) == (10, 10, 0)
    assert ranked(since, ours=0.8, rival=0.8) == (1, 1, 0)  # as good as what it is tied with
    low, high, better = ranked(since, ours=0.535, rival=0.1)
    assert 1 < low < high < 9
    assert better == 1


def setting(gain: float, helps: bool) -> dict[str, list[dict]]:
    """Runs of a setting, of which validation tells a gain and the test part whether it helps."""

    def line(seed: int, split: int, ours: bool) -> dict:
        kept = 0.5 + (0.01 * ours if helps else 0.01 * (seed % 2) * ours * (-1) ** split)
        test = {"accuracy": 0.7, "edm": 10.0, "proper_mean": kept, "nll": 0.5}
        validation = {**test, "proper_mean": 0.5 + ours * gain / 100}
        return {"seed": seed, "split_seed": split, "test": test, "validation": validation}

    return {
        row: [line(*pair, row == "shapley memory") for pair in PAIRS]
        for row in ("joint concat", "shapley memory")
    }


@pytest.mark.parametrize(
    ("settings", "cut", "wrong"),
    [
        ([(0.1, False), (0.4, False), (2.4, True), (3.0, True)], 1.4, 0),
        ([(0.1, False), (0.4, True), (1.4, False), (3.0, True)], 2.2, 1),
        ([(0.1, False), (0.4, False)], 1.4, 0),
    ],
)
def test_the_rule_is_the_threshold_that_errs_least(module_of, settings, cut, wrong):
    page = module_of(EXPERIMENTS / "balanced", "page")
    train = {str(k): setting(*one) for k, one in enumerate(settings)}
    assert page.helps(train["0"], "joint concat") is settings[0][1]
    found = page.found_rule(train, "joint concat")
    assert found == (pytest.approx(cut), wrong)
