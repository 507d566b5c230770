"""A report over runs that were really trained, each by the command."""

import csv
import shutil

import pytest
import torch
from e2e.running import SMALL, history, results

from mmeq.game import edm_capacity

NAMES = ("m0", "m1")
METHODS = {
    "joint": ["method=joint", "fusion=concat"],
    "shapley": ["method=shapley", "callbacks=probe", "callbacks.console=null"],
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


def accuracy(run):
    return results(run)["test"]["accuracy"]["value"]
