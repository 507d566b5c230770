"""The experiment on many modalities: tiny runs, its file of results, its page."""

from __future__ import annotations

import json

import pytest

from mmeq.inference.orders import antithetic_orders

SMALL = ["fusion=memory", "dataset=synthetic", "dataset.samples=200", "trainer.max_epochs=2"]
MFEAT = ["dataset=mfeat", "dataset.train_size=60", "trainer.max_epochs=1"]
SWEEP = {
    "strategies": {
        "orders": [2, 8],
        "certainty": 2.0,
        "hybrid": 3,
        "reference": 20,
        "data": {
            "synthetic": {
                "options": [*SMALL, "dataset.data_seed=${seed}"],
                "snr": [3.0, 1.0],
                "modalities": [3, 4],
                "seeds": [0, 1],
                "splits": [0, 0],
            },
            "mfeat": {
                "options": ["fusion=memory", *MFEAT],
                "views": ["fou", "zer", "mor"],
                "modalities": [2],
                "seeds": [0],
                "splits": [0],
            },
        },
    },
    "times": {"modalities": [2], "options": SMALL, "samples": 20, "repeats": 2},
}


@pytest.fixture(scope="module")
def measured(answered, tmp_path_factory):
    """A folder in which the tiny sweep was run."""
    return answered("modalities", SWEEP, tmp_path_factory.mktemp("questions"))


def lines_of(folder):
    return [json.loads(x) for x in (folder / "results.jsonl").read_text().splitlines()]


def test_what_is_finished_is_not_measured_again(answered, measured, copied):
    folder = copied(measured)
    whole = (folder / "results.jsonl").read_bytes()
    answered("modalities", SWEEP, folder.parent)
    assert not (folder.parent / "runs").exists()
    assert (folder / "results.jsonl").read_bytes() == whole
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| synthetic | 4 |" in page
    assert "yesterday" not in page
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_strategies_are_compared_with_all_orders_or_with_many(measured):
    found = {(x["modalities"], x["data"]): x for x in lines_of(measured) if "data" in x}
    three, four = found[3, "synthetic"]["strategies"], found[4, "synthetic"]["strategies"]
    # accuracy, agreement, orders, cells
    assert three["reference"][1:] == [1.0, 6.0, 15.0]
    assert three["sampled 8"][1:] == [1.0, 6.0, 15.0]  # there are no more than 6
    assert three["sampled 2"][2:] == [2.0, 6.0]
    assert three["cyclic"][2:] == [3.0, 9.0]
    assert three["memory_guided"][2:] == [1.0, 3.0]
    assert four["reference"][2] == 20.0
    assert four["sampled 8"][2] == 8.0
    assert four["per_sample"][2:] == [24.0, 64.0]
    assert 4.0 <= four["adaptive 8"][2] < 8.0
    assert set(found) == {(3, "synthetic"), (4, "synthetic"), (2, "mfeat")}


def test_few_orders_are_the_first_of_many(measure):
    many = antithetic_orders(7, 64, 5)
    assert antithetic_orders(7, 8, 5) == many[:8]
    made = measure("modalities").strategies.strategies(
        range(7), 5, {**SWEEP["strategies"], "reference": 64}
    )
    assert made["sampled 8"].orders == many[:8]
    assert made["sampled 2"].orders == many[:2]
    assert made["adaptive 8"].options.certainty == 2.0
    assert made["sampled 8"].options.certainty is None
    assert len(set(made["reference"].orders) & set(many)) < 8  # drawn by another seed


def test_times_are_ratios_to_one_pass(measured):
    (line,) = [x for x in lines_of(measured) if x["part"] == "times"]
    assert line["predictions"]["memory_guided"] == [1.0, 1.0, 1.0]
    for median, low, high in [*line["predictions"].values(), line["epoch"]]:
        assert 0 < low <= median <= high
    assert set(line["seconds"]) == {"pass", "joint", "shapley"}


def test_spread_is_median_and_range_of_pairs(measure):
    assert measure("modalities").times.spread([2.0, 6.0, 9.0], [1.0, 2.0, 9.0]) == [2.0, 1.0, 3.0]


def test_comparisons_are_paired_and_those_with_itself_left_out(measure):
    page = measure("modalities").modalities_page
    runs = [
        {
            "data": "d", "modalities": 3, "seed": seed, "split": 0,
            "strategies": {
                "reference": [0.5 + seed / 10, 1.0, 6.0, 15.0],
                "cyclic": [0.52 + seed / 10, 0.9, 3.0, 9.0],
                "sampled 8": [0.5 + seed / 10, 1.0, 6.0, 15.0],
            },
        }
        for seed in range(3)
    ]  # fmt: skip
    ((data, size, name, gap),) = page.compared(runs)
    assert (data, size, name) == ("d", 3, "cyclic")
    assert gap == pytest.approx((2.0, 2.0, 2.0))
    assert page.star(gap) == "*"
    assert page.verdict(runs).startswith("1 comparisons")
    more = [{**line, "modalities": 4} for line in runs]
    more[0]["strategies"] = {**more[0]["strategies"], "cyclic": [0.54, 0.9, 3.0, 9.0]}
    assert page.by_seed([*runs, *more], "cyclic", page.gaps) == pytest.approx([3.0, 2.0, 2.0])
    assert page.by_seed(runs, "sampled 8", page.gaps) == []


def test_committed_results_are_whole_and_the_page_is_theirs(committed):
    committed("modalities")
