"""Intervals and tests against numbers worked out by hand, and against scipy's own tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import stdtrit

from mmeq.reporting.statistics import estimate, holm, p_value, paired, ratio, standard_error

FIVE = [0.80, 0.82, 0.81, 0.85, 0.82]
"""Mean 0.82; squared deviations 4, 0, 1, 9, 0 times 1e-4: s² = 14e-4 / 4 = 3.5e-4."""
T4 = 2.7764451
"""97.5 % quantile of t with 4 degrees of freedom, from a printed table."""


def test_plain_interval_by_hand():
    done = estimate(FIVE)
    assert done.mean == pytest.approx(0.82)
    half = T4 * math.sqrt(3.5e-4 / 5)
    assert (done.low, done.high) == pytest.approx((0.82 - half, 0.82 + half), abs=1e-7)
    assert (done.n, done.undefined) == (5, 0)


def test_corrected_interval_by_hand():
    """Nadeau & Bengio: variance (1/n + test/train) s², here 1/5 + 0.2/0.6 = 8/15."""
    assert standard_error(FIVE, overlap=1 / 3) == pytest.approx(math.sqrt(8 / 15 * 3.5e-4))
    done = estimate(FIVE, overlap=1 / 3)
    half = T4 * 0.01366260  # sqrt(1.866667e-4)
    assert (done.low, done.high) == pytest.approx((0.82 - half, 0.82 + half), abs=1e-6)
    assert done.high - done.mean == pytest.approx(0.03793346, abs=1e-6)


def test_ends_stay_where_the_number_can_be():
    done = estimate([0.99, 1.0, 0.9], least=0.0, most=1.0)
    assert done.high == 1.0
    assert 0 < done.low < 0.99


def test_one_run_has_no_interval_and_none_no_mean():
    assert estimate([0.5]).low is None
    assert estimate([None, 0.5]).undefined == 1
    assert estimate([None]).mean is None


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12))
def test_the_test_is_the_paired_t_test_where_nothing_overlaps(tenths):
    differences = [tenth / 10 for tenth in tenths]
    if len(set(differences)) == 1:
        assert p_value(differences) is None
        return
    assert p_value(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    corrected = p_value(differences, overlap=1 / 3)
    assert corrected >= p_value(differences) - 1e-12
    inside = estimate(differences, overlap=1 / 3)
    assert (inside.low <= 0 <= inside.high) == (corrected >= 0.05)


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_between_the_p_value_and_bonferroni(p_values):
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1, raw * len(p_values)) + 1e-12


def test_pairs_and_ratios():
    ours, theirs = {1: 2.0, 2: None, 3: 6.0, 4: 9.0}, {1: 1.0, 2: 1.0, 3: 2.0, 5: 1.0}
    pairs = paired(ours, theirs)
    assert pairs == [(2.0, 1.0), (6.0, 2.0)]
    done = ratio([*pairs, (5.0, 0.0), (10.0, 1.0)])
    assert (done.mean, done.low, done.high, done.n) == (3.0, 2.0, 10.0, 3)
    assert ratio([]).mean is None


@pytest.mark.parametrize(
    ("seeds", "splits", "variance", "told"),
    [(1, 5, 0.0, 0.99), (1, 5, 4.0, 0.97), (5, 2, 0.75, 0.95), (5, 2, 1.5, 0.89)],
)
def test_coverage_is_what_the_docstring_tells(seeds, splits, variance, told):
    """Results with noise of variance 1 a run, and of ``variance`` a split; splits share a fifth."""
    rng, draws, n = np.random.default_rng(0), 20_000, seeds * splits
    common = math.sqrt(0.2) * rng.standard_normal((draws, 1))
    split = common + math.sqrt(0.8) * rng.standard_normal((draws, splits))
    run = rng.standard_normal((draws, splits, seeds))
    result = (math.sqrt(variance) * split[:, :, None] + run).reshape(draws, n)
    error = result.std(1, ddof=1) * math.sqrt(1 / n + 1 / 3)
    assert error[0] == pytest.approx(standard_error(result[0].tolist(), 1 / 3))
    covered = np.abs(result.mean(1)) < stdtrit(n - 1, 0.975) * error
    assert covered.mean() == pytest.approx(told, abs=0.012)
