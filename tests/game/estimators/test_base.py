from __future__ import annotations

import pytest
import torch

from mmeq.game.estimators import Game, estimate
from tests.game.estimators.games import Counted, table_game


def test_a_coalition_is_evaluated_once():
    counted = Counted(table_game(3, 0)[0])
    game = Game(counted, "abc", 4)
    rows = torch.tensor([[True, False, True], [False, False, False], [True, False, True]])
    first = game(rows)
    assert torch.equal(first, game(rows))
    assert first[0] == first[2]
    assert (game.evaluations, counted.calls, len(counted.asked)) == (2, 1, 2)
    game.ends()
    assert game.evaluations == 3


def test_never_goes_over_the_budget():
    game = Game(table_game(3, 0)[0], "abc", 2)
    with pytest.raises(RuntimeError, match="exceed the budget 2"):
        game(torch.eye(3, dtype=torch.bool))


def test_values_of_any_real_type_and_graph():
    weight = torch.randn(4, requires_grad=True)
    for kind in (torch.float16, torch.float32, torch.int64):
        found = estimate(lambda c: (c.to(weight.dtype) @ weight).to(kind), 4)  # noqa: B023
        assert found.phi.dtype == torch.float64
        assert not found.phi.requires_grad
