"""The run folder's files, from real small runs."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback

from mmeq.callbacks.entries import best_epoch, flat_metrics, report_entry
from mmeq.callbacks.predictions import Predictions, load_predictions
from mmeq.callbacks.record import RunRecord
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.files import read_jsonl
from tests.callbacks.tiny import NAMES, Stop, Tiny, batches, run, trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tiny]:
    """A run of three epochs with test."""
    folder = tmp_path_factory.mktemp("run")
    module = Tiny()
    record = RunRecord(folder, names={"backbone": "linear", "seed": 0, "split_seed": 1})
    run(folder, [ShapleyScheduler(), record, Predictions(folder)], module, epochs=3)
    return folder, module


def test_history_has_a_line_an_epoch(finished: tuple[Path, Tiny]) -> None:
    folder, module = finished
    history = read_jsonl(folder / "history.jsonl")
    assert [line["epoch"] for line in history] == [0, 1, 2]
    line = history[-1]
    assert set(line["phi"]) == set(NAMES)
    assert set(line["phi"]["fou"]) == {"value", "low", "high", "se"}
    assert set(line["edm"]) == {"value", "low", "high", "normalised"}
    assert len(line["values"]) == 8
    assert {"accuracy", "macro_f1", "nll"} <= set(line["values"]["fou+mor"])
    assert line["lr"] == {f"encoder/{name}": 0.02 for name in NAMES}
    assert line["losses"].keys() == {"final", "step/zer"}
    total = sum(phi["value"] for phi in line["phi"].values())
    gain = line["values"]["fou+zer+mor"]["accuracy"] - line["values"]["none"]["accuracy"]
    assert total == pytest.approx(gain)
    assert module.method.seen == [0, 1, 2]


def test_next_order_is_the_order_of_the_next_epoch(finished: tuple[Path, Tiny]) -> None:
    history = read_jsonl(finished[0] / "history.jsonl")
    assert history[0]["order"] == list(NAMES)
    for line, following in pairwise(history):
        assert following["order"] == line["next_order"]
        phi = [line["phi"][name]["value"] for name in line["next_order"]]
        assert phi == sorted(phi)
    assert history[-1]["kendall_tau"] == 1.0 or history[-1]["order"] != history[-1]["next_order"]


def test_metrics_csv_mirrors_the_history(finished: tuple[Path, Tiny]) -> None:
    with (finished[0] / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    history = read_jsonl(finished[0] / "history.jsonl")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for row, line in zip(rows, history, strict=True):
        assert float(row["shapley/mor"]) == line["phi"]["mor"]["value"]
        assert float(row["value/fou+zer"]) == line["values"]["fou+zer"]["accuracy"]
        assert float(row["order/zer"]) == line["order"].index("zer")
        assert float(row["train/final"]) == line["losses"]["final"]
        assert {"val/nll", "edm_low", "lr", "seconds"} <= set(row)


def test_results_hold_test_and_best_validation(finished: tuple[Path, Tiny]) -> None:
    folder, module = finished
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    history = read_jsonl(folder / "history.jsonl")
    best = results["best_epoch"]
    assert history[best]["accuracy"]["value"] == max(line["accuracy"]["value"] for line in history)
    assert results["validation"]["phi"] == history[best]["phi"]
    assert results["test"] == report_entry(module.test_report)
    assert results["test"]["samples"] == 96
    assert (results["backbone"], results["seed"], results["split_seed"]) == ("linear", 0, 1)
    assert (results["dataset"], results["method"]) == ("tiny", "ascending")
    assert results["epochs"] == 3
    assert results["seconds"] > 0
    proper = [v["accuracy"] for k, v in results["test"]["values"].items()
              if k not in ("none", "fou+zer+mor")]  # fmt: skip
    assert results["test"]["proper_mean"] == pytest.approx(float(np.mean(proper)))


def test_environment_names_versions_and_device(finished: tuple[Path, Tiny]) -> None:
    facts = json.loads((finished[0] / "environment.json").read_text(encoding="utf-8"))
    assert {"python", "torch", "lightning", "mmeq", "platform", "commit", "threads"} <= set(facts)
    assert facts["device"] == "cpu"


def test_predictions_give_the_report_again(finished: tuple[Path, Tiny]) -> None:
    folder, module = finished
    arrays = load_predictions(folder / "predictions" / "test.npz")
    assert arrays["logits"].shape == (96, 7, 4)
    assert arrays["logits"].dtype == np.float32
    assert arrays["modalities"].tolist() == list(NAMES)
    assert arrays["ids"].tolist() == [f"sample-{i}" for i in range(96)]
    assert arrays["coalitions"].dtype == bool
    accuracy = (arrays["logits"].argmax(-1) == arrays["labels"][:, None]).mean(0)
    np.testing.assert_allclose(accuracy, module.test_report.values["accuracy"][1:])
    assert arrays["coalitions"][:3].tolist() == [
        [True, False, False],
        [False, True, False],
        [True, True, False],
    ]


def test_broken_run_has_no_results(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="plug"):
        run(tmp_path, [RunRecord(tmp_path), Stop(1)])
    assert len(read_jsonl(tmp_path / "history.jsonl")) == 2
    assert not (tmp_path / "results.json").exists()


def test_test_without_fit_writes_no_results(tmp_path: Path) -> None:
    trainer(tmp_path, [RunRecord(tmp_path)]).test(Tiny(), batches(20, 3), verbose=False)
    assert not (tmp_path / "results.json").exists()


def test_resume_drops_the_epochs_that_are_trained_again(tmp_path: Path) -> None:
    """Broken off after the line of epoch 2 and before its checkpoint, and with a torn line."""

    def callbacks(folder: Path) -> list[Callback]:
        return [ShapleyScheduler(), RunRecord(folder)]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, callbacks(whole), epochs=4)
    with pytest.raises(RuntimeError, match="plug"):
        run(broken, [*callbacks(broken), Stop(2)], epochs=4)
    with (broken / "history.jsonl").open("ab") as stream:
        stream.write(b'{"epoch": 3, "ph')
    (broken / "results.json").write_text("{}", encoding="utf-8")  # of an earlier, shorter run
    assert len(read_jsonl(broken / "history.jsonl")) == 3
    module, resumed = Tiny(), trainer(broken, callbacks(broken), epochs=4)
    resumed.fit(module, batches(64, 1), batches(80, 2), ckpt_path=broken / "checkpoints/last.ckpt")
    assert not (broken / "results.json").exists()
    resumed.test(module, batches(96, 3), ckpt_path="best", verbose=False)

    def bare(line: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in line.items() if key != "seconds"}

    histories = [read_jsonl(folder / "history.jsonl") for folder in (whole, broken)]
    assert [bare(line) for line in histories[0]] == [bare(line) for line in histories[1]]
    results = [
        json.loads((f / "results.json").read_text(encoding="utf-8")) for f in (whole, broken)
    ]
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["best_epoch"] == results[1]["best_epoch"]
    with (broken / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["0", "1", "2", "3"]


def test_resume_with_no_epoch_left_still_writes_results(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    made = trainer(tmp_path, [record])
    made.fit(Tiny(), batches(64, 1), batches(80, 2))
    assert not (tmp_path / "results.json").exists()  # killed before the test
    module, again = Tiny(), trainer(tmp_path, [RunRecord(tmp_path)])
    again.fit(module, batches(64, 1), batches(80, 2), ckpt_path=tmp_path / "checkpoints/last.ckpt")
    again.test(module, batches(96, 3), ckpt_path="best", verbose=False)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["epochs"] == 2


def test_metric_that_appears_later_gets_a_column(tmp_path: Path) -> None:
    class Late(Tiny):
        def on_validation_start(self) -> None:
            super().on_validation_start()
            if self.current_epoch:
                self.train_losses["late"] = 1.0

    run(tmp_path, [RunRecord(tmp_path)], Late())
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["train/late"] for row in rows] == ["", "1.0"]


def test_best_epoch_agrees_with_the_checkpoint(finished: tuple[Path, Tiny]) -> None:
    import torch

    history = read_jsonl(finished[0] / "history.jsonl")
    kept = torch.load(finished[0] / "checkpoints" / "best.ckpt", weights_only=True)
    assert kept["epoch"] == history[best_epoch(history)]["epoch"]


def test_flat_test_metrics_have_their_own_names(finished: tuple[Path, Tiny]) -> None:
    flat = flat_metrics(report_entry(finished[1].test_report), prefix="test")
    assert {"test/accuracy", "test/edm", "test/shapley/fou", "test/value/fou+zer"} <= set(flat)
    assert not any(key.startswith(("shapley", "val/", "edm")) for key in flat)


def test_nll_is_told_as_nll_and_its_shapley_value_as_utility(tmp_path: Path) -> None:
    module = Tiny(value="nll")
    run(tmp_path, [ShapleyScheduler(), RunRecord(tmp_path)], module)
    line = read_jsonl(tmp_path / "history.jsonl")[-1]
    full, none = line["values"]["fou+zer+mor"], line["values"]["none"]
    assert full["low"] <= full["nll"] <= full["high"]
    assert full["low"] == pytest.approx(line["nll"]["low"])
    total = sum(phi["value"] for phi in line["phi"].values())
    assert total == pytest.approx(none["nll"] - full["nll"])


@pytest.mark.slow
def test_predictions_of_two_processes_equal_those_of_one(warm, tmp_path: Path) -> None:
    """95 samples: Lightning's sampler repeats one, which must not be saved twice."""
    for devices in (1, 2):
        given = (tmp_path / str(devices), str(devices))
        done = warm.code(DDP, *given, cwd=tmp_path, ranks=devices)
        assert done.status == 0, done.stderr
    one, two = (load_predictions(tmp_path / n / "predictions" / "test.npz") for n in ("1", "2"))
    assert one["logits"].shape[0] == 95
    for name in one:
        if name == "logits":  # other batch mates can turn the last bit of a product
            np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(one[name], two[name])


DDP = """
import sys
from pathlib import Path
from mmeq.callbacks.predictions import Predictions
from tests.callbacks.tiny import Tiny, batches, trainer
folder, devices = Path(sys.argv[1]), int(sys.argv[2])
strategy = "ddp" if devices > 1 else "auto"
made = trainer(folder, [Predictions(folder)], devices=devices, strategy=strategy)
made.test(Tiny(), batches(95, 3), verbose=False)
"""
