from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game import banzhaf_values, coalition_index, shapley_values, shapley_weights

axioms = settings(max_examples=40, deadline=None)


def random_game(modalities, seed):
    return torch.randn(2**modalities, generator=torch.Generator().manual_seed(seed)).double()


def by_permutations(values):
    """The definition: mean marginal contribution over all orders of arrival."""
    modalities = int(math.log2(len(values)))
    phi = torch.zeros(modalities, dtype=torch.float64)
    for order in permutations(range(modalities)):
        for k, m in enumerate(order):
            phi[m] += values[coalition_index(order[: k + 1])] - values[coalition_index(order[:k])]
    return phi / math.factorial(modalities)


games = st.tuples(st.integers(1, 7), st.integers(0, 2**31))


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_equals_mean_over_permutations(modalities, seed):
    values = random_game(modalities, seed)
    torch.testing.assert_close(shapley_values(values), by_permutations(values), rtol=0, atol=1e-12)


@axioms
@given(games)
def test_efficiency(game):
    values = random_game(*game)
    assert shapley_values(values).sum().item() == pytest.approx(
        (values[-1] - values[0]).item(), abs=1e-12
    )


@axioms
@given(st.integers(2, 7), st.integers(0, 2**31), st.data())
def test_symmetry(modalities, seed, data):
    i, j = data.draw(st.permutations(range(modalities)))[:2]
    values = random_game(modalities, seed)
    for row in range(2**modalities):  # v depends on how many of i, j are there, not on which
        if row >> i & 1 and not row >> j & 1:
            values[row] = values[row ^ (1 << i) ^ (1 << j)]
    for solve in (shapley_values, banzhaf_values):
        phi = solve(values)
        assert phi[i].item() == pytest.approx(phi[j].item(), abs=1e-12)


@axioms
@given(games, st.data())
def test_dummy(game, data):
    modalities, seed = game
    m = data.draw(st.integers(0, modalities - 1))
    values = random_game(modalities, seed)
    gain = 0.7
    for row in range(2**modalities):
        if row >> m & 1:
            values[row] = values[row ^ (1 << m)] + gain
    assert shapley_values(values)[m].item() == pytest.approx(gain, abs=1e-12)
    assert banzhaf_values(values)[m].item() == pytest.approx(gain, abs=1e-12)


@axioms
@given(games, st.integers(0, 2**31), st.floats(-3, 3))
def test_additivity(game, other_seed, factor):
    first, second = random_game(*game), random_game(game[0], other_seed)
    for solve in (shapley_values, banzhaf_values):
        torch.testing.assert_close(
            solve(first + factor * second),
            solve(first) + factor * solve(second),
            rtol=0,
            atol=1e-11,
        )


@axioms
@given(st.lists(st.floats(-10, 10), min_size=4, max_size=4))
def test_two_modalities_closed_form(v):
    phi = shapley_values(torch.tensor(v, dtype=torch.float64))
    assert (phi[0] - phi[1]).item() == pytest.approx(v[1] - v[2], abs=1e-12)
    torch.testing.assert_close(phi, banzhaf_values(torch.tensor(v, dtype=torch.float64)))


def test_banzhaf_by_definition():
    values = random_game(4, 3)
    for m in range(4):
        gains = [values[r | 1 << m] - values[r] for r in range(16) if not r >> m & 1]
        assert banzhaf_values(values)[m].item() == pytest.approx((sum(gains) / 8).item(), abs=1e-12)


def test_glove_game():
    values = torch.zeros(8)  # a left glove (0) and two right ones (1, 2)
    values[[0b011, 0b101, 0b111]] = 1
    expected = torch.tensor([2 / 3, 1 / 6, 1 / 6], dtype=torch.float64)
    torch.testing.assert_close(shapley_values(values), expected)


def test_batches_and_twelve_modalities():
    values = torch.stack([random_game(12, s) for s in range(3)])
    phi = shapley_values(values[:, None])
    assert phi.shape == (3, 1, 12)
    torch.testing.assert_close(phi[1, 0], shapley_values(values[1]))
    torch.testing.assert_close(phi.sum(-1)[:, 0], values[:, -1] - values[:, 0])


def test_weights_are_a_copy():
    shapley_weights(2).zero_()
    assert shapley_weights(2).abs().sum() > 0


@pytest.mark.parametrize("length", [0, 1, 3, 6, 2**13])
def test_refuses_length(length):
    for solve in (shapley_values, banzhaf_values):
        with pytest.raises(MmeqError, match=f"got {length} values"):
            solve(torch.zeros(length))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_values_that_are_not_finite(bad):
    with pytest.raises(MmeqError, match="coalition 2 is NaN"):
        shapley_values(torch.tensor([[0.0, 1.0, bad, 1.0]]))


def test_refuses_too_many():
    with pytest.raises(MmeqError, match="between 1 and 12"):
        shapley_weights(13)
