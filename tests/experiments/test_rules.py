"""What two pages conclude from runs: ranks with intervals, and when to leave the method on."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from tests.experiments.conftest import EXPERIMENTS

PAIRS = list(itertools.product(range(5), range(2)))


@pytest.fixture(scope="module")
def module_of(load):
    return load("engine.runs").module_of


def ranked(ranks, ours: float, rival: float) -> dict[str, list[str]]:
    """Cells of the table of the default, beside amco and eight rows that differ by pair."""
    rows = {f"row {k}": [50.0 + (k + n) % 8 for n in range(10)] for k in range(7)}
    rows |= {ranks.OURS: [ours] * 10, ranks.RIVAL: [rival] * 10}
    rows[ranks.REFERENCE] = [50.0 + (7 + n) % 8 for n in range(10)]
    kept = {ranks.OURS: 14.0, ranks.RIVAL: 13.0}
    found = {
        data: {
            name: np.array([[value, 20 + k - value, kept.get(name, 3.0)] for value in values])
            for name, values in rows.items()
        }
        for k, data in enumerate(("a", "b"))
    }
    head, _, *body = ranks.table(found, overlap=0.0).splitlines()
    assert len([line for line in body if line.startswith("|")]) == len(rows) + 3
    named = "− joint · concat: accuracy | EDM % | missing | mean rank in accuracy"
    assert head == f"| row | {named} | a | b |"
    cells = [line.strip("| ").split(" | ") for line in body[: len(rows)]]
    said, beside = body[len(rows) + 1], body[len(rows) + 5]
    return {"said": [said], "beside": [beside], **{name: rest for name, *rest in cells}}


@pytest.mark.parametrize(
    ("ours", "rival", "place", "better"),
    [
        (90.0, 80.0, "1.00 (1.0 to 1.0)", "above amco's in 100 %"),
        (10.0, 80.0, "10.00 (10.0 to 10.0)", "above amco's in 0 %"),
        (80.0, 80.0, "1.00 (1.0 to 1.0)", "above amco's in 0 %"),  # as good as what it is tied with
    ],
)
def test_ranks_are_those_of_draws(module_of, ours, rival, place, better):
    ranks = module_of(EXPERIMENTS / "comparison", "ranks")
    told = ranked(ranks, ours, rival)
    assert told[ranks.OURS][3] == place
    assert better in told["said"][0]


def test_what_varies_by_split_has_ranks_that_vary(module_of):
    ranks = module_of(EXPERIMENTS / "comparison", "ranks")
    mean, low, high = map(float, re.findall(r"[\d.]+", ranked(ranks, 53.5, 10.0)[ranks.OURS][3]))
    assert 1 <= low < mean < high <= 9


def test_rows_of_equal_means_share_the_best_place(module_of):
    ranks = module_of(EXPERIMENTS / "comparison", "ranks")
    told = ranked(ranks, 90.0, 80.0)
    names = [f"row {k}" for k in range(7)]
    places = [told[name][4] for name in [*names, ranks.REFERENCE]]
    assert places == ["10", "9", "8", "6", "5", "4", "3", "6"]


def test_differences_are_means_over_data_with_intervals(module_of):
    ranks = module_of(EXPERIMENTS / "comparison", "ranks")
    told = ranked(ranks, 90.0, 80.0)
    assert told[ranks.REFERENCE][:3] == ["", "", ""]
    assert told[ranks.RIVAL][0].startswith("**26.5 (")  # 80 less 53.5
    assert told[ranks.RIVAL][1].startswith("**−26.5 (")
    assert told[ranks.RIVAL][2] == "10.0 (10.0 to 10.0)"  # no spread, no test
    assert told["row 0"][2] == "0.0 (0.0 to 0.0)"
    same = "{0} ({0} to {0})"
    assert told["beside"] == [f"| amco | {' | '.join(map(same.format, (10.0, '−10.0', 1.0)))} |"]
    assert told["row 6"][0].startswith("0.6 (")


def test_differences_allow_for_the_samples_that_splits_share(module_of):
    ranks = module_of(EXPERIMENTS / "comparison", "ranks")
    assert ranks.shared() == pytest.approx(1 / 3)
    values = [1.0, 2.0, 3.0, 2.0, 1.5, 2.5, 2.0, 3.5, 0.5, 2.0]
    wide, narrow = ((r := re.findall(r"[\d.]+", ranks.told([values], share)[0])) and float(r[2])
                    - float(r[1]) for share in (1 / 3, 0.0))  # fmt: skip
    assert wide / narrow == pytest.approx((0.1 + 1 / 3) ** 0.5 / 0.1**0.5, rel=0.1)
    counted = [f"{text[:2]}" == "**" for text in ranks.told([values, *[[1.0, -1.0] * 5] * 99], 0.3)]
    alone = ranks.told([values], 0.3)
    assert alone[0].startswith("**")
    assert not any(counted)  # one of a hundred does not survive


def test_the_committed_ranks_are_those_of_the_runs(module_of, load):
    ranks = module_of(EXPERIMENTS / "comparison", "ranks")
    home, run = EXPERIMENTS / "comparison", module_of(EXPERIMENTS / "comparison", "run")
    found = ranks.read(home / "runs.csv")
    assert {len(values) for rows in found.values() for values in rows.values()} == {len(run.PAIRS)}
    assert len(found) == len(run.DATA)
    assert ranks.table() in (home / "README.md").read_text(encoding="utf-8")


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
