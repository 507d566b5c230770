"""The front door: one call for every estimator, its checks, and the automatic choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.coalitions import MAX_MODALITIES
from mmeq.game.estimators import (
    antithetic,
    banzhaf,
    exact,
    kernel,
    permutation,
    regression_adjusted,
)
from mmeq.game.estimators.base import MOST, Estimate, Game, Value

REGRESSION_FROM = 5
"""Evaluations a modality from which regression beats antithetic permutations; measured."""

DEFAULT_BUDGET = 2**MAX_MODALITIES
"""Evaluations beyond 12 modalities if none are given: as many as the largest exact game takes."""


class Estimator(Protocol):
    """What a module of an estimator holds."""

    MOST_MODALITIES: int

    def minimum(self, modalities: int) -> int:
        """Smallest budget that serves so many modalities."""

    def run(self, game: Game, seed: int = 0) -> Estimate:
        """Estimate within the game's budget."""


_MODULES: dict[str, Estimator] = {
    "exact": exact,
    "permutation": permutation,
    "antithetic": antithetic,
    "kernel": kernel,
    "regression_adjusted": regression_adjusted,
    "banzhaf": banzhaf,
}

ESTIMATORS = (*_MODULES, "auto")
"""Names that `estimate` takes; all but banzhaf estimate Shapley values."""


def minimum_budget(estimator: str, modalities: int) -> int:
    """Smallest budget with which an estimator serves so many modalities.

    Args:
        estimator: its name.
        modalities: number of modalities M.

    Raises:
        MmeqError: for an unknown name, or if it cannot serve that M.

    Examples:
        >>> minimum_budget("antithetic", 16)
        62
    """
    if estimator not in ESTIMATORS:
        raise MmeqError(f"unknown estimator {estimator!r}{did_you_mean(estimator, ESTIMATORS)}")
    if estimator == "auto":
        return minimum_budget("permutation", modalities)
    module = _MODULES[estimator]
    if modalities > module.MOST_MODALITIES:
        others = [name for name, m in _MODULES.items() if modalities <= m.MOST_MODALITIES]
        instead = f"use one of: {', '.join(others)}" if others else "merge some of them"
        raise MmeqError(
            f"estimator={estimator} serves at most {module.MOST_MODALITIES} modalities, "
            f"got {modalities}: {instead}"
        )
    return max(2, module.minimum(modalities))


def _names(modalities: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(modalities, int) and not isinstance(modalities, bool):
        modalities = [str(m) for m in range(min(modalities, MOST + 1))]
    if isinstance(modalities, str | bool):
        raise MmeqError(f"modalities must be a number or a sequence of names, got {modalities!r}")
    names = tuple(modalities)
    if not names:
        raise MmeqError("an estimate needs at least one modality, got none")
    if len(set(names)) < len(names):
        raise MmeqError(f"modality names must differ, got {', '.join(names)}")
    return names


def choose(modalities: int, budget: int) -> tuple[str, str]:
    """Choose a Shapley estimator, by what `experiments/bench/estimators.py` measured.

    Args:
        modalities: number of modalities M.
        budget: most evaluations.

    Returns:
        Its name, and why.

    Raises:
        MmeqError: if no estimator serves that M with that budget.
    """
    every = 2**modalities
    if every <= budget:
        reason = f"all 2^{modalities} = {every} coalitions fit the budget of {budget}: exact"
        return ("exact" if modalities <= MAX_MODALITIES else "kernel"), reason
    short = f"2^{modalities} coalitions exceed the budget of {budget}"
    regression = max(
        REGRESSION_FROM * modalities, minimum_budget("regression_adjusted", modalities)
    )
    for name, least, why in (
        ("regression_adjusted", regression, "least error of the sampled estimators, unbiased"),
        ("antithetic", 0, "too few for a regression, enough for pairs of permutations"),
        ("permutation", 0, "the only one that serves so small a budget"),
    ):
        if budget >= max(least, minimum_budget(name, modalities)):
            return name, f"{short}; {why}"
    least = minimum_budget("auto", modalities)
    raise MmeqError(f"{modalities} modalities need a budget of at least {least}, got {budget}")


def estimate(
    value: Value,
    modalities: int | Sequence[str],
    estimator: str = "auto",
    budget: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Shapley (or Banzhaf) values of a game, with standard errors, within a budget.

    Args:
        value: from coalitions, bool [S, M], to their values, real [S]; called with many at once.
        modalities: their number M, or their names (which messages then use).
        estimator: one of `ESTIMATORS`.
        budget: most distinct coalitions to evaluate, the empty and the full one included; None:
            all of them up to 12 modalities, 4096 beyond.
        seed: seed of the sampling; equal arguments give equal numbers.

    Raises:
        MmeqError: for an unknown estimator, one that cannot serve that M, a budget below its
            minimum, or a value that is not finite.

    Examples:
        >>> found = estimate(lambda coalitions: coalitions.sum(1).double() ** 2, ["a", "b"])
        >>> found.phi.tolist(), found.estimator, found.evaluations
        ([2.0, 2.0], 'exact', 4)
    """
    names = _names(modalities)
    count = len(names)
    least = minimum_budget(estimator, count)
    if budget is None:
        budget = 2**count if count <= MAX_MODALITIES else DEFAULT_BUDGET
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise MmeqError(f"budget must be a whole number of coalitions, got {budget!r}")
    if budget < least:
        fitting = [name for name, module in _MODULES.items() if module.minimum(count) <= budget]
        instead = f", or use one of: {', '.join(fitting)}" if fitting else ""
        raise MmeqError(
            f"estimator={estimator} needs a budget of at least {least} coalitions for {count} "
            f"modalities, got budget={budget}: raise it to {least}{instead}"
        )
    chosen, reason = (estimator, "") if estimator != "auto" else choose(count, budget)
    game = Game(value, names, budget)
    if count == 1:  # nothing to sample: all estimators agree
        empty, full = game.ends()
        zero = torch.zeros(1, 1, dtype=torch.float64)
        found = game.result(zero[0] + (full - empty), zero, chosen, seed, 0)
    else:
        found = _MODULES[chosen].run(game, seed)
    return found.because(f"{chosen}: {reason}") if reason else found
