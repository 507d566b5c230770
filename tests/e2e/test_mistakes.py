"""What a hostile user types: one message that names what is wrong, status 2, nothing left."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from e2e.running import PLAIN, ROOT, SMALL, checkpoint, environment, history, inside

from mmeq.data.columns import VectorColumn
from mmeq.data.datamodule import DataModule
from mmeq.data.synthetic import Synthetic
from mmeq.errors import MmeqError

MISTAKES = {
    "sed=1": ["no option sed", "'seed'"],
    "methd=joint": ["no option methd", "'method'"],
    "method=shaply": ["no method=shaply", "'shapley'"],
    "+method.typo=1": ["no option method.typo"],
    "+foo=1": ["no option foo"],
    "method.alpa=1": ["no option method.alpa"],
    "batch_size=abc": ["batch_size='abc'", "whole number"],
    "batch_size=0": ["batch_size=0", "1 or more"],
    "trainer.max_epochs=0": ["trainer.max_epochs=0", "1 or more"],
    "trainer.max_steps=9": ["trainer.max_steps", "trainer.max_epochs"],
    "trainer.gradient_clip_val=1": ["trainer.gradient_clip_val", "optim.clip_norm"],
    "trainer.precision=16-mixed": ["trainer.precision='16-mixed'", "bf16-mixed"],
    "trainer.limit_val_batches=0": ["trainer.limit_val_batches=0", "whole number of batches"],
    "trainer.limit_train_batches=1.5": ["trainer.limit_train_batches=1.5", "share"],
    "trainer.limit_train_batches=0.001": ["limit_train_batches", "0.001"],
    "trainer.max_time=soon": ["trainer.max_time='soon'", "DD:HH:MM:SS"],
    "trainer.max_time=00:00:00:00": ["trainer.max_time", "no model to test"],
    "trainer.accelerator=gpu": ["trainer.accelerator=gpu", "cpu"],
    "value=acuracy": ["value='acuracy'", "'accuracy'"],
    "inference=hybird": ["inference='hybird'", "'hybrid'"],
    "monitor=test/accuracy": ["monitor='test/accuracy'", "val/accuracy"],
    "backbone.dim=0": ["backbone.dim=0", "1 or more"],
    "backbone.encoders.vector.hidden=0": ["backbone.encoders.vector.hidden=0", "1 or more"],
    "backbone.encoders.vector.dropout=1.5": ["backbone.encoders.vector", "1.5"],
    "method.weight=nan": ["method.weight=nan", "a number"],
    "optim.optimizer.lr=fast": ["optim.optimizer.lr='fast'", "a number"],
    "optim.optimizer.lr=-1": ["optim.optimizer", "-1"],
    "optim.optimizer._target_=os.system": ["'os.system' is not allowed"],
    "optim.optimizer._target_=torch.optim.Muon": ["optim.optimizer", "2D"],
    "optim.scheduler.T_max=0": ["optim.scheduler", "zero"],
    "dataset.modalities=[m0,m9]": ["'m9'", "one of: m0, m1, m2"],
    "dataset.modalities=[m0]": ["needs 2 modalities", "m0"],
    "dataset.fractions=[0.998,0.001,0.001]": ["validation part is empty"],
    "dataset.train_size=3": ["train_size=3", "4 classes"],
    "dataset.train_size=9000": ["train_size=9000", "144"],
    "fusion.threshold=2": ["fusion.threshold=2", "below 1"],
    "callbacks.console.every=0": ["callbacks.console.every=0", "1 or more"],
    "missing=2": ["missing=2"],
    "resume=nowhere": ["resume=nowhere", "there is no run"],
}


def test_too_few_epochs_for_a_method_with_stages(warm, tmp_path):
    quick = [*SMALL, *PLAIN, "method=reconboost", "trainer.max_epochs=23"]
    done = warm("mmeq.train", *quick, cwd=tmp_path)
    assert done.status == 2
    assert "trainer.max_epochs=23: reconboost with these options needs 24" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_clear_message(override, warm, tmp_path):
    quick = [o for o in (*SMALL, *PLAIN) if o.partition("=")[0] != override.partition("=")[0]]
    done = warm("mmeq.train", *quick, "fusion=memory", override, cwd=tmp_path)
    assert done.status == 2, done.stderr
    for part in MISTAKES[override]:
        assert part in done.stderr
    assert done.stderr.startswith("mmeq: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    if "max_time=0" not in override and "0.001" not in override:  # found when the run has begun
        assert not list(tmp_path.iterdir())


def test_a_schedule_that_waits_for_a_metric(warm, tmp_path):
    name = "torch.optim.lr_scheduler.ReduceLROnPlateau"
    options = [f"optim.scheduler._target_={name}", "~optim.scheduler.T_max"]
    done = warm("mmeq.train", *options, "~optim.scheduler.eta_min", cwd=tmp_path)
    assert done.status == 2
    assert "optim.scheduler: ReduceLROnPlateau" in done.stderr
    assert "CosineAnnealingLR" in done.stderr


def test_a_monitor_that_nobody_measures(warm, tmp_path):
    options = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/foo"]
    done = warm("mmeq.train", *SMALL, *options, cwd=tmp_path)
    assert done.status == 2
    assert "callbacks.early_stopping.monitor='val/foo'" in done.stderr
    assert "val/accuracy" in done.stderr


@pytest.mark.parametrize(
    "fusion", ["memory", "concat", "sum", "gated", "film", "late", "attention"]
)
@pytest.mark.parametrize("method", ["joint", "unimodal"])
def test_one_modality_alone_works_with_every_fusion(fusion, method, warm, tmp_path):
    options = [*SMALL, "dataset.modalities=[m1]", f"fusion={fusion}", f"method={method}"]
    options += ["method.modality=m1"] if method == "unimodal" else []
    folder = warm.train(tmp_path / "run", *options, "trainer.max_epochs=1")
    assert list(history(folder)[0]["phi"]) == ["m1"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_input_that_is_not_finite_names_sample_and_modality(value):
    class Broken(Synthetic):
        def load(self):
            manifest = super().load()
            manifest.columns["m1"].values[17, 3] = value
            return manifest

    with pytest.raises(MmeqError, match=r"sample 'synthetic-000017'.*modality 'm1'"):
        DataModule(Broken(samples=60)).setup()


def test_an_absent_input_may_be_nan():
    class Gappy(Synthetic):
        def load(self):
            manifest = super().load()
            manifest.columns["m1"].values[17] = np.nan
            manifest.present[17, 1] = False
            object.__setattr__(manifest.spec, "complete", False)
            return manifest

    data = DataModule(Gappy(samples=60))
    data.setup()
    column = data.manifest.columns["m1"]
    assert isinstance(column, VectorColumn)
    assert torch.isfinite(column.values).all()


def test_a_loss_that_explodes_stops_and_keeps_the_last_good_checkpoint(warm, tmp_path):
    folder = tmp_path / "run"
    options = [*SMALL, f"hydra.run.dir={folder}", *PLAIN, "callbacks.console=null"]
    options += [
        "optim.optimizer.lr=1e-3",
        "optim.scheduler._target_=torch.optim.lr_scheduler.StepLR",
    ]
    options += ["~optim.scheduler.T_max", "~optim.scheduler.eta_min"]
    options += ["+optim.scheduler.step_size=1", "+optim.scheduler.gamma=1e33"]
    done = warm("mmeq.train", *options, "trainer.max_epochs=4", cwd=tmp_path)
    assert done.status == 2
    assert "is not finite in epoch 1, batch" in done.stderr
    assert any(f"modality 'm{m}'" in done.stderr for m in range(3))
    assert str(folder / "checkpoints" / "last.ckpt") in done.stderr
    assert "Traceback" not in done.stderr
    assert len(history(folder)) == 1
    assert not (folder / "results.json").exists()
    state = checkpoint(folder)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values() if torch.is_tensor(tensor))


def test_a_folder_is_taken_once_and_resumed_with_a_checkpoint_only(warm, tmp_path):
    folder = warm.train(tmp_path / "run", *SMALL, "trainer.max_epochs=1")
    again = warm("mmeq.train", *SMALL, f"hydra.run.dir={folder}", cwd=tmp_path)
    assert again.status == 2
    assert "belongs to a run already" in again.stderr
    other = warm("mmeq.train", f"resume={folder}", "method.ema=0.5", cwd=tmp_path)
    assert other.status == 2
    assert "method.ema=0.5 cannot be given with resume=" in other.stderr
    shutil.rmtree(folder / "checkpoints")
    without = warm("mmeq.train", f"resume={folder}", cwd=tmp_path)
    assert without.status == 2
    assert "there is no checkpoint" in without.stderr


@pytest.mark.parametrize("how", ["cut", "one bit turned"])
def test_a_damaged_checkpoint_is_said_to_be_one(how, warm, tmp_path):
    folder = warm.train(tmp_path / "run", *SMALL, "trainer.max_epochs=1")
    for name in ("last", "best"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        data = bytearray(path.read_bytes())
        if how == "cut":
            del data[1000:]
        else:
            data[inside(path)] ^= 1
        path.write_bytes(data)
    resumed = warm("mmeq.train", f"resume={folder}", "trainer.max_epochs=2", cwd=tmp_path)
    evaluated = warm("mmeq.eval", f"run={folder}", cwd=tmp_path)
    for done, name in ((resumed, "last"), (evaluated, "best")):
        assert done.status == 2, done.stderr
        assert f"{name}.ckpt" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_damaged_bundled_file_is_named(tmp_path):
    shutil.copytree(ROOT / "mmeq", tmp_path / "mmeq", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    path = tmp_path / "mmeq" / "data" / "bundled" / "mfeat.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "mmeq.train", "trainer.max_epochs=1"],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": os.fspath(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "mfeat.npz" in done.stderr
    assert "Traceback" not in done.stderr
