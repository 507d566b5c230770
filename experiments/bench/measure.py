"""Things measured in turn, ratios of two of them, and how a line of results is told."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

Key = TypeVar("Key")
Line = dict[str, Any]


def now(device: torch.device) -> float:
    """Seconds, when the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def ratio(
    name: str, a: Callable[[], float], b: Callable[[], float], repeats: int, **facts: Any
) -> Line:
    """Measure A and B in turn after one warm-up each; median and range of A/B."""
    found = in_turn({"a": a, "b": b}, repeats)
    return line(name, found["a"], found["b"], **facts)


def in_turn(
    runs: Mapping[Key, Callable[[], float]], repeats: int, warm: bool = True
) -> dict[Key, list[float]]:
    """Measure all, one after the other, so often; after one warm-up each, if `warm`."""
    if warm:
        for run in runs.values():
            run()
    rounds = [[run() for run in runs.values()] for _ in range(repeats)]
    return {
        name: list(values) for name, values in zip(runs, zip(*rounds, strict=True), strict=True)
    }


def line(
    name: str, a: Sequence[float], b: Sequence[float], unit: str = "seconds", **facts: Any
) -> Line:
    """Return the median and range of A/B, the medians of both, and the facts that are given."""
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    return {
        "name": name,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "repeats": len(ratios),
        unit: [statistics.median(a), statistics.median(b)],
        **facts,
    }


def number(value: float) -> str:
    """A ratio with the digits that it deserves."""
    if value >= 10 or value == 0:
        return f"{value:,.{0 if value >= 100 else 1}f}"
    return f"{value:.{3 if value >= 0.1 else 1 - math.floor(math.log10(value))}f}"


def told(line: Line) -> str:
    """A line of results as a line of text."""
    text = f"{line['name']:<78} "
    if "ratio" in line:
        median, low, high = (number(line[key]) for key in ("ratio", "lowest", "highest"))
        text += f"{median:>8}  ({low} to {high})"
    elif "exponent" in line:
        text += f"{line['exponent']:8.2f}  expected {line['expected']}: {line['reason']}"
    elif "share" in line:
        text += f"{100 * line['share']:7.1f} %"
    else:
        text += ", ".join(f"{key} {value}" for key, value in line.items() if key != "name")
    return text + (f"  aim {line['aim']:.2f}" if "aim" in line else "")
