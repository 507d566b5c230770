"""Evaluation and prediction of trained runs, as processes and beside each other.

A "look" is one of the mains that take up a finished run: mmeq.eval and mmeq.predict.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import mmeq
from mmeq.callbacks.entries import report_entry
from mmeq.config.alone import alone_runs
from mmeq.errors import MmeqError
from mmeq.eval import agreement
from mmeq.game import measure_predictions, read_predictions

ROOT = Path(mmeq.__file__).parents[1]
SHORT = ["debug=fast_dev", "trainer.limit_test_batches=null", "trainer.accelerator=cpu"]
NAMES = ("fou", "zer", "mor")


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def good(*arguments, cwd):
    done = command(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One fused run and a run of each of its modalities, trained for two short epochs."""
    folder = tmp_path_factory.mktemp("runs")
    good("mmeq.train", *SHORT, f"hydra.run.dir={folder}/fused", cwd=folder)
    for name in NAMES:
        only = ["method=unimodal", f"method.modality={name}", "fusion=late"]
        good("mmeq.train", *SHORT, *only, f"hydra.run.dir={folder}/alone/{name}", cwd=folder)
    return folder


def told(folder):
    return json.loads((folder / "results.json").read_text())["test"]


def evaluate(home, *options, run="fused"):
    out = home / "table.json"
    out.unlink(missing_ok=True)
    shown = good("mmeq.eval", f"run={run}", f"output={out}", "accelerator=cpu", *options, cwd=home)
    return json.loads(out.read_text()), shown


def predict(home, *options, run="fused", name="p.npz"):
    path = home / name
    good("mmeq.predict", f"run={run}", f"output={path}", "accelerator=cpu", *options, cwd=home)
    return path


@pytest.mark.slow
def test_a_table_is_compared_only_where_it_can_be(home):
    same, shown = evaluate(home, "batch_size=7")
    assert "agrees with results.json" in same["comparison"]
    assert agreement(same["table"], told(home / "fused")).startswith("agrees")
    assert "agrees with results.json" in shown
    assert "━" not in shown
    by_path, _ = evaluate(home, "checkpoint=fused/checkpoints/best.ckpt", "inference=auto")
    assert "agrees with results.json" in by_path["comparison"]
    last, _ = evaluate(home, "checkpoint=last", "split=validation")
    assert last["table"]["samples"] == 399
    assert "nothing to compare with" in last["comparison"]
    cyclic, _ = evaluate(home, "inference=cyclic")
    assert "made with inference=auto" in cyclic["comparison"]
    assert cyclic["inference"] == "cyclic"
    router, _ = evaluate(home, "inference=router")  # fitted now, written nowhere
    assert router["table"]["accuracy"]["value"] > 0.1
    stored = torch.load(home / "fused/checkpoints/best.ckpt", weights_only=True)
    assert "mmeq_strategy" not in stored


@pytest.mark.slow
def test_a_hidden_modality_leaves_the_coalition_of_the_others(home):
    table, _ = evaluate(home, "missing=[zer]")
    full = told(home / "fused")["values"]
    here = table["table"]["values"]
    for metric in ("accuracy", "nll", "macro_f1"):
        assert here["fou+zer+mor"][metric] == pytest.approx(full["fou+mor"][metric], abs=1e-6)
        assert here["fou+mor"][metric] == pytest.approx(full["fou+mor"][metric], abs=1e-6)
        assert here["zer"][metric] == pytest.approx(full["none"][metric], abs=1e-6)
    assert table["table"]["phi"]["zer"]["value"] == 0
    assert "not without zer" in table["comparison"]
    random, _ = evaluate(home, "missing_rate=0.5", "missing_seed=3", "split=train")
    assert random["table"]["samples"] == 1196
    once_more, _ = evaluate(home, "missing_rate=0.5", "missing_seed=3", "split=train")
    assert once_more == random


