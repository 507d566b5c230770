"""The experiment on many modalities: tiny runs, its file of results, its page."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from mmeq.inference.orders import antithetic_orders

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FOLDER = EXPERIMENTS / "modalities"
OWN = (
    "run",
    "strategies",
    "times",
    "modalities_page",
    "modalities_figure",
    "trained",
    "spread",
    "cells",
)
PAGE = "# Page\n\n<!-- table -->\nold\n<!-- /table -->\n\nafter\n"
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
                "splits": [0],
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
def load():
    """Modules of the experiment, by name; those of other experiments have some names in common."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name in OWN:
            patch.delitem(sys.modules, name, raising=False)
        ours = [str(FOLDER), str(EXPERIMENTS / "approximation")]
        patch.setattr(sys, "path", [*ours, *sys.path])
        yield importlib.import_module
        for name in OWN:
            sys.modules.pop(name, None)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def measured(load, tmp_path_factory):
    """A folder in which the tiny sweep was run."""
    folder = tmp_path_factory.mktemp("modalities")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False), encoding="utf-8")
    (folder / "README.md").write_text(PAGE, encoding="utf-8")
    load("run").main(["--folder", str(folder)])
    return folder


def lines_of(folder):
    return [json.loads(x) for x in (folder / "results.jsonl").read_text().splitlines()]


def test_what_is_finished_is_not_measured_again(load, measured, tmp_path):
    folder = shutil.copytree(measured, tmp_path / "copy")
    whole = (folder / "results.jsonl").read_bytes()
    (folder / "results.jsonl").write_bytes(whole + b'{"part": "strat')  # as a kill leaves it
    load("run").main(["--folder", str(folder)])
    assert (folder / "results.jsonl").read_bytes() == whole
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| synthetic | 4 |" in page
    assert "old" not in page
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


def test_few_orders_are_the_first_of_many(load):
    many = antithetic_orders(7, 64, 5)
    assert antithetic_orders(7, 8, 5) == many[:8]
    made = load("strategies").strategies(range(7), 5, {**SWEEP["strategies"], "reference": 64})
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


def test_spread_is_median_and_range_of_pairs(load):
    assert load("times").spread([2.0, 6.0, 9.0], [1.0, 2.0, 9.0]) == [2.0, 1.0, 3.0]


def test_comparisons_are_paired_and_those_with_itself_left_out(load):
    page = load("modalities_page")
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


def test_committed_results_are_whole_and_the_page_is_theirs(load):
    settings = yaml.safe_load((FOLDER / "sweep.yaml").read_text(encoding="utf-8"))
    wanted = [cell for cell, _ in load("run").cells(settings)]
    lines = load("cells").known(FOLDER / "results.jsonl", wanted)
    assert len(lines) == len(wanted)
    page = load("modalities_page")
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == load("spread").replaced(readme, page.tables(*page.parted(lines)))
    assert (FOLDER / "results.jsonl").stat().st_size < 400_000
