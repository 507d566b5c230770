"""Rank certainty on games with known answers; subsets keep the classes and depend on the seed."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game.certainty import rank_certainty, stratified_subset, subset_size
from mmeq.game.measure import measure_game


def brute(point, draws):
    """Break the ties of every draw in all ways and count those that agree."""
    order = sorted(range(len(point)), key=lambda m: point[m])
    whole = weakest = 0.0
    for draw in draws:
        valid = [
            p
            for p in permutations(range(len(draw)))
            if all(draw[p[k]] <= draw[p[k + 1]] for k in range(len(p) - 1))
        ]
        whole += sum(list(p) == order for p in valid) / len(valid)
        weakest += sum(p[0] == order[0] for p in valid) / len(valid)
    return whole / len(draws), weakest / len(draws)


@given(
    st.integers(1, 4).flatmap(
        lambda m: st.lists(
            st.lists(st.integers(0, 3).map(float), min_size=m, max_size=m), min_size=2, max_size=6
        )
    )
)
def test_equals_breaking_ties_in_all_ways(rows):
    found = rank_certainty(torch.tensor(rows[0]), torch.tensor(rows[1:]))
    assert found == pytest.approx(brute(rows[0], rows[1:]))


def test_agrees_with_the_normal_law():
    """Two scores with independent normal noise: P(order) = Φ(gap / (σ √2))."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.tensor([0.0, 1.0]) + torch.randn(100_000, 2, generator=generator)
    expected = 0.5 * (1 + math.erf(1 / 2))
    order, weakest = rank_certainty(torch.tensor([0.0, 1.0]), draws)
    assert order == pytest.approx(expected, abs=0.005)
    assert weakest == order


def game(modalities=2, copies=True):
    """Predictions in which both modalities are right on the same samples, or one is better."""
    label_N = torch.arange(200) % 2
    right_N = torch.arange(200) % 5 > 0
    worse_N = right_N & (torch.arange(200) % 3 > 0)
    columns = [right_N if copies else worse_N, right_N, right_N]
    prediction_NS = torch.stack([torch.where(c, label_N, 1 - label_N) for c in columns], 1)
    return ("a", "b"), prediction_NS, torch.ones(200, 3), label_N, torch.tensor([0.5, 0.5])


def test_reports_carry_it():
    same = measure_game(*game(copies=True))
    assert same.order_certainty == pytest.approx(0.5)
    assert same.weakest_certainty == pytest.approx(0.5)
    sure = measure_game(*game(copies=False))
    assert sure.order_certainty == 1.0
    assert sure.as_dict()["certainty"] == {"order": 1.0, "weakest": 1.0}


def test_fewer_samples_are_less_certain():
    names, prediction, nll, label, frequencies = game(copies=False)
    flip = torch.arange(200) % 7 == 0  # noise, so that a small set can err
    prediction[flip, 1] = 1 - prediction[flip, 1]
    few = stratified_subset(label, 20)
    small = measure_game(names, prediction[few], nll[few], label[few], frequencies)
    large = measure_game(names, prediction, nll, label, frequencies)
    assert small.order_certainty < large.order_certainty


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9), st.data())
def test_subset_keeps_the_shares(labels, seed, data):
    label = torch.tensor(labels)
    size = data.draw(st.integers(1, len(labels)))
    rows = stratified_subset(label, size, seed)
    assert len(rows.unique()) == len(rows) == size
    assert torch.equal(rows, rows.sort().values)
    quota = torch.bincount(label).double() * size / len(labels)
    taken = torch.bincount(label[rows], minlength=len(quota))
    assert (taken >= quota.floor()).all()
    assert (taken <= quota.ceil()).all()
    assert torch.equal(rows, stratified_subset(label, size, seed))


def test_another_seed_draws_others():
    label = torch.arange(400) % 4
    assert not torch.equal(stratified_subset(label, 40, 0), stratified_subset(label, 40, 1))


@pytest.mark.parametrize("subset", [0, -0.1, 1.5, float("nan")])
def test_what_is_no_subset(subset):
    with pytest.raises(MmeqError, match="subset="):
        subset_size(100, subset)


def test_more_than_there_are():
    with pytest.raises(MmeqError, match="subset=500: the validation part has 400"):
        subset_size(400, 500)
    assert subset_size(400, 1) == subset_size(400, 1.0) == 400
