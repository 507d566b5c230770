"""Bars of a row: test accuracy of every coalition, and its reliability over confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmeq.reporting.answers import BINS
from mmeq.reporting.columns import NONE
from mmeq.reporting.page.material import Shown
from mmeq.reporting.statistics import Estimate


@dataclass(frozen=True)
class Bar:
    """A coalition; value, low and high in percent, as text and for the bar."""

    name: str
    value: float
    low: float | None
    high: float | None
    told: str


def coalitions(shown: Shown) -> list[Bar]:
    """Return the coalitions of a row that all its runs have, the smallest first."""
    lines = [line["test"].get("values") or {} for line in shown.lines]
    names = [name for name in lines[0] if all(name in line for line in lines)]
    bars = []
    for name in names:
        found = shown.mean([line[name] for line in lines], least=0, most=1)
        if found.mean is not None:
            low, high = (None if v is None else round(100 * v, 2) for v in (found.low, found.high))
            bars.append(Bar(name, round(100 * found.mean, 2), low, high, percent(found)))
    return sorted(bars, key=lambda bar: 0 if bar.name == "none" else bar.name.count("+") + 1)


def percent(found: Estimate) -> str:
    """Return a share with its interval in percent."""
    if found.mean is None:
        return NONE
    text = f"{100 * found.mean:.1f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({100 * found.low:.1f} to {100 * found.high:.1f})"


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence, of all runs."""

    count: int
    share: float
    confidence: float
    accuracy: float
    told: str


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence; ``ece`` as text, mean over runs with its interval."""

    bins: Sequence[Bin]
    ece: str
    described: str


def reliability(shown: Shown) -> Reliability | None:
    """Return the bins of a row, summed over runs; None where no run has any."""
    runs = [line["calibration"] for line in shown.lines if line.get("calibration")]
    total = sum(count for run in runs for count, _, _ in run)
    if not total:
        return None
    bins = []
    for place in range(BINS):
        here = [run[place] for run in runs if run[place][0]]
        count = sum(n for n, _, _ in here)
        if count:
            sure = sum(n * confidence for n, confidence, _ in here) / count
            right = sum(n * accuracy for n, _, accuracy in here) / count
            told = f"confidence {100 * sure:.1f} %: accuracy {100 * right:.1f} %, {count} answers"
            bins.append(Bin(count, count / total, sure, right, told))
    found = shown.row.estimates.get("ece", Estimate())
    text = NONE if found.mean is None else f"{found.mean:.3f}"
    if found.low is not None and found.high is not None:
        text += f" ({found.low:.3f} to {found.high:.3f})"
    return Reliability(bins, text, "; ".join(one.told for one in bins) + ".")
