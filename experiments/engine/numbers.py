"""Means and paired differences over runs, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from engine.spread import interval

Line = Mapping[str, Any]
Measure = Callable[[Line], float | None]
MEASURES: dict[str, Measure] = {
    "accuracy": lambda line: percent(line["test"]["accuracy"]),
    "EDM %": lambda line: line["test"]["edm"],
    "missing": lambda line: percent(line["test"]["proper_mean"]),
    "NLL": lambda line: line["test"]["nll"],
    "validation": lambda line: percent(line["validation"]["accuracy"]),
}
"""Name → number of a run; accuracies in percent."""


class Estimate(NamedTuple):
    """A mean with its 95 % interval, over n runs or pairs."""

    mean: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 1) -> str:
        """The estimate as it stands in a table."""
        if not self.n:
            return "–"
        mean, low, high = (f"{0.0 + round(value, digits):.{digits}f}" for value in self[:3])
        return f"{mean} ({low} to {high})".replace("-", "−")

    @property
    def apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.n > 1 and (self.low > 0 or self.high < 0)


def percent(share: float | None) -> float | None:
    """A share in percent."""
    return None if share is None else 100 * share


def estimate(values: Iterable[float | None]) -> Estimate:
    """Mean over runs, and its expanded percentile interval (`spread`).

    Runs that share a split are not independent: over few splits the interval holds seed noise and
    what these splits show of split noise.
    """
    known = [value for value in values if value is not None]
    if not known:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    return Estimate(*interval(known), len(known))


def by_run(lines: Iterable[Line], measure: Measure) -> dict[tuple[Any, Any], float | None]:
    """(seed, split) → number."""
    return {(line["seed"], line["split_seed"]): measure(line) for line in lines}


def differences(ours: Iterable[Line], theirs: Iterable[Line], measure: Measure) -> list[float]:
    """The difference of each two runs of equal seed and split."""
    mine, base = by_run(ours, measure), by_run(theirs, measure)
    pairs = [(mine[key], base[key]) for key in mine if key in base]
    return [a - b for a, b in pairs if a is not None and b is not None]


def difference(ours: Iterable[Line], theirs: Iterable[Line], measure: Measure) -> Estimate:
    """Mean of the differences of runs of equal seed and split, with its interval."""
    return estimate(differences(ours, theirs, measure))


def table_of(lines: Iterable[Line]) -> dict[str, dict[str, list[Line]]]:
    """Data → row → runs."""
    out: dict[str, dict[str, list[Line]]] = {}
    for line in lines:
        out.setdefault(line["table"], {}).setdefault(line["row"], []).append(line)
    return out
