"""A report over runs that were really trained, each by the command."""

import csv
import json
import shutil

import pytest
import torch
from e2e.running import SMALL, history, results
from reporting.tree import Tree, curves, find, text

from mmeq.game import edm_capacity
from mmeq.reporting import compare, keep, kept_runs, read_folders

NAMES = ("m0", "m1")
METHODS = {
    "joint": ["method=joint", "fusion=concat"],
    "shapley": ["method=shapley", "fusion=memory", "callbacks=probe", "callbacks.console=null"],
    **{name: ["method=unimodal", f"method.modality={name}", "fusion=late"] for name in NAMES},
}


@pytest.fixture(scope="module")
def home(warm, tmp_path_factory):
    """Two seeds, each with a split of its own; modalities alone, a run on gaps, one cut off."""
    home = tmp_path_factory.mktemp("report")
    (home / "runs").mkdir()
    short = [*SMALL, "dataset.sources=2", "dataset.snr=9", "dataset.unique=0.7"]
    short += ["trainer.max_epochs=2", "optim.optimizer.lr=1e-2"]
    for name, options in METHODS.items():
        for seed in (1,) if name in NAMES else (0, 1):
            seeds = [f"seed={seed}", f"dataset.split_seed={seed}"]
            warm.train(home / f"runs/{name}-{seed}", *short, *options, *seeds)
    warm.train(home / "runs/gaps", *short, *METHODS["joint"], "missing=0.3")
    shutil.copytree(home / "runs/joint-0", home / "runs/open")
    (home / "runs/open/results.json").unlink()
    done = warm("mmeq.report", "runs", "--output", "tables", cwd=home)
    assert done.status == 0, done.stderr
    assert "mmeq: 1 unfinished run is in no table" in done.stderr
    assert done.stdout == (home / "tables/report.md").read_text(encoding="utf-8")
    return home


def lines(home, file="report.csv"):
    with (home / "tables" / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_run_is_told(home):
    text = (home / "tables/report.md").read_text(encoding="utf-8")
    assert "### synthetic · missing=0.3" in text
    assert "runs/open: joint · concat, seed 0, split 0: 2 of 2 epochs" in text
    told = {line["folder"]: line for line in lines(home, "runs.csv")}
    assert len(told) == 8
    for folder, line in told.items():
        if line["status"] == "finished":
            run = home / folder
            assert float(line["accuracy"]) == results(run)["test"]["accuracy"]["value"]
            seconds = [epoch["seconds"] for epoch in history(run)]
            assert float(line["seconds"]) == pytest.approx(sum(seconds) / len(seconds))


def test_the_rows_are_those_that_were_trained(home):
    rows = {line["row"]: line for line in lines(home) if line["table"] == "synthetic"}
    assert list(rows) == ["joint", "shapley · memory", "unimodal m0", "unimodal m1"]
    assert [line["runs"] for line in rows.values()] == ["2", "2", "1", "1"]
    pairs = [[accuracy(home / f"runs/{name}-{seed}") for name in METHODS if name not in NAMES]
             for seed in (0, 1)]  # fmt: skip
    difference = sum(shapley - joint for joint, shapley in pairs) / 2
    assert float(rows["shapley · memory"]["difference"]) == pytest.approx(difference)


def test_edm_against_capacity_is_the_one_of_the_game(home):
    """Runs of one modality are there for seed 1 alone."""
    fused = results(home / "runs/joint-1")["test"]
    alone = [accuracy(home / f"runs/{name}-1") for name in NAMES]
    capacity = torch.tensor(alone) - fused["values"]["none"]["accuracy"]
    phi = torch.tensor([fused["phi"][name]["value"] for name in NAMES])
    (row,) = (r for r in lines(home) if (r["table"], r["row"]) == ("synthetic", "joint"))
    assert float(row["capacity"]) == pytest.approx(edm_capacity(phi, capacity).item(), abs=1e-4)
    assert (row["capacity_n"], row["capacity_undefined"]) == ("1", "1")


def test_kept_lines_say_what_their_folders_say(home):
    """Numbers are kept with 5 significant digits: intervals of two runs magnify what is lost."""
    tables = {table.title: table for table in compare(read_folders([str(home / "runs")]).runs)}
    table = tables["synthetic"]
    lines = [
        keep(run.folder, table.title, row.label) for row in table.rows for run in row.runs.values()
    ]
    file = home / "kept.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (again,) = compare(kept_runs(file))
    assert [row.label for row in again.rows] == [row.label for row in table.rows]
    assert (again.title, again.protocol, again.share) == (table.title, table.protocol, table.share)
    for row, same in zip(table.rows, again.rows, strict=True):
        assert row.estimates.keys() == same.estimates.keys()
        assert {"accuracy", "ece"} <= row.estimates.keys()
        for name, found in row.estimates.items():
            # an end near 0 is as exact as the other one, not as its own size
            size = max([1.0, *(abs(x) for x in (found.low, found.high) if x is not None)])
            for end in ("mean", "low", "high", "n", "undefined"):
                was, now = getattr(found, end), getattr(same.estimates[name], end)
                assert (was is None) == (now is None)
                assert was is None or now == pytest.approx(was, rel=1e-3, abs=1e-3 * size)
    for line in lines:
        assert len(line["history"]["edm"]) == line["epochs"] == 2
        assert sum(map(sum, line["confusion"])) == sum(n for n, _, _ in line["calibration"])
        assert line["test"]["values"]["m0+m1"] == line["test"]["accuracy"]


def test_the_page_shows_what_was_trained(home):
    root = Tree((home / "tables/report.html").read_text(encoding="utf-8")).root
    section = next(s for s in find(root, "section") if text(find(s, "h2")[0]) == "synthetic")
    panels = {
        e[1]["data-panel"]: e
        for tag in ("div", "p")
        for e in find(section, tag)
        if "data-panel" in e[1]
    }
    counts = {name: len(find(panel, "figure")) for name, panel in panels.items()}
    fused, every = 2, 4
    assert counts == {
        "dots": 3, "learning": 1, "edm": 1, "missing": 0, "shapley": fused, "orders": fused,
        "coalitions": fused, "confusion": every, "reliability": every,
    }  # fmt: skip
    assert "missing rates were not measured (callbacks.missing)" in text(panels["missing"])
    learning = curves(find(panels["learning"], "figure")[0])
    runs = [history(home / f"runs/joint-{seed}") for seed in (0, 1)]
    means = [50 * sum(run[e]["accuracy"]["value"] for run in runs) for e in (0, 1)]
    assert [y for _, y in learning["joint"][0][0]] == pytest.approx(means, abs=0.3)


def accuracy(run):
    return results(run)["test"]["accuracy"]["value"]
