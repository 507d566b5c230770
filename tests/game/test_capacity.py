"""EDM against capacity: closed forms, pairing by id, a bootstrap written out, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from mmeq.errors import MmeqError
from mmeq.game import all_coalitions, edm_capacity, measure_capacity, measure_predictions
from mmeq.game.bootstrap import resample_counts
from mmeq.game.capacity import paired_difference
from tests.game.helpers import CLASSES, FREQUENCIES, NAMES, synthetic

N = 90


def fused():
    logits, label = synthetic(N)
    return {
        "logits": logits.transpose(0, 1).numpy(),
        "coalitions": all_coalitions(3)[1:].numpy(),
        "labels": label.numpy(),
        "ids": np.array([f"s{n}" for n in range(N)]),
        "modalities": np.array(NAMES),
    }


def single(name, seed=5):
    """Another model's answer from one modality, rows shuffled."""
    logits, _ = synthetic(N, seed=1)
    noise = torch.randn(N, 1, CLASSES, generator=torch.Generator().manual_seed(seed))
    turn = np.random.default_rng(seed).permutation(N)
    row = 2 ** NAMES.index(name) - 1
    return {
        "logits": (logits.transpose(0, 1)[:, row : row + 1] + noise).numpy()[turn],
        "coalitions": np.array([[True]]),
        "labels": fused()["labels"][turn],
        "ids": fused()["ids"][turn],
        "modalities": np.array([name]),
    }


def alone():
    return {name: single(name, seed) for seed, name in enumerate(NAMES)}


def hits(arrays, coalition):
    row = np.flatnonzero((arrays["coalitions"] == coalition).all(1))[0]
    order = np.argsort([int(one[1:]) for one in arrays["ids"]])
    right = arrays["logits"][:, row].argmax(-1) == arrays["labels"]
    return right[order]


def test_the_figures_are_those_of_the_formula():
    report = measure_capacity(fused(), alone(), FREQUENCIES, draws=40, seed=3)
    empty = (fused()["labels"] == 0).mean()
    capacity = [hits(each, [True]).mean() - empty for each in alone().values()]
    assert report.capacity.tolist() == pytest.approx(capacity)
    phi = measure_predictions(
        {**fused(), "class_frequencies": FREQUENCIES.numpy()}, draws=2
    ).phi  # fmt: skip
    assert report.edm == pytest.approx(edm_capacity(phi, capacity).item())
    assert report.target.tolist() == pytest.approx(np.array(capacity) / sum(capacity))
    assert report.samples == N
    assert report.edm_low <= report.edm <= report.edm_high or report.edm < report.edm_low


def test_samples_are_drawn_in_pairs():
    """The interval equals that of a bootstrap written out, which draws all models alike."""
    report = measure_capacity(fused(), alone(), FREQUENCIES, draws=40, seed=3)
    counts = next(resample_counts(N, 40, 3)).numpy()
    empty = fused()["labels"] == 0
    drawn = [
        np.sort(counts @ (hits(each, [True]).astype(float) - empty) / N)
        for each in alone().values()
    ]
    low = [np.quantile(one, 0.025) for one in drawn]
    high = [np.quantile(one, 0.975) for one in drawn]
    assert report.capacity_low.tolist() == pytest.approx(low)
    assert report.capacity_high.tolist() == pytest.approx(high)


def test_a_model_that_gives_its_capacity_is_in_balance():
    """Additive in nll: two modalities of which one is noise share as they can."""
    base = fused()
    rows = np.flatnonzero(base["coalitions"][:, 0])
    base["logits"] = np.zeros_like(base["logits"]) + FREQUENCIES.log().numpy()
    base["logits"][:, rows] = np.eye(CLASSES, dtype=np.float32)[base["labels"]][:, None] * 9
    clever = {**single(NAMES[0]), "ids": base["ids"], "labels": base["labels"]}
    clever["logits"] = base["logits"][:, rows[:1]]
    dull = {**clever, "logits": np.zeros_like(clever["logits"]) + FREQUENCIES.log().numpy()}
    models = {NAMES[0]: clever}
    models |= {name: {**dull, "modalities": np.array([name])} for name in NAMES[1:]}
    report = measure_capacity(base, models, FREQUENCIES, draws=20)
    assert report.edm == pytest.approx(0, abs=1e-9)
    assert report.target.tolist() == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("value", ["nll", "macro_f1", MulticlassAccuracy(CLASSES, average="micro")])
def test_any_value_of_the_game(value):
    report = measure_capacity(fused(), alone(), FREQUENCIES, value=value, draws=8, seed=3)
    assert torch.isfinite(report.capacity).all()
    assert (report.capacity_low <= report.capacity_high).all()
    if not isinstance(value, str):
        plain = measure_capacity(fused(), alone(), FREQUENCIES, draws=8, seed=3)
        assert report.capacity.tolist() == pytest.approx(plain.capacity.tolist(), abs=1e-6)
        assert report.edm_high == pytest.approx(plain.edm_high, abs=1e-3)


def test_models_without_capacity_have_no_target():
    dull = {
        name: {**single(name), "logits": np.float32([9, 0, 0, 0]) * np.ones((N, 1, 1))}
        for name in NAMES
    }
    with pytest.warns(RuntimeWarning, match="no modality has capacity"):
        report = measure_capacity(fused(), dull, FREQUENCIES, draws=8)
    assert np.isnan(report.edm)
    assert report.target.isnan().all()


def test_what_is_not_comparable_is_refused():
    models = alone()
    with pytest.raises(MmeqError, match=f"on {NAMES[1]} alone: its capacity is unknown"):
        measure_capacity(fused(), {n: m for n, m in models.items() if n != NAMES[1]}, FREQUENCIES)
    short = {key: array[:50] if key in ("logits", "ids", "labels") else array
             for key, array in models[NAMES[0]].items()}  # fmt: skip
    with pytest.raises(MmeqError, match="has no prediction of 40 samples"):
        measure_capacity(fused(), {**models, NAMES[0]: short}, FREQUENCIES)
    other = {**models[NAMES[0]], "labels": (models[NAMES[0]]["labels"] + 1) % CLASSES}
    with pytest.raises(MmeqError, match="was given other labels"):
        measure_capacity(fused(), {**models, NAMES[0]: other}, FREQUENCIES)
    with pytest.raises(MmeqError, match="does not predict from"):
        measure_capacity(fused(), {**models, NAMES[0]: models[NAMES[1]]}, FREQUENCIES)


def test_a_paired_difference_is_surer_than_two_figures():
    hit = np.random.default_rng(0).random(200) < 0.7
    assert paired_difference(hit, hit, draws=50) == (0.0, 0.0, 0.0)
    worse = hit.copy()
    worse[:30] = False
    value, low, high = paired_difference(worse, hit, draws=200)
    assert low < value < high < 0
