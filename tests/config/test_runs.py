"""Run folders: one run each, and the rules of resume."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf

from mmeq.config import runs
from mmeq.errors import MmeqError


@pytest.fixture(autouse=True)
def first_rank(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cfg():
    return OmegaConf.create(
        {
            "resume": None,
            "seed": 1,
            "workers": 0,
            "trainer": {"max_epochs": 3},
            "optim": {"scheduler": {"T_max": "${trainer.max_epochs}"}},
            "x": "${seed}",
        }
    )


@pytest.fixture
def trained(tmp_path, cfg):
    """A run that was stopped after two of three epochs."""
    runs.claim(tmp_path, cfg, ["seed=1"], resume=False)
    (tmp_path / "checkpoints").mkdir()
    torch.save({}, tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "history.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n{"epo')
    return tmp_path


def resuming(cfg, folder, **changes):
    cfg = OmegaConf.merge(cfg, {"resume": str(folder)})
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    given = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    return runs.resumed(cfg, [f"resume={folder}", *given])


def test_claim_writes_the_resolved_configuration(tmp_path, cfg):
    runs.claim(tmp_path, cfg, ["seed=1"], resume=False)
    assert runs.read_config(tmp_path, "resume").x == 1
    assert (tmp_path / "overrides.txt").read_text() == "seed=1\n"


def test_a_folder_of_another_run_is_refused(trained):
    with pytest.raises(MmeqError, match=r"belongs to a run already.*resume="):
        runs.check_free(trained)


def test_a_folder_with_files_of_no_run_is_free(tmp_path):
    (tmp_path / "notes.txt").touch()
    runs.check_free(tmp_path)


def test_child_ranks_neither_check_nor_claim(trained, cfg, monkeypatch):
    (trained / "results.json").touch()
    monkeypatch.setenv("LOCAL_RANK", "1")
    runs.check_free(trained)
    resuming(cfg, trained)
    runs.claim(trained, cfg, ["more"], resume=True)
    assert (trained / "results.json").exists()
    assert (trained / "overrides.txt").read_text() == "seed=1\n"


def test_a_run_taken_up_again_is_no_longer_complete(trained, cfg):
    (trained / "results.json").touch()
    runs.claim(trained, cfg, ["workers=1"], resume=True)
    assert not (trained / "results.json").exists()
    assert (trained / "overrides.txt").read_text() == "seed=1\nworkers=1\n"


def test_resume_takes_the_configuration_of_the_folder(trained, cfg):
    fresh = OmegaConf.merge(cfg, {"seed": 0})
    assert resuming(fresh, trained).seed == 1


def test_resume_takes_harmless_changes(trained, cfg):
    with pytest.warns(UserWarning, match="laid out for 3 epochs"):
        again = resuming(cfg, trained, trainer__max_epochs=9, workers=2)
    assert (again.trainer.max_epochs, again.workers) == (9, 2)


def test_resume_refuses_what_would_be_another_run(trained, cfg):
    with pytest.raises(MmeqError, match="seed=5 cannot be given with resume="):
        resuming(cfg, trained, seed=5)


def test_resume_needs_a_run(tmp_path, cfg):
    with pytest.raises(MmeqError, match="there is no run"):
        resuming(cfg, tmp_path / "nowhere")


def test_resume_needs_a_checkpoint(trained, cfg):
    (trained / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(MmeqError, match="there is no checkpoint"):
        resuming(cfg, trained)


def test_a_complete_run_is_not_resumed_without_more_epochs(trained, cfg):
    (trained / "results.json").write_text(json.dumps({}))
    with pytest.raises(MmeqError, match="this run is complete"):
        resuming(cfg, trained)
    with pytest.warns(UserWarning, match="laid out"):
        assert resuming(cfg, trained, trainer__max_epochs=4).trainer.max_epochs == 4


@pytest.mark.parametrize("broken", ["garbage", "{}", "[1]", '{"epoch": null}'])
def test_a_line_of_the_history_that_is_none_is_named(trained, cfg, broken):
    (trained / "history.jsonl").write_text(f'{{"epoch": 0}}\n{broken}\n{{"epoch": 2}}\n')
    with pytest.raises(MmeqError, match=r"history.jsonl, line 2 is none of an epoch"):
        resuming(cfg, trained)


def test_fewer_epochs_than_trained_are_refused(trained, cfg):
    with pytest.raises(MmeqError, match="has trained 2 epochs already"):
        resuming(cfg, trained, trainer__max_epochs=1)


def test_an_empty_folder_is_removed_with_its_empty_parent(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "keep").touch()
    runs.remove_if_empty(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_paths_are_kept_absolute_and_names_as_they_are(tmp_path, monkeypatch, cfg):
    (tmp_path / "models" / "bert").mkdir(parents=True)
    (tmp_path / "dvector").mkdir()
    monkeypatch.chdir(tmp_path)
    given = {"text": "models/bert", "image": "openai/clip-vit-base-patch32"}
    given |= {"audio": "dvector", "video": "${..text.model}"}
    cfg.backbone = {"encoders": {kind: {"model": model} for kind, model in given.items()}}
    found = runs.anchored(cfg).backbone.encoders
    assert found.text.model == found.video.model == str(tmp_path / "models" / "bert")
    assert found.image.model == "openai/clip-vit-base-patch32"
    assert found.audio.model == "dvector"
    assert cfg.backbone.encoders.text.model == "models/bert"
