from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from mmeq.game.estimators import Game
from mmeq.game.estimators.sampling import allocate, draw_pairs, pairs_by_size, unrank
from tests.game.estimators.games import additive


@pytest.mark.parametrize(("modalities", "size"), [(5, 1), (6, 3), (7, 2)])
def test_unrank_lists_every_coalition_of_a_size_once(modalities, size):
    rows = unrank(list(range(math.comb(modalities, size))), size, modalities)
    found = {tuple(row.nonzero()[:, 0].tolist()) for row in rows}
    assert found == set(combinations(range(modalities), size))


@pytest.mark.parametrize("modalities", range(2, 12))
def test_all_pairs_are_all_proper_coalitions(modalities):
    assert sum(pairs_by_size(modalities)) == 2 ** (modalities - 1) - 1
    game = Game(additive(modalities, 0)[0], [str(m) for m in range(modalities)], 2**modalities)
    pairs = draw_pairs(game, 0, lambda s: 1.0)
    assert game.evaluations == 2**modalities
    assert torch.equal(pairs.drawn, pairs.total)
    assert pairs.cov(torch.randn(len(pairs.odd), modalities).double()).abs().max() == 0


@pytest.mark.parametrize("modalities", [9, 16, 24, 62])
@pytest.mark.parametrize("pairs", [130, 777])
def test_allocation_spends_all_within_limits(modalities, pairs):
    total = pairs_by_size(modalities)
    drawn = allocate(total, pairs, [1 / (s + 1) for s in range(len(total))])
    assert sum(drawn) == min(pairs, sum(total))
    assert all(min(4, n) <= k <= n for n, k in zip(total, drawn, strict=True))


def test_odd_half_of_an_additive_game():
    value, weight = additive(9, 0)
    pairs = draw_pairs(Game(value, "abcdefghi", 100), 0, lambda s: 1.0)
    torch.testing.assert_close(pairs.odd, pairs.sign @ weight / 2)


def test_covariance_is_that_of_the_stratified_sum():
    """Against the spread of sums over many draws without replacement."""
    generator = torch.Generator().manual_seed(0)
    population = torch.randn(511, generator=generator).double()
    names = [str(m) for m in range(10)]
    sums, variances = [], []
    for seed in range(300):
        game = Game(lambda c: population[(c.long() @ (2 ** torch.arange(10))) % 511], names, 202)
        pairs = draw_pairs(game, seed, lambda s: 1.0)
        term = (pairs.odd * pairs.total / pairs.drawn)[:, None]
        sums.append(term.sum())
        variances.append(pairs.cov(term)[0, 0])
    assert torch.stack(sums).var() == pytest.approx(torch.stack(variances).mean().item(), rel=0.25)
