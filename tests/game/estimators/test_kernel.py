from __future__ import annotations

import math

import pytest
import torch

from mmeq.game import all_coalitions
from mmeq.game.estimators import estimate
from tests.game.estimators.games import additive, pairwise, table_game


@pytest.mark.parametrize("modalities", [2, 3, 5, 8])
def test_equals_weighted_least_squares_written_out(modalities):
    """All coalitions, with a large weight in place of the constraint: no pairs, no strata."""
    value, _, _ = table_game(modalities, 1)
    z = all_coalitions(modalities)
    size = z.sum(1).tolist()
    weight = torch.tensor(
        [
            1e7
            if s in (0, modalities)
            else (modalities - 1) / (math.comb(modalities, s) * s * (modalities - s))
            for s in size
        ]
    ).double()
    x = torch.cat([torch.ones(len(z), 1), z.double()], 1).double() * weight.sqrt()[:, None]
    solution = torch.linalg.lstsq(x, (value(z) * weight.sqrt())[:, None]).solution[1:, 0]
    found = estimate(value, modalities, "kernel")
    torch.testing.assert_close(found.phi, solution, rtol=0, atol=1e-5)


@pytest.mark.parametrize("modalities", [8, 16, 24])
@pytest.mark.parametrize("game", [additive, pairwise])
def test_exact_up_to_pairs(modalities, game):
    value, phi = game(modalities, 0)
    found = estimate(value, modalities, "kernel", 4 * modalities + 20)
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-9)
    assert found.se.max() < 1e-9
