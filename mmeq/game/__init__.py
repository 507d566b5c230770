"""The game over modalities: coalitions, exact Shapley values, EDM, intervals; knows no trainer."""

from mmeq.game.bootstrap import bootstrap_draws, percentile_interval, standard_error
from mmeq.game.capacity import CapacityReport, measure_capacity
from mmeq.game.coalitions import (
    MAX_MODALITIES,
    all_coalitions,
    coalition_index,
    coalition_members,
    coalition_name,
    coalition_names,
)
from mmeq.game.edm import edm, edm_capacity, edm_normalised
from mmeq.game.estimators import (
    ESTIMATORS,
    Estimate,
    RankCertainty,
    estimate,
    minimum_budget,
    rank_certainty,
)
from mmeq.game.measure import measure_game
from mmeq.game.metric import CoalitionAccuracy, CoalitionGame
from mmeq.game.order import kendall_tau, next_order
from mmeq.game.per_sample import sample_shapley
from mmeq.game.predictions import measure_predictions, read_predictions, write_predictions
from mmeq.game.report import GameReport
from mmeq.game.shapley import banzhaf_values, shapley_values, shapley_weights
from mmeq.game.values import METRICS, accuracy, empty_values, macro_f1, mean_nll, sample_scores

__all__ = [
    "ESTIMATORS",
    "MAX_MODALITIES",
    "METRICS",
    "CapacityReport",
    "CoalitionAccuracy",
    "CoalitionGame",
    "Estimate",
    "GameReport",
    "RankCertainty",
    "accuracy",
    "all_coalitions",
    "banzhaf_values",
    "bootstrap_draws",
    "coalition_index",
    "coalition_members",
    "coalition_name",
    "coalition_names",
    "edm",
    "edm_capacity",
    "edm_normalised",
    "empty_values",
    "estimate",
    "kendall_tau",
    "macro_f1",
    "mean_nll",
    "measure_capacity",
    "measure_game",
    "measure_predictions",
    "minimum_budget",
    "next_order",
    "percentile_interval",
    "rank_certainty",
    "read_predictions",
    "sample_scores",
    "sample_shapley",
    "shapley_values",
    "shapley_weights",
    "standard_error",
    "write_predictions",
]
