from __future__ import annotations

import json
import math

import pytest
import torch

from mmeq.errors import MmeqError
from mmeq.game import (
    METRICS,
    banzhaf_values,
    edm,
    empty_values,
    macro_f1,
    measure_game,
    sample_scores,
    shapley_values,
)
from tests.game.helpers import CLASSES, FREQUENCIES, NAMES, synthetic, tensors


def measure(value="accuracy", samples=90, names=NAMES, draws=200, **options):
    logits, label = synthetic(samples, len(names))
    return measure_game(
        names,
        *sample_scores(logits, label),
        label,
        FREQUENCIES,
        value=value,
        draws=draws,
        **options,
    )


@pytest.mark.parametrize("value", METRICS)
def test_numbers_fit_together(value):
    report = measure(value)
    logits, label = synthetic()
    sign = -1 if value == "nll" else 1
    assert torch.equal(report.game, sign * report.values[value])
    assert torch.equal(report.phi, shapley_values(report.game))
    assert torch.equal(report.banzhaf, banzhaf_values(report.game))
    assert report.phi.sum().item() == pytest.approx(report.full - report.game[0].item())
    assert report.edm == edm(report.phi).item()
    assert report.edm_normalised == pytest.approx(report.edm / (200 * 2 / 3))
    assert torch.equal(report.alone, report.game[[1, 2, 4]])
    assert report.full == report.game[7].item()
    assert report.proper_mean == pytest.approx(report.values["accuracy"][1:7].mean().item())
    assert report.samples == 90
    for metric, number in empty_values(FREQUENCIES, label).items():
        assert report.values[metric][0].item() == pytest.approx(number, abs=1e-12)
        assert report.full_low[metric] <= report.values[metric][-1] <= report.full_high[metric]
    assert report.values["macro_f1"][-1] == macro_f1(logits[-1].argmax(-1)[:, None], label, CLASSES)
    assert (report.value_low <= report.game).all()
    assert (report.game <= report.value_high).all()
    assert (report.phi_low <= report.phi).all()
    assert (report.phi <= report.phi_high).all()
    assert (report.phi_se > 0).all()
    assert torch.equal(report.gap_se, report.gap_se.T)
    assert (report.gap_se.diagonal() == 0).all()
    assert report.phi[0] < report.phi[2]  # the modality with more signal contributes more


def test_game_interval_is_that_of_the_full_coalition():
    for value in METRICS:
        report = measure(value)
        ends = sorted([abs(report.value_low[-1].item()), abs(report.value_high[-1].item())])
        assert ends == pytest.approx([report.full_low[value], report.full_high[value]], abs=1e-12)


@pytest.mark.parametrize("value", ["accuracy", "nll"])
def test_gap_errors_are_those_of_the_scores(value):
    """Of differences of means over samples, so the spread of the samples' own values tells them."""
    report, (logits, label) = measure(value, draws=4000), synthetic(90, 3)
    constant = FREQUENCIES.log().expand(1, len(label), -1)  # in place of the empty coalition
    chance_VNC = torch.cat([constant, logits]).log_softmax(-1)
    if value == "accuracy":
        own_NV = (chance_VNC.argmax(-1) == label).T
    else:
        own_NV = chance_VNC[:, torch.arange(90), label].T
    for found, score_NM in (
        (report.alone_gap_se, own_NV.double()[:, [1, 2, 4]]),
        (report.banzhaf_gap_se, banzhaf_values(own_NV.double())),
        (report.gap_se, shapley_values(own_NV.double())),
    ):
        gap_NMM = score_NM[:, :, None] - score_NM[:, None, :]
        wanted_MM = gap_NMM.std(0, correction=0) / len(label) ** 0.5
        torch.testing.assert_close(found, wanted_MM, rtol=0.05, atol=1e-9)


def test_intervals_of_other_metrics_do_not_depend_on_the_game():
    one, other = measure("accuracy"), measure("nll")
    assert one.full_low == other.full_low
    assert one.full_high == other.full_high


def test_gap_se_is_that_of_the_difference():
    """M=2: phi_1 - phi_2 = v_1 - v_2, so its error is that of a paired difference of means."""
    logits, label = synthetic(2000, 2)
    prediction, nll = sample_scores(logits, label)
    report = measure_game(("a", "b"), prediction, nll, label, FREQUENCIES, draws=4000)
    right = (prediction == label[:, None]).double()
    analytic = (right[:, 0] - right[:, 1]).std(correction=0) / math.sqrt(2000)
    assert report.gap_se[0, 1].item() == pytest.approx(analytic.item(), rel=0.05)


