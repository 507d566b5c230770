from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game import kendall_tau, next_order

orders = st.integers(1, 7).flatmap(
    lambda count: st.tuples(st.permutations(range(count)), st.permutations(range(count)))
)


@settings(max_examples=50, deadline=None)
@given(orders)
def test_kendall_tau_against_scipy(pair):
    from scipy.stats import kendalltau

    a, b = pair
    tau = kendall_tau(a, b)
    assert tau == kendall_tau(b, a)
    assert kendall_tau(a, a) == 1
    if len(a) > 1:
        places = [[order.index(m) for m in range(len(a))] for order in pair]
        assert tau == pytest.approx(kendalltau(*places).statistic)
        assert kendall_tau(a, a[::-1]) == -1


@settings(max_examples=50, deadline=None)
@given(
    orders.flatmap(
        lambda pair: st.tuples(
            st.just(tuple(pair[0])),
            st.lists(st.integers(0, 4), min_size=len(pair[0]), max_size=len(pair[0])),
        )
    )
)
def test_is_the_stable_sort_without_hysteresis(case):
    current, scores = case
    expected = tuple(sorted(current, key=lambda m: scores[m]))
    assert next_order(scores, current) == expected
    ones = torch.ones(len(scores), len(scores))
    assert next_order(torch.tensor(scores), current, ones, z=0.0) == expected
    assert next_order(scores, current, ones, z=100.0) == current
    assert next_order(scores, expected, ones, z=0.5) == expected


def test_hysteresis():
    gap_se = torch.full((3, 3), 0.1)
    assert next_order([0.30, 0.25, 0.0], (0, 1, 2), gap_se, z=2.0) == (2, 0, 1)
    assert next_order([0.30, 0.25, 0.0], (0, 1, 2)) == (2, 1, 0)
    # exactly at the threshold: stays
    assert next_order([0.5, 0.25], (0, 1), [[0, 0.125], [0.125, 0]], z=2.0) == (0, 1)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (([0.1, 0.2], (0, 0)), "permutation"),
        (([0.1, 0.2], (0,)), "permutation"),
        (([0.1, math.nan], (0, 1)), "not finite"),
        (([0.1, 0.2], (0, 1), None, -1.0), "z must"),
        (([0.1, 0.2], (0, 1), [[0.0]], 1.0), "2 x 2"),
        (([0.1, 0.2], (0, 1), [[0.0, math.nan], [0.0, 0.0]], 1.0), "gap_se"),
    ],
)
def test_refuses(args, match):
    with pytest.raises(MmeqError, match=match):
        next_order(*args)


@pytest.mark.parametrize("pair", [((0, 1), (0, 2)), ((0, 1), (0,)), ((0, 0), (0, 0)), ((), ())])
def test_kendall_tau_refuses(pair):
    with pytest.raises(MmeqError, match="same items"):
        kendall_tau(*pair)
