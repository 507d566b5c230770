"""What a logger calls a run."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from mmeq.config import conf_dir, validate
from mmeq.config.build import build_logger
from mmeq.config.labels import cut, labels, sweep
from mmeq.config.validate import plain_tree
from tests.callbacks.tiny import Tiny


def tree_of(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides))
    validate(cfg)
    return plain_tree(cfg)


def test_a_run_is_named_by_what_it_is_and_what_was_overridden(tmp_path):
    (tmp_path / "overrides.txt").write_text(
        "method=joint\nseed=3\n+dataset.train_size=64\noptim.optimizer.lr=0.003\n"
        "trainer.max_epochs=9\nlogger.mode=offline\nresume=x\n"
        "callbacks.scheduler.subset=0.2\ncallbacks.console=null\n",
        encoding="utf-8",
    )
    told = labels(tree_of("seed=3"), Tiny(), tmp_path)
    name = "tiny · ascending · identity · seed 3 · split 0 · train_size=64 · lr=0.003 · subset=0.2"
    assert told["name"] == name
    assert told["group"] is None
    assert told["tags"] == [
        "dataset=tiny",
        "backbone=small",
        "fusion=identity",
        "method=ascending",
        "protocol=random split",
    ]
    assert labels(tree_of(), Tiny(), tmp_path / "new")["name"].endswith("identity · seed 0")


def test_the_jobs_of_a_sweep_are_its_group(tmp_path):
    job = tmp_path / "comparison" / "method-joint" / "seed-0"
    job.mkdir(parents=True)
    assert sweep(job) is None
    (tmp_path / "comparison" / "multirun.yaml").touch()
    assert sweep(job) == "comparison"
    assert sweep(tmp_path) is None


def test_labels_are_given_where_the_options_are_null(tmp_path):
    (tmp_path / "multirun.yaml").touch()
    folder = tmp_path / "0"
    told = build_logger(tree_of("logger=wandb"), folder, Tiny())._wandb_init
    assert told["name"].startswith("tiny · ascending")
    assert (told["group"], told["job_type"], len(told["tags"])) == (tmp_path.name, "train", 5)
    assert told["dir"] == str(folder)
    own = ["name=mine", "logger.group=g", "logger.tags=[a,b]", "logger.job_type=tune"]
    told = build_logger(tree_of("logger=wandb", *own), folder, Tiny())._wandb_init
    assert [told[key] for key in ("name", "group", "tags", "job_type")] == [
        "mine", "g", ["a", "b"], "tune",
    ]  # fmt: skip


@pytest.mark.parametrize("choice", ["csv", "tensorboard"])
def test_other_loggers_write_into_a_folder_of_their_own(choice, tmp_path):
    if choice == "tensorboard":
        pytest.importorskip("tensorboard")
    logger = build_logger(tree_of(f"logger={choice}"), tmp_path, Tiny())
    assert logger.root_dir == str(tmp_path / choice)
    assert build_logger(tree_of(), tmp_path, Tiny()) is False


def test_a_tag_is_as_long_as_wandb_takes_it():
    import wandb

    tag = cut("protocol=" + "x" * 100, 64)
    assert wandb.Settings(run_tags=[tag]).run_tags == (tag,)
    assert len(tag) == 64