@pytest.mark.slow
def test_balance_against_the_runs_of_one_modality(home):
    table, shown = evaluate(home, "unimodal=alone")
    assert "EDM against capacity" in shown
    empty = told(home / "fused")["values"]["none"]["accuracy"]
    for name in NAMES:
        reached = told(home / "alone" / name)["accuracy"]["value"]
        assert table["capacity"]["capacity"][name]["value"] == pytest.approx(reached - empty)
        probes = table["probe"][name]
        assert probes["alone"]["samples"] == probes["fused"]["samples"] == 399
        assert probes["difference"]["low"] <= probes["difference"]["high"]
    edm = table["capacity"]["edm"]
    assert edm["low"] <= edm["value"] <= edm["high"]
    assert "agrees with results.json" in table["comparison"]
    listed, _ = evaluate(home, f"unimodal=[{','.join(f'alone/{n}' for n in NAMES)}]")
    assert listed["capacity"] == table["capacity"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p.npz", "p.parquet"])
def test_the_file_alone_gives_the_results_again(home, name):
    if name.endswith("parquet") and importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    path = predict(home, "per_sample_shapley=true", name=name)
    report = measure_predictions(path)
    assert agreement(report_entry(report), told(home / "fused")).endswith("exactly")
    arrays = read_predictions(path)
    assert str(arrays["source"]) == "test"
    with np.load(home / "fused" / "predictions" / "test.npz") as kept:
        assert np.array_equal(arrays["logits"], kept["logits"])
        assert arrays["ids"].tolist() == kept["ids"].tolist()
    full = arrays["logits"][:, -1].astype(float)
    chance = np.exp(full) / np.exp(full).sum(1, keepdims=True)
    rows, label = np.arange(len(full)), arrays["labels"]
    gain = chance[rows, label] - arrays["class_frequencies"][label]
    assert arrays["phi"].sum(1) == pytest.approx(gain, abs=1e-9)
    assert set(arrays["phi_of"]) == {"label"}


@pytest.mark.slow
def test_own_data_without_labels(home):
    """The test part, handed in as raw arrays: the same logits, and gaps are taken for gaps."""
    from mmeq.data.mfeat import Mfeat

    manifest = Mfeat(modalities=list(NAMES)).load()
    rows = manifest.rows("test")
    raw = {name: manifest.columns[name].batch(rows).numpy() for name in NAMES}
    np.savez(home / "own.npz", **raw)
    own = read_predictions(predict(home, "data=own.npz", "per_sample_shapley=true", name="o.npz"))
    with np.load(home / "fused" / "predictions" / "test.npz") as kept:
        logits = kept["logits"]
    assert np.allclose(own["logits"], logits, atol=1e-6)
    assert set(own["labels"]) == {-1}
    assert set(own["phi_of"]) == {"prediction"}
    assert np.array_equal(own["phi_class"], logits[:, -1].argmax(-1))
    with pytest.raises(MmeqError, match="no sample of these predictions has a label"):
        measure_predictions(own)
    raw["fou"][0] = np.nan
    labels = np.where(rows % 3 == 0, -1, manifest.labels[rows])
    gaps = {"fou": raw["fou"], "mor": raw["mor"], "labels": labels, "ids": rows.numpy().astype(str)}
    np.savez(home / "own.npz", **gaps)
    path = predict(home, "data=own.npz", "per_sample_shapley=true", "batch_size=5", name="o.npz")
    own = read_predictions(path)
    assert own["present"].tolist() == [[False, False, True]] + [[True, False, True]] * 398
    outer = 4  # fou+mor, of the rows fou, zer, fou+zer, mor, fou+mor, zer+mor, all
    assert np.allclose(own["logits"][1:, -1], logits[1:, outer], atol=1e-6)
    assert np.allclose(own["logits"][0, -1], logits[0, 3], atol=1e-6)
    assert (own["phi"][:, 1] == 0).all()
    assert own["phi"][0, 0] == 0
    known = np.bincount(own["labels"] + 1)[1:].sum()
    assert measure_predictions(own).samples == known == (labels >= 0).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["missing=[zre]"], "did you mean 'zer'"),
        (["missing=[fou,zer,mor]"], "hides every modality"),
        (["missing_rate=1.5"], "give a rate from 0"),
        (["inference=hybird"], "did you mean 'hybrid'"),
        (["checkpoint=fused/config.yaml"], "no checkpoint of mmeq"),
        (["checkpoint=nowhere.ckpt"], "there is no such file"),
        (["checkpoint=alone/fou/checkpoints/best.ckpt"], "the weights of another model"),
        (["output=table.txt"], "give the name of a .json file"),
        (["unimodal=[alone/fou,alone/zer]"], "no run was trained on mor alone"),
        (["unimodal=[fused]"], "was not trained on one modality alone"),
        (["unimodal=alone", "missing=[zer]"], "leave one of them out"),
    ],
)
def test_mistakes_in_an_evaluation(home, options, said):
    done = command("mmeq.eval", "run=fused", "accelerator=cpu", *options, cwd=home)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "output is missing"),
        (["output=p.csv"], "ends in .npz or .parquet"),
        (["output=p.npz", "split=tset"], "did you mean 'test'"),
        (["output=p.npz", "split=test", "data=x.npz"], "not both"),
        (["output=p.npz", "data=x.npz"], "there is no such file"),
        (["output=p.npz", "data=fused/predictions/test.npz"], "unknown array"),
    ],
)
def test_mistakes_in_a_prediction(home, options, said):
    done = command("mmeq.predict", "run=fused", "accelerator=cpu", *options, cwd=home)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def folders(tmp_path, **changes):
    """Run folders without a run in them, and the configuration of the fused one."""
    base = {
        "dataset": {"_target_": "mmeq.data.mfeat.Mfeat", "modalities": ["a", "b"], "split_seed": 0},
        "method": {"_target_": "mmeq.methods.unimodal.Unimodal", "modality": "a"},
        "seed": 0,
    }
    for name in ("a", "b"):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        for file in ("results.json", "checkpoints/best.ckpt"):
            (folder / file).touch()
        cfg = {**base, "method": {**base["method"], "modality": name}}
        cfg["dataset"] = {**base["dataset"], "modalities": [name]}
        if name == "b":
            cfg |= changes
        (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    return tmp_path / "runs", OmegaConf.create(base)


def test_runs_of_one_modality_are_found(tmp_path):
    where, fused = folders(tmp_path)
    wanted = {"a": where / "a", "b": where / "b"}
    for given in (str(where), f"{where}/*", [f"{where}/b", f"{where}/a"]):
        assert alone_runs(given, fused, ("a", "b")) == wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"dataset": {"_target_": "mmeq.data.mfeat.Mfeat", "split_seed": 1}},
            "dataset.split_seed is 1 there and 0 here",
        ),
        ({"method": {"_target_": "mmeq.methods.joint.Joint"}}, "one modality alone, but by joint"),
        (
            {"method": {"_target_": "mmeq.methods.unimodal.Unimodal", "modality": "c"}},
            "no modality of the run",
        ),
        (
            {"method": {"_target_": "mmeq.methods.unimodal.Unimodal", "modality": "a"}},
            "were both trained on a",
        ),
        ({"missing": 0.3}, "missing is 0.3 there and None here"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, changes, said):
    where, fused = folders(tmp_path, **changes)
    with pytest.raises(MmeqError, match=said):
        alone_runs(str(where), fused, ("a", "b"))


def test_runs_that_are_not_there_or_not_complete(tmp_path):
    where, fused = folders(tmp_path)
    with pytest.raises(MmeqError, match="there is no run"):
        alone_runs(str(tmp_path / "none"), fused, ("a", "b"))
    (where / "b" / "results.json").unlink()
    with pytest.raises(MmeqError, match="is not complete"):
        alone_runs(str(where), fused, ("a", "b"))
    shutil.rmtree(where / "b")
    with pytest.raises(MmeqError, match="no run was trained on b alone"):
        alone_runs(str(where), fused, ("a", "b"))
