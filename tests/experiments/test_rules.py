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


def test_a_rule_is_right_by_the_mean_and_by_each_pair(module_of):
    page = module_of(EXPERIMENTS / "balanced", "page")
    known = [(0.1, False), (0.4, False), (2.4, True), (3.0, True)]
    found = {str(k): setting(*one) for k, one in enumerate(known)}
    assert [page.helps(rows, "joint concat") for rows in found.values()] == [h for _, h in known]
    assert page.right(found, "joint concat", 1.0) == (4, pytest.approx(4))
    assert page.right(found, "joint concat", 0.3) == (3, pytest.approx(3))
    assert page.right(found, "joint concat", 2.7) == (3, pytest.approx(3))
    for line in found["3"]["shapley memory"][:4]:  # 4 of 10 pairs gain less than the others
        line["validation"]["proper_mean"] = 0.505
    assert page.right(found, "joint concat", 1.0) == (4, pytest.approx(3.6))
