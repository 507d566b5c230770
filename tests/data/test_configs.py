"""Every conf/dataset file builds its dataset, and names every option of it."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[2] / "conf" / "dataset"


@pytest.mark.parametrize("name", ["mfeat", "brca", "emoji", "synthetic"])
def test_config_builds(name):
    options = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    module, _, kind = options.pop("_target_").rpartition(".")
    make = getattr(importlib.import_module(module), kind)
    assert set(options) == set(inspect.signature(make).parameters)
    manifest = make(**options).load()
    assert manifest.spec.name == name
    assert len(manifest.spec.modalities) >= 2
