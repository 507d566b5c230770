"""The commands as a person meets them: help, configuration, mistakes, a wheel elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmeq
from mmeq.config import groups

ROOT = Path(mmeq.__file__).parents[1]
BOUND = 6.0
"""Seconds; about 0.3 are measured on an idle machine, the aim is 1.5."""


def command(*arguments, cwd, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK")}
    path = os.pathsep.join([str(ROOT), clean.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


WATCHED = """
import runpy, sys
sys.argv = ["{module}", *{arguments}]
try:
    runpy.run_module("{module}", run_name="__main__")
except SystemExit as leaving:
    assert not leaving.code, leaving.code
heavy = {{"torch", "lightning", "wandb", "numpy", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("mmeq.train", ["--help"]),
        ("mmeq.train", ["--cfg", "job"]),
        ("mmeq.eval", ["--help"]),
        ("mmeq.eval", ["--cfg", "job"]),
        ("mmeq.predict", ["--help"]),
        ("mmeq.predict", ["--cfg", "job"]),
        ("mmeq.prepare", ["--help"]),
        ("mmeq.prepare", ["--cfg", "job"]),
        ("mmeq.inspect", ["--help"]),
        ("mmeq.inspect", ["--cfg", "job"]),
    ],
)
def test_questions_are_answered_at_once_and_without_torch(module, arguments, tmp_path):
    start = time.perf_counter()
    done = command("-c", WATCHED.format(module=module, arguments=arguments), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < BOUND
    assert not list(tmp_path.iterdir())


def test_help_lists_every_choice(tmp_path):
    shown = command("-m", "mmeq.train", "--help", cwd=tmp_path).stdout
    for group, choices in groups().items():
        assert f"{group}: {', '.join(choices)}" in shown


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sed=1", "there is no option sed; did you mean 'seed'?"),
        ("fusion=memori", "there is no fusion=memori; did you mean 'memory'?"),
        ("fusoin=memory", "did you mean 'fusion'?"),
        ("experiment=papr", "did you mean 'paper'?"),
        ("fusion=memory fusion.cel=lstm", "there is no option fusion.cel; did you mean 'cell'?"),
        ("fusion.cell=[", "fusion.cell=[ cannot be read"),
        ("data_root=/ü=1", """needs quotes: data_root="'/ü=1'\""""),
        ("data_root=/a,b", """quote the value: data_root="'/a,b'\""""),
        ("dataset=null", "a group takes the name of one of its choices"),
        ("seed=1,2", "To sweep over it"),
        ("+group.typo=1", "there is no option group"),
        ("logger=[wandb,cvs]", "there is no logger=cvs; did you mean 'csv'?"),
        ("logger.wandb.project=x", "give logger=wandb, or [wandb,…] for several"),
        ("trainer.precision=16-mixed", "take bf16-mixed"),
        ("resume=nowhere", "there is no run"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(override, said, warm, tmp_path):
    done = warm("mmeq.train", *override.split(), cwd=tmp_path)
    assert done.status == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    assert not done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run is missing"),
        (["run=nowhere"], "there is no run"),
        (["run=nowhere", "split=tset"], "did you mean 'test'?"),
        (["run=nowhere", "checkpoint=bst"], "did you mean 'best'?"),
        (["rum=nowhere"], "did you mean 'run'?"),
        (["optim=adam"], "there is no option optim here: the configuration comes from the run"),
        (["trainer.max_steps=4"], "no option trainer.max_steps here: the configuration comes"),
        (["seed=3"], "there is no option seed here: the configuration comes from the run folder"),
        (["optin=adam"], "there is no option optin (one of: accelerator, "),
    ],
)
def test_mistakes_of_an_evaluation(arguments, said, warm, tmp_path):
    done = warm("mmeq.eval", *arguments, cwd=tmp_path)
    assert done.status == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run is missing"),
        (["run=nowhere", "output=p.npz"], "there is no run"),
        (["run=nowhere", "split=tset"], "did you mean 'test'?"),
        (["run=nowhere", "split=test", "data=x.npz"], "not both"),
        (["run=nowhere", "per_sample_shapley=yes please"], "give true or false"),
        (["outptu=p.npz"], "did you mean 'output'?"),
    ],
)
def test_mistakes_of_a_prediction(arguments, said, warm, tmp_path):
    done = warm("mmeq.predict", *arguments, cwd=tmp_path)
    assert done.status == 2
    assert said in done.stderr


@pytest.mark.slow
def test_a_run_its_evaluation_and_its_resume(warm, tmp_path):
    """Train two short epochs in a foreign folder, evaluate, train on."""
    folder = tmp_path / "run"
    short = ["debug=fast_dev", "trainer.limit_test_batches=null", "trainer.accelerator=cpu"]
    where = f"hydra.run.dir={folder}"
    done = command("-m", "mmeq.train", *short, where, cwd=tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    for name in (
        "config.yaml",
        "overrides.txt",
        "environment.json",
        "history.jsonl",
        "metrics.csv",
        "results.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "predictions/test.npz",
    ):
        assert (folder / name).is_file(), name
    done = command("-m", "mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "agrees with results.json" in done.stdout
    done = warm("mmeq.train", f"resume={folder}", "trainer.max_epochs=3", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert len((folder / "history.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_two_processes_share_one_folder_and_take_it_up_again(warm, tmp_path):
    done = command(
        "-m",
        "mmeq.train",
        "debug=fast_dev",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/*/results.json"))) == 1
    (folder,) = tmp_path.glob("runs/*/*")
    done = warm("mmeq.train", f"resume={folder}", "trainer.max_epochs=3", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert (folder / "results.json").is_file()
    assert len((folder / "history.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_wheel_works_in_another_folder(tmp_path):
    """Built from the tree, unpacked into a clean folder, used from a third one."""
    wheels, target, elsewhere = (tmp_path / name for name in ("wheels", "target", "elsewhere"))
    elsewhere.mkdir()
    built = command("-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("*.whl")
    pip = ["-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target), str(wheel)]
    assert command(*pip, cwd=tmp_path).returncode == 0
    for name in ("conf/train.yaml", "data/bundled/mfeat.npz", "data/bundled/SHA256SUMS"):
        assert (target / "mmeq" / name).is_file(), name
    assert any((target / "mmeq" / "data" / "bundled" / "LICENSES").iterdir())
    assert (target / "bin" / "mmeq-predict").is_file()
    script = target / "bin" / "mmeq-train"
    assert script.is_file()
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, str(script), "--cfg", "job"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mmeq.methods.shapley.Shapley" in done.stdout
    asked = "import mmeq.config as c; print(c.conf_dir())"
    where = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert Path(where.stdout.strip()) == target / "mmeq" / "conf"
