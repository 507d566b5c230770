"""Comparison with official releases, parts that protocols lack, and the loaders' YAML files."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmeq.data.options import one_of
from mmeq.data.releases.known import Carving, compare, examples
from mmeq.errors import MmeqError

CONF = Path(__file__).parents[3] / "conf" / "dataset"
LOADERS = ("cremad", "iemocap", "mvsa", "kinetics400", "kinetics_sounds")


def build(node):
    """What hydra makes of a node."""
    if isinstance(node, dict):
        options = {key: build(value) for key, value in node.items() if key != "_target_"}
        module, _, kind = node["_target_"].rpartition(".")
        return getattr(importlib.import_module(module), kind)(**options)
    return node


def test_examples():
    assert examples(["a"]) == "a"
    assert examples(map(str, range(3))) == "0, 1, 2"
    assert examples(map(str, range(9)), most=2) == "0, 1 …"


def test_counts_that_differ_are_told_and_equal_ones_are_not():
    known = {"a": 2, "b": 0, "c": 5}
    assert compare("toy", "clips", {"a": 2, "c": 5}, known) == []
    assert compare("toy", "clips", {"a": 2, "c": 5}, known, {"files": ["x"]}) == []
    (note,) = compare("toy", "clips", {"a": 1}, known, {"files": list("wxyz"), "actors": []})
    assert note == (
        "dataset 'toy': clips differ from the official release: 1 a (official: 2), "
        "0 c (official: 5); missing files: w, x, y …"
    )


def test_one_of():
    one_of("fold", 3, (1, 2, 3))
    with pytest.raises(MmeqError, match=r"fold=4: there is none such \(one of: 1, 2, 3\)"):
        one_of("fold", 4, (1, 2, 3))


def test_carving_leaves_test_alone_and_keeps_its_validation_part():
    labels = np.arange(200) % 4
    groups = [f"g{n // 10}" for n in range(200)]
    split = np.array(["train"] * 160 + ["test"] * 40, dtype="<U10")
    parts = {}
    for size in (None, 40):
        for grouped in (False, True):
            mine = split.copy()
            carving = Carving(0.25, grouped, 3, size)
            carving.apply(mine, labels, ("a", "b", "c", "d"), groups)
            assert (mine[160:] == "test").all()
            assert (mine == "validation").sum() == 40
            assert (mine == "train").sum() == (120 if size is None else size)
            parts[size, grouped] = mine
            torn = {
                g for g, p in zip(groups, mine, strict=True) if p == "validation"
            } & {g for g, p in zip(groups, mine, strict=True) if p == "train"}  # fmt: skip
            assert bool(torn) != grouped
    same = parts[None, True] == "validation"
    assert (same == (parts[40, True] == "validation")).all()
    assert Carving(0.25, True, 3, 40).describe("p") == (
        "p; validation 25 % carved from train (whole groups) split_seed=3 train_size=40"
    )


@pytest.mark.parametrize(
    ("parts", "share", "says"),
    [
        (["test"] * 8, 0.5, "the train part is empty"),
        (["train"] * 8, 0.5, "the test part is empty"),
        (
            ["train"] * 6 + ["test"] * 2,
            0.01,
            "validation=0.01 of 6 .*none for validation.*larger",
        ),
        (["train"] * 6 + ["test"] * 2, 0.99, "validation=0.99 of 6 .*none for train: .*smaller"),
    ],
)
def test_carving_says_which_part_is_empty_and_why(parts, share, says):
    split, labels = np.array(parts, dtype="<U10"), np.arange(8) % 2
    with pytest.raises(MmeqError, match=says):
        Carving(share, False, 0, None).apply(split, labels, ("a", "b"), None)


@pytest.mark.parametrize("name", LOADERS)
def test_yaml_files_name_all_options_with_their_defaults(name):
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    for line in text.splitlines()[2:]:
        assert "_target_" in line or "  # " in line, f"{line}: an option without comment"
    node = yaml.safe_load(text)
    made = build(node)
    assert made.name == name
    parameters = inspect.signature(type(made)).parameters
    assert {*node, "data_root", "prepared"} - {"_target_"} == set(parameters)
    for option, value in node.items():
        if isinstance(value, dict):
            kind = type(made.formats[option])
            assert set(value) - {"_target_"} == set(inspect.signature(kind).parameters)
    plain = type(made)(protocol=node["protocol"])
    assert plain.modalities == made.modalities
    for modality, format in made.formats.items():
        assert vars(format) == vars(plain.formats[modality])
    for option, parameter in parameters.items():
        if option in node and option not in ("modalities", "protocol", *made.formats):
            default = parameter.default
            assert node[option] == (list(default) if isinstance(default, tuple) else default)
    with pytest.raises(MmeqError, match="data_root is missing: give data_root=<folder of"):
        made.load()
