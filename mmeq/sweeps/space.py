"""The space of a search, in Hydra's grammar: choices, ranges and intervals become distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from mmeq.errors import MmeqError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def space(overrides: Sequence[Override]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Part overrides into those that are fixed and those that are searched.

    ``choice(a,b)``, ``a,b`` and ``glob(*)`` are categories; ``range(1,10,step=2)`` has no end, as
    in Hydra; ``interval(0.1,1)`` is continuous, ``int(interval(1,8))`` whole numbers, its ends
    included; ``tag(log,…)`` draws on a logarithmic scale. What comes later replaces what came
    before.

    Args:
        overrides: those of the configuration, then those of the command line.

    Returns:
        The fixed overrides, and option → distribution.

    Raises:
        MmeqError: for a range that cannot be drawn from.
    """
    fixed: dict[str, str] = {}
    searched: dict[str, BaseDistribution] = {}
    for override in overrides:
        key = override.get_key_element()
        fixed.pop(key, None)
        searched.pop(key, None)
        if override.is_sweep_override():
            searched[key] = distribution(override)
        else:
            fixed[key] = f"{key}={override.get_value_element_as_str()}"
    return list(fixed.values()), searched


def distribution(override: Override) -> BaseDistribution:
    """Return the distribution that a sweep over an option stands for."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    sweep: Any = override.value()
    name = str(override.input_line)
    if not isinstance(sweep, IntervalSweep | RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    log = "log" in sweep.tags
    if odd := set(sweep.tags) - {"log"}:
        raise MmeqError(f"{name}: there is no tag {sorted(odd)[0]!r} (one of: log)")
    try:
        if isinstance(sweep, IntervalSweep):
            if isinstance(sweep.start, int) and isinstance(sweep.end, int):
                return IntDistribution(sweep.start, sweep.end, log=log)
            return FloatDistribution(float(sweep.start or 0), float(sweep.end or 0), log=log)
        start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step
        if sweep.shuffle or step <= 0:
            raise ValueError(
                "a search draws from a range by itself: no shuffle, and a step above 0"
            )
        last = start + (math.ceil((stop - start) / step - 1e-9) - 1) * step
        if all(isinstance(part, int) for part in (start, stop, step)):
            return IntDistribution(int(start), int(last), log=log, step=int(step))
        return FloatDistribution(float(start), float(last), log=log, step=float(step))
    except ValueError as error:
        raise MmeqError(f"{name} cannot be drawn from: {error}") from error
