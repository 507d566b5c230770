"""Which game measures a model: exact over all coalitions, or estimated over sampled ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric

from mmeq.errors import MmeqError
from mmeq.game.coalitions import MAX_MODALITIES
from mmeq.game.estimators import ESTIMATORS, minimum_budget
from mmeq.game.metric import CoalitionGame
from mmeq.game.sampled import BUDGET, SampledGame


def is_exact(modalities: int, estimator: str) -> bool:
    """Say whether all coalitions are evaluated: ``exact``, or ``auto`` up to 12 modalities."""
    return estimator == "exact" or (estimator == "auto" and modalities <= MAX_MODALITIES)


def check_estimator(modalities: int, estimator: str, budget: int | None) -> None:
    """Refuse an estimator that cannot serve that many modalities, or a budget too small for it.

    Raises:
        MmeqError: says what would work.
    """
    if estimator == "banzhaf":
        raise MmeqError(
            "estimator=banzhaf gives Banzhaf, not Shapley values, which EDM and the report are "
            f"about; use one of: {', '.join(name for name in ESTIMATORS if name != 'banzhaf')}"
        )
    least = minimum_budget(estimator, modalities)
    if is_exact(modalities, estimator):
        if budget is not None and budget < 2**modalities:
            raise MmeqError(
                f"budget={budget}: estimator={estimator} evaluates all 2^{modalities} = "
                f"{2**modalities} coalitions; leave the budget out (null), or choose a sampled "
                "estimator such as estimator=regression_adjusted"
            )
        return
    if (budget if budget is not None else BUDGET) < least:
        raise MmeqError(
            f"budget={budget}: estimator={estimator} needs at least {least} coalitions for "
            f"{modalities} modalities; raise it"
        )


def make_game(
    modalities: Sequence[str],
    class_frequencies: Tensor,
    dim: int,
    value: str | Metric = "accuracy",
    estimator: str = "auto",
    budget: int | None = None,
    seed: int = 0,
) -> CoalitionGame | SampledGame:
    """Choose the game: the exact one where all coalitions can be evaluated, else a sampled one.

    Args:
        modalities: M names.
        class_frequencies: counts or shares of the training labels, [C].
        dim: D, the width of the features that a sampled game keeps.
        value: what the game is played for.
        estimator: ``auto`` is exact up to 12 modalities.
        budget: coalitions that a sampled game evaluates; None for its default.
        seed: of resampling and sampling.

    Raises:
        MmeqError: as `check_estimator`, and for options that the games refuse.
    """
    check_estimator(len(modalities), estimator, budget)
    if is_exact(len(modalities), estimator):
        return CoalitionGame(modalities, class_frequencies, value=value, seed=seed)
    return SampledGame(modalities, class_frequencies, dim, value, estimator, budget, seed)