def test_phi_interval_covers_the_truth():
    truth = measure(samples=100_000, draws=2).phi
    covered = torch.zeros(3)
    repeats = 100
    for repeat in range(repeats):
        logits, label = synthetic(200, 3, seed=100 + repeat)
        report = measure_game(
            NAMES, *sample_scores(logits, label), label, FREQUENCIES, draws=200, seed=repeat
        )
        covered += (report.phi_low <= truth) & (truth <= report.phi_high)
    assert (covered / repeats > 0.88).all(), covered / repeats


def test_deterministic():
    first, second, third = measure(), measure(), measure(seed=1)
    for name, entry in tensors(first).items():
        assert torch.equal(entry, tensors(second)[name]), name
    assert not torch.equal(first.phi_low, third.phi_low) or first.edm_low != third.edm_low


def test_order_of_samples_does_not_change_values():
    logits, label = synthetic()
    prediction, nll = sample_scores(logits, label)
    there = measure_game(NAMES, prediction, nll, label, FREQUENCIES, value="nll", draws=2)
    turned = measure_game(
        NAMES, prediction.flip(0), nll.flip(0), label.flip(0), FREQUENCIES, value="nll", draws=2
    )
    for metric in METRICS:
        assert torch.equal(there.values[metric], turned.values[metric])


def test_one_modality():
    report = measure(names=("only",))
    assert report.phi.item() == pytest.approx(report.full - report.game[0].item())
    assert report.edm == 0
    assert math.isnan(report.proper_mean)
    assert report.as_dict()["proper_mean"] is None


def test_no_contribution_is_nan():
    label = torch.zeros(10, dtype=torch.int64)
    wrong = torch.ones(10, 3, dtype=torch.int64)
    with pytest.warns(RuntimeWarning, match="no modality contributes"):
        report = measure_game(
            ("a", "b"), wrong, torch.ones(10, 3), label, torch.tensor([0.6, 0.4]), draws=10
        )
    assert math.isnan(report.edm)
    assert math.isnan(report.edm_low)
    assert report.as_dict()["edm"] == dict.fromkeys(("value", "low", "high", "normalised"))


def test_as_dict_is_json():
    report = measure("nll")
    plain = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert plain["phi"]["c"]["value"] == report.phi[2].item()
    assert plain["values"]["a+c"]["macro_f1"] == report.values["macro_f1"][5].item()
    assert plain["values"]["none"]["nll"] == report.values["nll"][0].item()
    assert plain["game"]["b"]["value"] == report.alone[1].item() == plain["alone"]["b"]
    assert plain["full"]["nll"]["low"] == report.full_low["nll"]
    assert plain["gap_se"]["a"]["b"] == report.gap_se[0, 1].item()
    assert plain["edm"]["high"] == report.edm_high
    assert plain["modalities"] == list(NAMES)


def test_refuses():
    logits, label = synthetic()
    prediction, nll = sample_scores(logits, label)

    def attempt(match, **change):
        given = {
            "modalities": NAMES,
            "prediction_NS": prediction,
            "nll_NS": nll,
            "label_N": label,
            "class_frequencies": FREQUENCIES,
            **change,
        }
        with pytest.raises(MmeqError, match=match):
            measure_game(**given)

    bad = nll.clone()
    bad[3, 4] = math.nan
    attempt("loss under coalition a\\+c", nll_NS=bad)
    attempt("expected predictions", modalities=("a", "b"))
    attempt("between 1 and 12", modalities=[f"m{i}" for i in range(13)])
    attempt("did you mean 'macro_f1'", value="macro_f")
    attempt("draws", draws=1)
    attempt("level", level=95)
    attempt("label 4 is outside", label_N=label + 1)
    attempt("a prediction is outside", class_frequencies=FREQUENCIES, prediction_NS=prediction + 3)
    attempt("at least one", prediction_NS=prediction[:0], nll_NS=nll[:0], label_N=label[:0])
    attempt("not in training", class_frequencies=torch.tensor([1.0, 1.0, 1.0, 0.0]))
