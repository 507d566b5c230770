"""Means over runs with bootstrap intervals, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

Interval = tuple[float, float, float]
"""Estimate, and the ends of its 95 % interval."""

DRAWS = 10_000


@lru_cache
def drawn(runs: int) -> np.ndarray:
    """Rows of the bootstrap over so many runs, [draws, runs]; the same ones for all figures."""
    return np.random.default_rng(0).integers(runs, size=(DRAWS, runs))


def interval(
    values: Sequence[float],
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    level: float = 0.95,
) -> Interval:
    """Mean over runs, changed by a function, with a percentile bootstrap interval over runs.

    Args:
        values: one a run.
        change: of the mean, such as the square root; None: none.
        level: coverage.
    """
    values_N = np.asarray(values, dtype=float)
    rows = drawn(len(values_N))
    change = change or (lambda mean: mean)
    low, high = np.percentile(change(values_N[rows].mean(1)), [50 - 50 * level, 50 + 50 * level])
    return float(change(values_N.mean())), float(low), float(high)


def ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Root of the ratio of two means over the same runs, with its bootstrap interval."""
    a_N, b_N = (np.asarray(values, dtype=float) for values in (above, below))
    rows = drawn(len(a_N))
    low, high = np.percentile(np.sqrt(a_N[rows].mean(1) / b_N[rows].mean(1)), [2.5, 97.5])
    return float(np.sqrt(a_N.mean() / b_N.mean())), float(low), float(high)


def root(mean: np.ndarray) -> np.ndarray:
    """Square root that keeps the sign: an estimate of a square may fall below 0 by chance."""
    return np.sign(mean) * np.sqrt(np.abs(mean))


def told(found: Interval, digits: int = 2, scale: float = 1.0, sign: bool = False) -> str:
    """Estimate (low to high)."""
    mean, low, high = (f"{scale * x:{'+' if sign else ''}.{digits}f}" for x in found)
    return f"{mean} ({low} to {high})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def replaced(page: str, part: str) -> str:
    """A page whose part between the marks is exchanged.

    Raises:
        ValueError: if the page has no marks.
    """
    before, mark, rest = page.partition("<!-- table -->")
    _, end, after = rest.partition("<!-- /table -->")
    if not mark or not end:
        raise ValueError("README.md lacks the marks <!-- table --> and <!-- /table -->")
    return f"{before}{mark}\n\n{part}\n\n{end}{after}"
