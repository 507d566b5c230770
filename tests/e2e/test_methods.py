"""The contract that every method keeps: found by its YAML file, trained by the command."""

import math

import pytest
import torch
from e2e.running import PLAIN, SMALL, checkpoint, difference, history, results
from e2e.test_ranks import held
from e2e.test_resume import assert_same_run

from mmeq.config import groups
from mmeq.config.signatures import resolve

METHODS: dict[str, list[str]] = {
    "agm": [],
    "amco": [],
    "aug": ["method.every=2", "method.heads=2", "method.threshold=0"],
    "cml": [],
    "d_and_r": ["method.every=2", "method.times=2"],
    "di_mml": ["method.contrast_from=2", "method.stage2_share=0.6"],
    "gblend": ["method.super_epoch=2"],
    "greedy": ["method.window=2"],
    "inforeg": [],
    "joint": [],
    "lfm": [],
    "mla": [],
    "mmcosine": [],
    "mmpareto": [],
    "modality_dropout": ["method.rate=0.5"],
    "mses": ["method.patience=3"],
    "mslr": ["method.window=2"],
    "ogm_ge": ["method.end=3"],
    "opm": ["method.warmup=1"],
    "pmr": ["method.end=3"],
    "reconboost": ["method.alternation=1", "method.rectification=1"],
    "shapley": [],
    "smv": ["method.warmup=1"],
    "umt": [],
    "unimodal": ["method.modality=m0"],
}
"""Method → options with which all that it does happens within a few epochs."""
EASY = ("dataset.shared=0.9", "dataset.unique=0.9", "dataset.snr=5", "optim.optimizer.lr=5e-3")
QUIET = (*SMALL, "callbacks.console=null")
EVERY = pytest.mark.parametrize("method", sorted(groups()["method"]))


def options(method: str) -> list[str]:
    return [f"method={method}", *METHODS[method]]


def test_the_contract_knows_every_method():
    assert set(METHODS) == set(groups()["method"])


@EVERY
@pytest.mark.parametrize("sources", [2, 3])
def test_losses_fall(method, sources, warm, tmp_path):
    """Each loss that two epochs have in common; a method with phases may change them."""
    epochs = f"trainer.max_epochs={2 * sources + 2}"
    given = [*QUIET, *EASY, f"dataset.sources={sources}", *options(method), epochs]
    folder = warm.train(tmp_path / "run", *given)
    lines = [line["losses"] for line in history(folder)]
    assert all(math.isfinite(loss) for line in lines for loss in line.values())
    pairs = [
        (seen[0], seen[-1])
        for name in {name for line in lines for name in line}
        if len(seen := [line[name] for line in lines if name in line]) > 1
    ]
    assert pairs
    assert sum(last for _, last in pairs) < sum(first for first, _ in pairs)
    told = results(folder)
    assert told["method"] == method
    assert len(told["test"]["values"]) == 2**sources


@EVERY
def test_gaps_and_missing_modalities(method, warm, tmp_path):
    """Trains on incomplete data; is evaluated with a modality taken away and with random gaps."""
    given = [*QUIET, "missing=0.4", "batch_size=8", "dataset.samples=120", *options(method)]
    folder = warm.train(tmp_path / "run", *given, "trainer.max_epochs=6")
    state = checkpoint(folder)["state_dict"]
    assert all(t.isfinite().all() for t in state.values() if torch.is_tensor(t))
    whole = complete(warm, tmp_path, method)
    for run, gaps in ((whole, ["missing=[m0]"]), (folder, ["missing_rate=0.3", "missing_seed=1"])):
        done = warm("mmeq.eval", f"run={run}", *gaps, "accelerator=cpu", cwd=tmp_path)
        assert done.status == 0, done.stderr


def complete(warm, tmp_path, method):
    """A run of the method on complete data."""
    return warm.train(tmp_path / "whole", *QUIET, *options(method), "trainer.max_epochs=6")


@EVERY
def test_bfloat16_with_gaps(method, warm, tmp_path):
    """What a GPU trains in by default."""
    given = [*QUIET, "trainer.precision=bf16-mixed", "missing=0.2", *options(method)]
    folder = warm.train(tmp_path / "run", *given, "trainer.max_epochs=6")
    losses = [loss for line in history(folder) for loss in line["losses"].values()]
    assert all(map(math.isfinite, losses))
    done = warm("mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=tmp_path)
    assert "agrees with results.json" in done.stdout, done.stdout + done.stderr


@EVERY
def test_a_resumed_run_equals_an_uninterrupted_one(method, warm, tmp_path):
    """Broken off after any epoch; its checkpoints load with weights only, too."""
    given = [*QUIET, *PLAIN, *options(method), "missing=0.2", "trainer.max_epochs=7"]
    whole = warm.train(tmp_path / "whole", *given)
    parts = tmp_path / "parts"
    done = warm("e2e.ranks", parts, *given, cwd=tmp_path, BREAK_AFTER="3")
    assert done.status == 0, done.stderr
    assert not (parts / "results.json").exists()
    warm.train(parts, f"resume={parts}")
    assert_same_run(whole, parts)


@EVERY
def test_ranks_agree(method, warm, tmp_path):
    given = [*QUIET, *PLAIN, *options(method), "dataset.samples=203", "trainer.max_epochs=6"]
    done = warm("e2e.ranks", tmp_path / "run", *given, "trainer.devices=2", cwd=tmp_path, ranks=2)
    assert done.status == 0, done.stderr
    one, two = held(tmp_path / "run", 0), held(tmp_path / "run", 1)
    for part in ("weights", "order", "report"):
        assert difference(one[part], two[part], part) is None
    evaluated = warm("mmeq.eval", f"run={tmp_path / 'run'}", "accelerator=cpu", cwd=tmp_path)
    assert "agrees with results.json" in evaluated.stdout, evaluated.stdout + evaluated.stderr


@EVERY
def test_what_it_does_not_use_stays_untouched_and_all_is_measured(method, warm, tmp_path):
    """A method with heads of its own never steps the fusion; what is idle has no moments."""
    given = [*QUIET, *options(method), "trainer=cpu", "trainer.max_epochs=6", "callbacks=probe"]
    folder = warm.train(tmp_path / "run", *given)
    kept = checkpoint(folder)["optimizer_states"][0]
    stepped = {
        group["name"]: any(k in kept["state"] for k in group["params"])
        for group in kept["param_groups"]
    }
    target = f"mmeq.methods.{method}.{class_of(method)}"
    cls = resolve(target)
    assert stepped["fusion"] == cls.uses_fusion
    alone = [f"encoder/{name}" for name in ("m1", "m2")] if cls.single else []
    assert not any(stepped[name] for name in alone)
    told = results(folder)
    assert told["fusion"] == "own heads" or cls.uses_fusion
    # the same engine measures all: probes of the encoders, the table of missing modalities
    assert set(told["probe"]) == set(told["modalities"])
    assert len(told["missing"]["patterns"]) == 2**3 - 2


def class_of(method: str) -> str:
    import yaml

    from mmeq.config import conf_dir

    text = (conf_dir() / "method" / f"{method}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["_target_"].rpartition(".")[2]
