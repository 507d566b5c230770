from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.game.estimators import estimate
from tests.game.estimators.games import Counted, additive, pairwise, table_game


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**31))
def test_whole_budget_is_exact(modalities, seed):
    value, _, beta = table_game(modalities, seed)
    found = estimate(value, modalities, "banzhaf")
    torch.testing.assert_close(found.phi, beta, rtol=0, atol=1e-9)
    assert found.se.max() == 0


@pytest.mark.parametrize(("modalities", "budget"), [(7, 60), (10, 200), (12, 600)])
def test_unbiased_and_calibrated(modalities, budget):
    counted = Counted(table_game(modalities, 2)[0])
    beta = table_game(modalities, 2)[2]
    found = estimate(counted, modalities, "banzhaf", budget)
    assert found.evaluations == len(counted.asked) <= budget
    runs = [estimate(counted, modalities, "banzhaf", budget, seed) for seed in range(60)]
    errors = torch.stack([run.phi for run in runs]) - beta
    assert (errors.mean(0).abs() < 4.5 * errors.std(0) / 60**0.5).all()
    z = torch.stack([e / run.se for e, run in zip(errors, runs, strict=True)])
    assert 0.6 < z.square().mean() < 1.6


@pytest.mark.parametrize("modalities", [8, 16, 24])
@pytest.mark.parametrize("game", [additive, pairwise])
def test_equals_shapley_up_to_pairs(modalities, game):
    value, phi = game(modalities, 0)
    found = estimate(value, modalities, "banzhaf", 5 * modalities)
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-9)


def test_all_pairs_beyond_the_exact_game():
    value, phi = pairwise(13, 0)
    cubic = estimate(lambda c: value(c) + c[:, :3].all(1) * 4.0, 13, "banzhaf", 2**13)
    shared = torch.zeros(13, dtype=torch.float64)
    shared[:3] = 1  # 4 times the chance that the two others are there
    torch.testing.assert_close(cubic.phi, phi + shared, rtol=0, atol=1e-8)
    assert cubic.se.max() < 1e-8
