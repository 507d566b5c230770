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
PLAINER = (*QUIET, "callbacks.figures=null")
"""For runs whose figures are drawn by another run of the method here."""
GAPS = (*QUIET, "missing=0.4", "batch_size=8", "dataset.samples=120", "trainer.max_epochs=7")


@pytest.fixture(scope="module", params=sorted(groups()["method"]))
def method(request):
    return request.param


@pytest.fixture(scope="module")
def easy(method, warm, tmp_path_factory):
    """A run of the method on complete data, in which all is measured."""
    given = [*QUIET, *EASY, "dataset.sources=3", *options(method), "trainer.max_epochs=8"]
    return warm.train(
        tmp_path_factory.mktemp("easy") / "run", *given, "trainer=cpu", "callbacks=probe"
    )


@pytest.fixture(scope="module")
def gaps(method, warm, tmp_path_factory):
    """A run of the method on data of which two fifths are missing."""
    return warm.train(tmp_path_factory.mktemp("gaps") / "run", *GAPS, *options(method))


def options(method: str) -> list[str]:
    return [f"method={method}", *METHODS[method]]


def test_the_contract_knows_every_method():
    assert set(METHODS) == set(groups()["method"])


def test_losses_fall_with_two_modalities(method, warm, tmp_path):
    given = [*PLAINER, *EASY, "dataset.sources=2", *options(method), "trainer.max_epochs=6"]
    assert_losses_fall(warm.train(tmp_path / "run", *given), method, 2)


def test_losses_fall_with_three_modalities(method, easy):
    assert_losses_fall(easy, method, 3)


def assert_losses_fall(folder, method, sources):
    """Each loss that two epochs have in common; a method with phases may change them."""
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


def test_gaps_and_missing_modalities(easy, gaps, warm):
    """Trains on incomplete data; is evaluated with a modality taken away and with random gaps."""
    state = checkpoint(gaps)["state_dict"]
    assert all(t.isfinite().all() for t in state.values() if torch.is_tensor(t))
    for run, lost in ((easy, ["missing=[m0]"]), (gaps, ["missing_rate=0.3", "missing_seed=1"])):
        done = warm("mmeq.eval", f"run={run}", *lost, "accelerator=cpu", cwd=run.parent)
        assert done.status == 0, done.stderr


def test_bfloat16_with_gaps(method, warm, tmp_path):
    """What a GPU trains in by default."""
    given = [*PLAINER, "trainer.precision=bf16-mixed", "missing=0.2", *options(method)]
    folder = warm.train(tmp_path / "run", *given, "trainer.max_epochs=6")
    losses = [loss for line in history(folder) for loss in line["losses"].values()]
    assert all(map(math.isfinite, losses))
    done = warm("mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=tmp_path)
    assert "agrees with results.json" in done.stdout, done.stdout + done.stderr


def test_a_resumed_run_equals_an_uninterrupted_one(method, gaps, warm, tmp_path):
    """Broken off after any epoch; its checkpoints load with weights only, too."""
    parts = tmp_path / "parts"
    given = [*GAPS, *PLAIN, *options(method)]
    done = warm("e2e.ranks", parts, *given, cwd=tmp_path, BREAK_AFTER="3")
    assert done.status == 0, done.stderr
    assert not (parts / "results.json").exists()
    warm.train(parts, f"resume={parts}")
    assert_same_run(gaps, parts)


@pytest.mark.parametrize("method", ["shapley", "mla", "pmr", "reconboost"])
def test_ranks_agree(method, warm, tmp_path):
    """With dropout, which is a rank's own; test_equal.py compares every method without."""
    given = [*QUIET, *PLAIN, *options(method), "dataset.samples=203", "trainer.max_epochs=6"]
    done = warm("e2e.ranks", tmp_path / "run", *given, "trainer.devices=2", cwd=tmp_path, ranks=2)
    assert done.status == 0, done.stderr
    one, two = held(tmp_path / "run", 0), held(tmp_path / "run", 1)
    for part in ("weights", "order", "report"):
        assert difference(one[part], two[part], part) is None
    evaluated = warm("mmeq.eval", f"run={tmp_path / 'run'}", "accelerator=cpu", cwd=tmp_path)
    assert "agrees with results.json" in evaluated.stdout, evaluated.stdout + evaluated.stderr


def test_what_it_does_not_use_stays_untouched_and_all_is_measured(method, easy):
    """A method with heads of its own never steps the fusion; what is idle has no moments."""
    kept = checkpoint(easy)["optimizer_states"][0]
    stepped = {
        group["name"]: any(k in kept["state"] for k in group["params"])
        for group in kept["param_groups"]
    }
    target = f"mmeq.methods.{method}.{class_of(method)}"
    cls = resolve(target)
    assert stepped["fusion"] == cls.uses_fusion
    alone = [f"encoder/{name}" for name in ("m1", "m2")] if cls.single else []
    assert not any(stepped[name] for name in alone)
    told = results(easy)
    assert told["fusion"] == "own heads" or cls.uses_fusion
    # the same engine measures all: probes of the encoders, the table of missing modalities
    assert set(told["probe"]) == set(told["modalities"])
    assert len(told["missing"]["patterns"]) == 2**3 - 2


def class_of(method: str) -> str:
    import yaml

    from mmeq.config import conf_dir

    text = (conf_dir() / "method" / f"{method}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["_target_"].rpartition(".")[2]
