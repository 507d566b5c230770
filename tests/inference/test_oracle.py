"""The any-order oracle and its control, on constructed cases whose answer is known."""

import pytest
import torch

from mmeq.errors import MmeqError
from mmeq.inference.oracle import chance_oracle, unlockable

N, K = 3000, 6


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_orders_have_no_gap():
    right = uniform(N) < 0.7
    found = unlockable(right[:, None].expand(-1, K), {"hybrid": right}, "hybrid", draws=100)
    accuracy = float(right.double().mean())
    assert found.oracle.value == pytest.approx(accuracy)
    assert found.control.value == pytest.approx(accuracy, abs=1e-3)
    assert found.gap.value == 0
    assert found.excess.value == pytest.approx(0, abs=1e-3)
    assert found.closed["hybrid"].value != found.closed["hybrid"].value  # no gap, no part of it


@pytest.mark.parametrize("flip", [0.05, 0.2, 0.4])
def test_random_flips_are_chance(flip):
    """A base prediction, and each order flips it to right or wrong by itself."""
    base = uniform(N, seed=1) < 0.8
    right = base[:, None] ^ (uniform(N, K, seed=2) < flip)
    oracle = float(right.any(1).double().mean())
    expected = 0.8 * (1 - flip**K) + 0.2 * (1 - (1 - flip) ** K)
    assert oracle == pytest.approx(expected, abs=0.02)
    assert chance_oracle(right) == pytest.approx(oracle, abs=0.01)


def test_good_and_bad_orders_are_chance_too():
    """Orders of unequal quality, sample by sample independent: no order suits a sample."""
    right = uniform(N, K, seed=3) < torch.tensor([0.9, 0.2, 0.2, 0.1, 0.1, 0.05])
    oracle = float(right.any(1).double().mean())
    assert chance_oracle(right) == pytest.approx(oracle, abs=0.01)


def test_planted_best_orders_are_recovered():
    """Half of the samples are easy; of the others exactly one order is right."""
    own = torch.randint(K, (N,), generator=torch.Generator().manual_seed(4))
    easy = uniform(N, seed=5) < 0.5
    right = easy[:, None] | (torch.arange(K) == own[:, None])
    knows = torch.ones(N, dtype=torch.bool)
    half = easy | (uniform(N, seed=6) < 0.5)
    found = unlockable(right, {"hybrid": easy, "half": half, "knows": knows}, "hybrid", draws=200)
    assert found.oracle.value == 1.0
    hard = float((~easy).double().mean())
    expected = hard * (1 - 1 / K) ** K
    assert found.excess.value == pytest.approx(expected, abs=0.02)
    assert found.excess.low > 0.1
    assert found.gap.value == pytest.approx(hard)
    assert found.closed["knows"].value == pytest.approx(1)
    assert found.closed["hybrid"].value == 0
    assert found.closed["half"].low < 0.5 < found.closed["half"].high
    assert found.closed_excess["knows"].value == pytest.approx(hard / found.excess.value)


def test_the_same_draws_give_the_same():
    right = uniform(200, K) < 0.6
    once, again = (unlockable(right, {"a": right[:, 0]}, "a", draws=50) for _ in range(2))
    assert once.control == again.control
    assert once.excess == again.excess
    assert once.control.low < once.control.value < once.control.high


def test_an_unknown_reference_is_refused():
    with pytest.raises(MmeqError, match="reference='b'"):
        unlockable(torch.ones(3, 2, dtype=torch.bool), {"a": torch.ones(3).bool()}, "b")
