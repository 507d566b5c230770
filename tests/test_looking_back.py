"""Evaluation and prediction of trained runs, as processes and beside each other.

A "look" is one of the mains that take up a finished run: mmeq.eval and mmeq.predict.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import mmeq
from mmeq.callbacks.entries import report_entry
from mmeq.config import build, conf_dir, runs, validate
from mmeq.config.alone import alone_runs
from mmeq.errors import MmeqError
from mmeq.eval import agreement, evaluate
from mmeq.game import measure_predictions, read_predictions
from mmeq.predict import predict
from mmeq.train import fit

ROOT = Path(mmeq.__file__).parents[1]
SHORT = ["debug=fast_dev", "trainer.limit_test_batches=null", "trainer.accelerator=cpu"]
NAMES = ("fou", "zer", "mor")
BEST = "fused/checkpoints/best.ckpt"


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


def composed(config_name, *overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, overrides=list(map(str, overrides)))


def task(main):
    """What a main does, without Hydra's command line and with its errors raised."""
    return main.__wrapped__.__wrapped__


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One fused run and a run of each of its modalities, trained for two short epochs."""
    folder = tmp_path_factory.mktemp("runs")
    jobs = {"fused": ["fusion=memory", "inference=auto"]}
    for name in NAMES:
        jobs[f"alone/{name}"] = ["method=unimodal", f"method.modality={name}", "fusion=late"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for where, overrides in jobs.items():
            quiet = ["callbacks.figures=null", "callbacks.missing=null", "callbacks.console=null"]
            cfg = composed("train", *SHORT, *quiet, *overrides)
            validate(cfg)
            run = build(cfg, folder / where)
            runs.claim(folder / where, cfg, overrides, resume=False)
            fit(run, resume=False)
    return folder


def told(folder):
    return json.loads((folder / "results.json").read_text())["test"]


def evaluated(home, capsys, *options):
    out = home / "table.json"
    out.unlink(missing_ok=True)
    cfg = composed("eval", f"run={home}/fused", f"output={out}", "accelerator=cpu", *options)
    capsys.readouterr()
    task(evaluate)(cfg)
    return json.loads(out.read_text()), capsys.readouterr().out


def predicted(home, *options, name="p.npz"):
    out = home / name
    cfg = composed("predict", f"run={home}/fused", f"output={out}", "accelerator=cpu", *options)
    task(predict)(cfg)
    return out


@pytest.fixture
def inside(home, monkeypatch):
    """The folder of runs as the working directory."""
    monkeypatch.chdir(home)
    return home


@pytest.mark.slow
def test_the_mains_are_processes_too(home, warm):
    done = warm("mmeq.eval", "run=fused", "accelerator=cpu", "output=t.json", cwd=home)
    assert done.status == 0, done.stderr
    assert "agrees with results.json exactly" in done.stdout
    assert "━" not in done.stdout
    done = command("mmeq.predict", "run=fused", "accelerator=cpu", "output=q.npz", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "399 samples × 7 coalitions × 10 classes in q.npz" in done.stdout
    assert "━" not in done.stdout
    for name in ("t.json", "q.npz"):
        assert (home / name).is_file()
    for main, option in (("eval", "checkpoint=fused/config.yaml"), ("predict", "data=x.npz")):
        given = [option, "output=x.json" if main == "eval" else "output=x.npz"]
        done = warm(f"mmeq.{main}", "run=fused", *given, cwd=home)
        assert done.status == 2
        assert "Traceback" not in done.stderr


def test_a_table_is_compared_only_where_it_can_be(inside, capsys):
    same, shown = evaluated(inside, capsys, "batch_size=7")
    assert "agrees with results.json" in same["comparison"]
    assert agreement(same["table"], told(inside / "fused")).startswith("agrees")
    assert "agrees with results.json" in shown
    by_path, _ = evaluated(inside, capsys, f"checkpoint={BEST}", "inference=auto")
    assert "agrees with results.json" in by_path["comparison"]
    last, _ = evaluated(inside, capsys, "checkpoint=last", "split=validation")
    assert last["table"]["samples"] == 400
    assert "nothing to compare with" in last["comparison"]
    cyclic, _ = evaluated(inside, capsys, "inference=cyclic")
    assert "made with inference=auto" in cyclic["comparison"]
    assert cyclic["inference"] == "cyclic"
    router, _ = evaluated(inside, capsys, "inference=router")  # fitted now, written nowhere
    assert router["table"]["accuracy"]["value"] > 0.1
    stored = torch.load(inside / "fused/checkpoints/best.ckpt", weights_only=True)
    assert "mmeq_strategy" not in stored


def test_a_hidden_modality_leaves_the_coalition_of_the_others(inside, capsys):
    table, _ = evaluated(inside, capsys, "missing=[zer]")
    full = told(inside / "fused")["values"]
    here = table["table"]["values"]
    for metric in ("accuracy", "nll", "macro_f1"):
        assert here["fou+zer+mor"][metric] == pytest.approx(full["fou+mor"][metric], abs=1e-6)
        assert here["fou+mor"][metric] == pytest.approx(full["fou+mor"][metric], abs=1e-6)
        assert here["zer"][metric] == pytest.approx(full["none"][metric], abs=1e-6)
    assert table["table"]["phi"]["zer"]["value"] == 0
    assert "not without zer" in table["comparison"]
    random, _ = evaluated(inside, capsys, "missing_rate=0.5", "missing_seed=3", "split=train")
    assert random["table"]["samples"] == 1195
    once_more, _ = evaluated(inside, capsys, "missing_rate=0.5", "missing_seed=3", "split=train")
    assert once_more == random


def test_balance_against_the_runs_of_one_modality(inside, capsys):
    table, shown = evaluated(inside, capsys, "unimodal=alone")
    assert "EDM against capacity" in shown
    empty = told(inside / "fused")["values"]["none"]["accuracy"]
    for name in NAMES:
        reached = told(inside / "alone" / name)["accuracy"]["value"]
        assert table["capacity"]["capacity"][name]["value"] == pytest.approx(reached - empty)
        probes = table["probe"][name]
        assert probes["alone"]["samples"] == probes["fused"]["samples"] == 399
        assert probes["difference"]["low"] <= probes["difference"]["high"]
    edm = table["capacity"]["edm"]
    assert edm["low"] <= edm["value"] <= edm["high"]
    assert "agrees with results.json" in table["comparison"]
    listed, _ = evaluated(inside, capsys, f"unimodal=[{','.join(f'alone/{n}' for n in NAMES)}]")
    assert listed["capacity"] == table["capacity"]


@pytest.mark.parametrize("name", ["p.npz", "p.parquet"])
def test_the_file_alone_gives_the_results_again(inside, name):
    path = predicted(inside, "per_sample_shapley=true", name=name)
    report = measure_predictions(path)
    assert agreement(report_entry(report), told(inside / "fused")).endswith("exactly")
    arrays = read_predictions(path)
    assert str(arrays["source"]) == "test"
    with np.load(inside / "fused" / "predictions" / "test.npz") as kept:
        assert np.array_equal(arrays["logits"], kept["logits"])
        assert arrays["ids"].tolist() == kept["ids"].tolist()
    full = arrays["logits"][:, -1].astype(float)
    chance = np.exp(full) / np.exp(full).sum(1, keepdims=True)
    rows, label = np.arange(len(full)), arrays["labels"]
    gain = chance[rows, label] - arrays["class_frequencies"][label]
    assert arrays["phi"].sum(1) == pytest.approx(gain, abs=1e-9)
    assert set(arrays["phi_of"]) == {"label"}


def test_own_data_without_labels(inside, capsys):
    """The test part, handed in as raw arrays: the same logits, and gaps are taken for gaps."""
    from mmeq.data.mfeat import Mfeat

    manifest = Mfeat(modalities=list(NAMES)).load()
    rows = manifest.rows("test")
    raw = {name: manifest.columns[name].batch(rows).numpy() for name in NAMES}
    np.savez(inside / "own.npz", **raw)
    own = read_predictions(
        predicted(inside, "data=own.npz", "per_sample_shapley=true", name="o.npz")
    )
    with np.load(inside / "fused" / "predictions" / "test.npz") as kept:
        logits = kept["logits"]
    assert np.allclose(own["logits"], logits, atol=1e-6)
    assert set(own["labels"]) == {-1}
    assert set(own["phi_of"]) == {"prediction"}
    assert np.array_equal(own["phi_class"], logits[:, -1].argmax(-1))
    with pytest.raises(MmeqError, match="no sample of these predictions has a label"):
        measure_predictions(own)
    raw["fou"][0] = np.nan
    labels = np.where(rows % 3 == 0, -1, manifest.labels[rows])
    gaps = {"fou": raw["fou"], "mor": raw["mor"], "labels": labels, "ids": rows.numpy().astype("U")}
    np.savez(inside / "own.npz", **gaps)
    path = predicted(
        inside, "data=own.npz", "per_sample_shapley=true", "batch_size=5", name="o.npz"
    )
    own = read_predictions(path)
    assert own["present"].tolist() == [[False, False, True]] + [[True, False, True]] * 398
    outer = 4  # fou+mor, of the rows fou, zer, fou+zer, mor, fou+mor, zer+mor, all
    assert np.allclose(own["logits"][1:, -1], logits[1:, outer], atol=1e-6)
    assert np.allclose(own["logits"][0, -1], logits[0, 3], atol=1e-6)
    assert np.abs(own["phi"][:, 1]).max() < 1e-8
    assert abs(own["phi"][0, 0]) < 1e-8
    known = np.bincount(own["labels"] + 1)[1:].sum()
    assert measure_predictions(own).samples == known == (labels >= 0).sum()


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
def test_mistakes_in_an_evaluation(inside, options, said):
    with pytest.raises(MmeqError, match=re.escape(said)):
        task(evaluate)(composed("eval", "run=fused", "accelerator=cpu", *options))


def test_a_choice_of_orders_is_refused_for_a_run_without_order(inside):
    cfg = composed("eval", "run=alone/fou", "accelerator=cpu", "inference=cyclic")
    with pytest.raises(MmeqError, match=r"=cyclic changes nothing, .* \(Late\) has no order"):
        task(evaluate)(cfg)


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
def test_mistakes_in_a_prediction(inside, options, said):
    with pytest.raises(MmeqError, match=re.escape(said)):
        task(predict)(composed("predict", "run=fused", "accelerator=cpu", *options))


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
