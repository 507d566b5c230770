from __future__ import annotations

from itertools import permutations

import pytest
import torch

from mmeq.game.estimators import Game, estimate
from mmeq.game.estimators.permutation import chains, draw_orders
from tests.game.estimators.games import additive, pairwise, table_game


def test_chains_grow_along_the_order():
    chain = chains(torch.tensor([[2, 0, 1]]))[0].int().tolist()
    assert chain == [[0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]]


def test_all_orders_give_the_exact_values():
    value, phi, _ = table_game(4, 0)
    gains = []
    for order in permutations(range(4)):
        steps = value(chains(torch.tensor([order]))[0]).diff()
        gains.append(torch.zeros(4).double().scatter(0, torch.tensor(order), steps))
    torch.testing.assert_close(torch.stack(gains).mean(0), phi)


@pytest.mark.parametrize("reverse", [False, True])
def test_pays_for_as_many_orders_as_the_budget_allows(reverse):
    game = Game(table_game(6, 0)[0], "abcdef", 40)
    order = draw_orders(game, 0, reverse)
    assert len({*game.keys(chains(order.flatten(0, 1))).flatten().tolist()}) <= 40
    assert len(order) >= 38 // (10 if reverse else 5)  # what they cost if none coincided
    if reverse:
        assert torch.equal(order[:, 1], order[:, 0].flip(-1))


def test_stopping_leaves_every_order_equally_likely():
    """The budget cuts after a number of orders that depends on them: still uniform."""
    firsts = torch.zeros(4)
    for seed in range(600):
        game = Game(table_game(4, 0)[0], "abcd", 9)
        firsts += torch.bincount(draw_orders(game, seed, False)[-1, 0, :1], minlength=4)
    assert ((firsts / 600 - 0.25).abs() < 0.08).all()


@pytest.mark.parametrize("modalities", [6, 10, 24])
def test_additive_games_cost_no_error(modalities):
    value, phi = additive(modalities, 0)
    found = estimate(value, modalities, "permutation", 2 * modalities)
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-12)
    assert found.se.max() < 1e-12


@pytest.mark.parametrize("modalities", [6, 10, 24])
@pytest.mark.parametrize("game", [additive, pairwise])
def test_antithetic_pairs_are_exact_up_to_pairs(modalities, game):
    value, phi = game(modalities, 0)
    found = estimate(value, modalities, "antithetic", 4 * modalities - 2)
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-12)
    assert found.se.max() < 1e-12
