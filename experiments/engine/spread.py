"""Means over runs with bootstrap intervals, and how they are written.

Percentile intervals over few runs are too narrow; these are expanded (Hesterberg 2015, The American
Statistician 69, 371-386): over n runs the ends are the Φ(−√(n/(n−1)) t_{0.975, n−1}) quantile of
the bootstrap distribution and its mirror image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

Interval = tuple[float, float, float]
"""Estimate, and the ends of its 95 % interval."""

DRAWS = 10_000


@lru_cache
def drawn(runs: int) -> np.ndarray:
    """Rows of the bootstrap over so many runs, [draws, runs]; the same ones for all figures."""
    return np.random.default_rng(0).integers(runs, size=(DRAWS, runs))


def ends(runs: int) -> list[float]:
    """Percentiles of the bootstrap distribution that a 95 % interval over so many runs ends at."""
    if runs < 2:
        return [50.0, 50.0]
    low = 100 * stats.norm.cdf(-np.sqrt(runs / (runs - 1)) * stats.t.ppf(0.975, runs - 1))
    return [low, 100 - low]


def interval(
    values: Sequence[float], change: Callable[[np.ndarray], np.ndarray] | None = None
) -> Interval:
    """Mean over runs, changed by a function, with its interval.

    Args:
        values: one a run.
        change: of the mean, such as the square root; None: none.
    """
    values_N = np.asarray(values, dtype=float)
    change = change or (lambda mean: mean)
    low, high = np.percentile(change(values_N[drawn(len(values_N))].mean(1)), ends(len(values_N)))
    return float(change(values_N.mean())), float(low), float(high)


def certain(values: Sequence[float], comparisons: int) -> bool:
    """Whether a t interval excludes 0 at the level 1 − 0.05 / comparisons (Bonferroni)."""
    values_N = np.asarray(values, dtype=float)
    error = values_N.std(ddof=1) / np.sqrt(len(values_N))
    margin = stats.t.ppf(1 - 0.025 / comparisons, len(values_N) - 1) * error
    return bool(abs(values_N.mean()) > margin)


def ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Root of the ratio of two means over the same runs, with its bootstrap interval."""
    a_N, b_N = (np.asarray(values, dtype=float) for values in (above, below))
    rows = drawn(len(a_N))
    drawn_R = np.sqrt(a_N[rows].mean(1) / b_N[rows].mean(1))
    low, high = np.percentile(drawn_R, ends(len(a_N)))
    return float(np.sqrt(a_N.mean() / b_N.mean())), float(low), float(high)


def root(mean: np.ndarray) -> np.ndarray:
    """Square root that keeps the sign: an estimate of a square may fall below 0 by chance."""
    return np.sign(mean) * np.sqrt(np.abs(mean))


def told(found: Interval, digits: int = 2, scale: float = 1.0, sign: bool = False) -> str:
    """Estimate (low to high)."""
    mean, low, high = (f"{scale * x:{'+' if sign else ''}.{digits}f}" for x in found)
    return f"{mean} ({low} to {high})"
