"""Every YAML file composes and is valid; every option of it is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from mmeq.config import conf_dir, groups, validate

NEEDED = {
    "method=unimodal": ["method.modality=${dataset.modalities.0}"],
    "dataset=manifest": [f"dataset.path={Path(__file__).parent / 'table.csv'}", "method=joint"],
}
CHOICES = [f"{group}={choice}" for group, choices in groups().items() for choice in choices]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_is_valid(choice):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        validate(compose("train", overrides=[choice, *NEEDED.get(choice, [])]))


def test_callbacks_can_be_combined():
    """`callbacks=[a,b]` has the nodes of both, in any order, and options of them can be set."""
    others = [name for name in groups()["callbacks"] if name != "default"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        default = compose("train").callbacks
        found = [
            compose(
                "train", overrides=[f"callbacks=[{','.join(names)}]", "callbacks.missing.full=true"]
            )
            for names in (others, others[::-1], ["default", *others])
        ]
        alone = {name: compose("train", overrides=[f"callbacks={name}"]) for name in others}
    for cfg in found:
        validate(cfg)
        assert cfg.callbacks.missing.full is True
        assert set(cfg.callbacks) == set().union(*(one.callbacks for one in alone.values()))
    # a choice that changed a default node would be undone by the next choice's own defaults
    for name, cfg in alone.items():
        kept = {key: node for key, node in cfg.callbacks.items() if key in default}
        assert kept == dict(default.items()), name


def test_loggers_can_be_combined():
    """`logger=[a,b]` has both, each with its own options."""
    names = [name for name in groups()["logger"] if name != "none"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for chosen in (names, ["none", *names[::-1]]):
            cfg = compose(
                "train", overrides=[f"logger=[{','.join(chosen)}]", "logger.wandb.group=g"]
            )
            validate(cfg)
            assert set(cfg.logger) == set(names)
            assert cfg.logger.wandb.group == "g"


def test_the_groups_are_there():
    built = "dataset backbone fusion method optim trainer callbacks logger"
    assert {*built.split(), "experiment", "debug", "search"} == set(groups())


@pytest.mark.parametrize(
    "path", sorted(conf_dir().rglob("*.yaml")), ids=lambda p: p.relative_to(conf_dir()).as_posix()
)
def test_every_file_says_what_it_is(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    if "help" in path.parts:
        return
    assert any(line.startswith("# ") and "@package" not in line for line in lines[:2])
    yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("group", ["fusion", "method"])
def test_every_option_with_choices_is_explained(group):
    for choice in groups()[group]:
        for line in (conf_dir() / group / f"{choice}.yaml").read_text("utf-8").splitlines():
            if re.match(r"(?!defaults:)[a-z]\w*:", line):
                assert "#" in line, f"{group}/{choice}.yaml: {line}"


def test_every_option_of_a_target_stands_in_its_yaml():
    """A person sees every option of fusions and methods by --cfg job."""
    from mmeq.config.schema import SUPPLIED
    from mmeq.config.signatures import resolve, signature

    for group in ("fusion", "method", "dataset"):
        for choice in groups()[group]:
            node = yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text("utf-8"))
            options = set(signature(resolve(node["_target_"])).arguments) - SUPPLIED[group]
            assert options == set(node) - {"_target_", "defaults"}, f"{group}={choice}"
