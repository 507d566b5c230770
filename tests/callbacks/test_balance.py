"""The suppression probe: the interval of a probe, and the paired difference of two."""

from __future__ import annotations

import numpy as np
import pytest

from mmeq.callbacks.balance import balance_lines, suppression_entry
from mmeq.callbacks.probe import probe, probe_hits
from mmeq.errors import MmeqError

SIZES = {"train": 120, "validation": 60, "test": 100}


def features(noise, seed=0, gone=(), absent=()):
    """Two modalities: the classes' centres in noise."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(3, 5))
    parts = {}
    for split, size in SIZES.items():
        label = np.arange(size) % 3
        parts[split] = {
            name: centres[label] + noise * random.normal(size=(size, 5)) for name in ("a", "b")
        }
        parts[split] |= {"label": label, "id": np.array([f"{split}-{n}" for n in range(size)])}
    for row in gone:
        parts["test"]["a"][row] = np.nan
    for split, label in absent:  # None: of all classes
        part = parts[split]
        part["a"][slice(None) if label is None else part["label"] == label] = np.nan
    return parts


def test_a_probe_tells_its_interval():
    parts = {split: (part["a"], part["label"]) for split, part in features(2.0, gone=[3]).items()}
    told = probe(parts, draws=400)
    hit, there = probe_hits(parts)
    assert told["samples"] == 99 == there.sum()
    assert not hit[3]
    assert told["accuracy"] == pytest.approx(hit[there].mean())
    spread = 1.96 * np.sqrt(told["accuracy"] * (1 - told["accuracy"]) / 99)
    assert told["high"] - told["low"] == pytest.approx(2 * spread, rel=0.25)
    assert told["low"] < told["accuracy"] < told["high"]


def test_a_suppressed_encoder_is_seen_and_an_equal_one_is_not():
    worse, good = features(4.0, seed=1), features(0.8)
    found = suppression_entry("a", worse, good, draws=200)
    assert found["difference"]["high"] < 0
    assert found["difference"]["value"] == pytest.approx(
        found["fused"]["accuracy"] - found["alone"]["accuracy"]
    )
    same = suppression_entry("a", good, good, draws=200)["difference"]
    assert same == {"value": 0, "low": 0, "high": 0}


def test_other_samples_are_refused():
    one, other = features(1.0), features(1.0)
    other["test"]["id"] = other["test"]["id"][::-1]
    with pytest.raises(MmeqError, match=r"the run of a has other samples .* test part"):
        suppression_entry("a", one, other, draws=5)
    with pytest.raises(MmeqError, match="a is missing in other samples"):
        suppression_entry("a", one, features(1.0, gone=[1]), draws=5)


@pytest.mark.parametrize(
    ("absent", "why"),
    [
        ([("train", None)], "no sample of the train part has it"),
        ([("validation", None)], "no sample of the validation part has it"),
        ([("test", None)], "no sample of the test part has it"),
        ([("train", 0), ("train", 1)], "samples of one class alone have it in the train part"),
    ],
)
def test_a_modality_that_cannot_be_probed_says_why(absent, why):
    each = features(1.0, absent=absent)
    parts = {split: (part["a"], part["label"]) for split, part in each.items()}
    assert probe(parts, draws=5) == {"skipped": why}
    assert suppression_entry("a", each, each, draws=5) == {"skipped": why}
    assert "skipped" not in suppression_entry("b", each, each, draws=5)


def test_what_a_person_reads():
    number = {"value": 0.5, "low": 0.4, "high": 0.6}
    entry = {
        "edm": {**number, "normalised": 0.3},
        "phi": {"a": number, "b": {**number, "value": 0.25}},
    }
    capacity = {
        "game": "accuracy",
        "edm": {"value": None, "low": None, "high": None},
        "capacity": {"a": number, "b": number},
        "target": {"a": 0.5, "b": None},
    }
    probes = {
        name: {
            "fused": {"accuracy": 0.5, "low": 0.4, "high": 0.6},
            "alone": {"accuracy": 0.7, "low": 0.6, "high": 0.8},
            "difference": {"value": -0.2, "low": -0.3, "high": high},
        }
        for name, high in (("a", -0.1), ("b", 0.1))
    }
    probes["c"] = {"skipped": "no sample of the test part has it"}
    from rich.console import Console

    page = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    for line in balance_lines(entry, capacity, probes):
        page.print(line)
    text = page.export_text()
    assert "EDM against capacity  n/a (n/a … n/a)" in text
    assert text.count("suppressed") == 1
    assert "no sample of the test part has it" in text
    assert "66.7 %" in text
    assert "-20.0 (-30.0 … -10.0)" in text
