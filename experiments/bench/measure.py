"""A ratio of two things measured in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any


def ratio(
    name: str, a: Callable[[], float], b: Callable[[], float], repeats: int
) -> dict[str, Any]:
    """Measure A and B in turn after one warm-up each; median and range of A/B."""
    a(), b()
    pairs = [(a(), b()) for _ in range(repeats)]
    ratios = [x / y for x, y in pairs]
    line = {
        "name": name,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "repeats": repeats,
        "seconds": [statistics.median(x) for x in zip(*pairs, strict=True)],
    }
    print(f"{name:<66} {line['ratio']:6.3f}  ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return line
