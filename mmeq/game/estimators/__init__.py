"""Shapley and Banzhaf values from few coalitions: `estimate` is the front door."""

from mmeq.game.estimators.base import Estimate, Game, Value
from mmeq.game.estimators.certainty import RankCertainty, rank_certainty
from mmeq.game.estimators.front import (
    DEFAULT_BUDGET,
    ESTIMATORS,
    choose,
    estimate,
    minimum_budget,
)

__all__ = [
    "DEFAULT_BUDGET",
    "ESTIMATORS",
    "Estimate",
    "Game",
    "RankCertainty",
    "Value",
    "choose",
    "estimate",
    "minimum_budget",
    "rank_certainty",
]
