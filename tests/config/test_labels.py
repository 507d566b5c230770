"""What loggers call a run; which loggers there are."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mmeq.config import conf_dir, validate
from mmeq.config.build import build_loggers
from mmeq.config.labels import cut, labels, sweep
from mmeq.config.validate import plain_tree
from mmeq.errors import MmeqError
from tests.callbacks.tiny import Tiny


def tree_of(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides))
    validate(cfg)
    return plain_tree(cfg)


def test_a_run_is_named_by_what_it_is_and_what_was_overridden(tmp_path):
    (tmp_path / "overrides.txt").write_text(
        "method=joint\nseed=3\n+dataset.train_size=64\noptim.optimizer.lr=0.003\n"
        "trainer.max_epochs=9\nlogger.wandb.mode=offline\nresume=x\n"
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
    (logger,) = build_loggers(tree_of("logger=wandb"), folder, Tiny())
    told = logger._wandb_init
    assert told["name"].startswith("tiny · ascending")
    assert (told["group"], told["job_type"], len(told["tags"])) == (tmp_path.name, "train", 5)
    assert told["dir"] == str(folder)
    own = ["group=g", "tags=[a,b]", "job_type=tune"]
    given = tree_of("logger=wandb", "name=mine", *(f"logger.wandb.{option}" for option in own))
    (logger,) = build_loggers(given, folder, Tiny())
    told = logger._wandb_init
    assert [told[key] for key in ("name", "group", "tags", "job_type")] == [
        "mine", "g", ["a", "b"], "tune",
    ]  # fmt: skip


@pytest.mark.parametrize("choice", ["csv", "tensorboard"])
def test_other_loggers_write_into_a_folder_of_their_own(choice, tmp_path):
    if choice == "tensorboard":
        pytest.importorskip("tensorboard")
    (logger,) = build_loggers(tree_of(f"logger={choice}"), tmp_path, Tiny())
    assert logger.root_dir == str(tmp_path / choice)


def test_there_may_be_several_loggers_or_none(tmp_path):
    both = tree_of("logger=[wandb,csv]", "logger.wandb.project=p", "logger.csv.name=table")
    wandb, csv = build_loggers(both, tmp_path, Tiny())
    assert wandb._wandb_init["project"] == "p"
    assert wandb._wandb_init["name"].startswith("tiny · ascending")
    assert csv.root_dir == str(tmp_path / "table")
    (alone,) = build_loggers(tree_of("logger=[wandb,csv]", "logger.wandb=null"), tmp_path, Tiny())
    assert alone.name == "csv"
    for none in ([], ["logger=none"]):
        assert build_loggers(tree_of(*none), tmp_path, Tiny()) == []


@pytest.mark.parametrize("choice", ["csv", "wandb", "none"])
def test_a_logger_of_an_older_run_folder_is_taken_by_its_name(choice, tmp_path):
    """Before loggers had names, `logger` was the node of the only one."""
    tree = tree_of(f"logger={choice}")
    older = OmegaConf.create({**tree, "logger": tree["logger"].get(choice, {})})
    assert choice == "none" or "_target_" in older.logger
    validate(older)
    assert plain_tree(older) == tree
    if choice != "none":
        older.logger.nmae = "x"
        with pytest.raises(
            MmeqError, match=rf"no option logger.{choice}.nmae; did you mean 'name'"
        ):
            validate(older)


def test_a_tag_is_as_long_as_wandb_takes_it():
    import wandb

    tag = cut("protocol=" + "x" * 100, 64)
    assert wandb.Settings(run_tags=[tag]).run_tags == (tag,)
    assert len(tag) == 64
