from __future__ import annotations

import math

import pytest
import torch

from mmeq.errors import MmeqError
from mmeq.game.estimators import estimate, rank_certainty
from tests.game.estimators.games import table_game


def test_two_values_by_the_normal_distribution():
    found = rank_certainty([0.0, 0.1], se=[0.06, 0.08])
    exact = 0.5 * (1 + math.erf(0.1 / 0.1 / math.sqrt(2)))
    assert found.p_weakest == found.p_order == pytest.approx(exact, abs=0.02)


def test_covariance_counts():
    """Errors that move together never swap two values; opposite ones do."""
    together = torch.full((2, 2), 1.0)
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert rank_certainty([0.0, 0.1], cov=together).p_order == 1
    assert rank_certainty([0.0, 0.1], cov=opposite).p_order < 0.6


def test_draws():
    draws = torch.tensor([[0.0, 1, 2], [0, 2, 1], [1, 0, 2], [0, 1, 2]])
    found = rank_certainty(draws.mean(0), draws=draws)
    assert (found.order, found.p_weakest, found.p_order) == ((0, 1, 2), 0.75, 0.5)


def test_exact_values_are_certain_and_equal_ones_ranked_by_chance():
    found = rank_certainty([1.0, 0.4, 0.5], cov=torch.zeros(3, 3))
    assert (found.order, found.p_weakest, found.p_order) == ((1, 2, 0), 1.0, 1.0)
    found = rank_certainty([1.0, 0.5, 0.5], cov=torch.zeros(3, 3))
    assert (found.order, found.p_weakest, found.p_order) == ((1, 2, 0), 0.5, 0.5)


def test_more_budget_is_more_certain():
    value, _, _ = table_game(10, 0)
    few, many = (estimate(value, 10, "kernel", budget) for budget in (60, 1000))
    assert rank_certainty(few.phi, few.cov).p_order < rank_certainty(many.phi, many.cov).p_order


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"se": [1.0], "cov": torch.eye(2)},
        {"se": [1.0]},
        {"cov": torch.eye(3)},
        {"draws": torch.zeros(0, 2)},
        {"draws": torch.zeros(2)},
        {"se": [math.nan, 1.0]},
    ],
)
def test_refuses(given):
    with pytest.raises(MmeqError):
        rank_certainty([0.0, 1.0], **given)
