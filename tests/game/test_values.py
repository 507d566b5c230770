from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss

from mmeq.errors import MmeqError
from mmeq.game import accuracy, empty_values, macro_f1, mean_nll, sample_scores
from mmeq.game.values import check_frequencies, check_labels, check_metric, utility


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 6))
def test_against_sklearn(seed, samples, classes):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (samples,), generator=generator)
    logits = torch.randn(3, samples, classes, generator=generator)
    prediction, nll = sample_scores(logits, label)
    assert prediction.shape == nll.shape == (samples, 3)
    for s in range(3):
        p = logits[s].double().softmax(-1)
        assert accuracy(prediction, label)[s].item() == pytest.approx(
            accuracy_score(label, p.argmax(-1))
        )
        assert mean_nll(nll)[s].item() == pytest.approx(
            log_loss(label, p, labels=range(classes)), rel=1e-5
        )
        assert macro_f1(prediction, label, classes)[s].item() == pytest.approx(
            f1_score(label, p.argmax(-1), average="macro"), abs=1e-12
        )


def test_macro_f1_convention():
    """Classes in neither labels nor predictions do not count; a class only predicted does."""
    label = torch.tensor([0, 0, 1])
    assert macro_f1(label[:, None], label, 5).item() == 1
    missed = torch.tensor([[0], [2], [1]])
    assert macro_f1(missed, label, 5).item() == pytest.approx((2 / 3 + 1 + 0) / 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
def test_empty_coalition_closed_forms(counts):
    """Where labels are distributed as in training: max p, entropy, 2p/((1+p)C)."""
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    share = torch.tensor(counts).double() / sum(counts)
    top = share.max().item()
    values = empty_values(torch.tensor(counts), label)
    assert values == empty_values(share * 1.0, label)
    assert values["accuracy"] == pytest.approx(top)
    assert values["nll"] == pytest.approx(-(share * share.log()).sum().item(), abs=1e-6)
    assert values["macro_f1"] == pytest.approx(2 * top / (1 + top) / len(counts))
    for constant in range(len(counts)):  # no other constant does better
        other = torch.full((len(label), 1), constant)
        assert accuracy(other, label).item() <= values["accuracy"]
        assert macro_f1(other, label, len(counts)).item() <= values["macro_f1"] + 1e-12
    uniform = math.log(len(counts))
    assert values["nll"] <= uniform + 1e-6


def test_empty_coalition_uses_training_not_evaluation():
    label = torch.tensor([1, 1, 1, 0])
    values = empty_values(torch.tensor([0.75, 0.25]), label)
    assert values["accuracy"] == 0.25
    assert values["nll"] == pytest.approx(-(3 * math.log(0.25) + math.log(0.75)) / 4, abs=1e-6)


def test_many_classes_and_half_precision():
    logits = torch.zeros(1, 2, 1000, dtype=torch.bfloat16)
    logits[0, 0, 700] = logits[0, 1, 3] = 8
    prediction, nll = sample_scores(logits, torch.tensor([700, 4]))
    assert prediction.flatten().tolist() == [700, 3]
    assert nll.dtype == torch.float32


def test_scores_do_not_depend_on_batch_mates():
    logits = torch.randn(7, 33, 5, generator=torch.Generator().manual_seed(0))
    label = torch.arange(33) % 5
    _, whole = sample_scores(logits, label)
    for part in ([4], [30, 4, 2], list(range(3, 20))):
        _, nll = sample_scores(logits[:, part], label[part])
        assert torch.equal(nll, whole[part])


def test_utility():
    assert utility(torch.tensor(2.0), False).item() == -2
    assert utility(torch.tensor(2.0), True).item() == 2


def test_refuses():
    with pytest.raises(MmeqError, match="did you mean 'accuracy'"):
        check_metric("acuracy")
    with pytest.raises(MmeqError, match="label 4 is outside"):
        check_labels(torch.tensor([0, 4]), 4)
    with pytest.raises(MmeqError, match="label -1 is outside"):
        check_labels(torch.tensor([0, -1]), 4)
    with pytest.raises(MmeqError, match="at least one"):
        check_labels(torch.zeros(0, dtype=torch.int64), 4)
    with pytest.raises(MmeqError, match="whole numbers"):
        check_labels(torch.zeros(2), 4)
    for wrong in ([-1.0, 2.0], [0.0, 0.0], [math.nan, 1.0], [[1.0]]):
        with pytest.raises(MmeqError, match="class frequencies"):
            check_frequencies(torch.tensor(wrong))
    with pytest.raises(MmeqError, match="class 1 is among"):
        empty_values(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    with pytest.raises(MmeqError, match="expected logits"):
        sample_scores(torch.zeros(3, 4, 2), torch.zeros(5, dtype=torch.int64))
