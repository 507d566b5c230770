from __future__ import annotations

import pytest
import torch

from mmeq.game.estimators import estimate, regression_adjusted
from tests.game.estimators.games import pairwise, saturating, solved, table_game


@pytest.mark.parametrize("modalities", [8, 16, 24])
def test_pairs_leave_hardly_an_error(modalities):
    value, phi = pairwise(modalities, 0)
    found = estimate(value, modalities, "regression_adjusted", 10 * modalities)
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-2)


def test_saturation_is_learnt():
    value = saturating(10, 1)
    phi = solved(value, 10)
    error = {
        name: torch.stack([estimate(value, 10, name, 300, s).phi - phi for s in range(8)]).norm()
        for name in ("kernel", "regression_adjusted")
    }
    assert error["regression_adjusted"] < 0.5 * error["kernel"]


@pytest.mark.parametrize("nonsense", [0.0, 5.0])
def test_unbiased_whatever_the_surrogate(monkeypatch, nonsense):
    """A surrogate that knows nothing, or is wrong: the correction takes it out again."""

    class Fixed:
        def __init__(self, sign, odd):
            self.slope = nonsense * torch.arange(sign.shape[1]).double()

        def __call__(self, sign):
            return sign @ self.slope / 2

        def shapley(self):
            return self.slope

    monkeypatch.setattr(regression_adjusted, "Surrogate", Fixed)
    value, phi, _ = table_game(7, 0)
    exact = estimate(value, 7, "regression_adjusted", 128)
    torch.testing.assert_close(exact.phi, phi, rtol=0, atol=1e-9)
    runs = [estimate(value, 7, "regression_adjusted", 60, seed) for seed in range(200)]
    errors = torch.stack([run.phi for run in runs]) - phi
    assert (errors.mean(0).abs() < 4.5 * errors.std(0) / 200**0.5).all()
    assert 0.7 < torch.stack([e / r.se for e, r in zip(errors, runs, strict=True)]).var() < 1.4
