"""Things measured in turn, and ratios of two of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def ratio(
    name: str, a: Callable[[], float], b: Callable[[], float], repeats: int
) -> dict[str, Any]:
    """Measure A and B in turn after one warm-up each; median and range of A/B."""
    found = in_turn({"a": a, "b": b}, repeats)
    return line(name, found["a"], found["b"])


def in_turn(runs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measure all, one after the other, so often; after one warm-up each."""
    for run in runs.values():
        run()
    rounds = [[run() for run in runs.values()] for _ in range(repeats)]
    return {
        name: list(values) for name, values in zip(runs, zip(*rounds, strict=True), strict=True)
    }


def line(
    name: str, a: Sequence[float], b: Sequence[float], unit: str = "seconds"
) -> dict[str, Any]:
    """Print and return the median and range of A/B, and the medians of both."""
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    found = {
        "name": name,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "repeats": len(ratios),
        unit: [statistics.median(a), statistics.median(b)],
    }
    print(f"{name:<66} {found['ratio']:6.3f}  ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return found
