"""Plays the game: from per-sample predictions of all coalitions to a report.

Legend: N samples, S = 2^M - 1 non-empty coalitions, V = 2^M coalitions (row 0 empty), M modalities,
R draws, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.bootstrap import (
    bootstrap_draws,
    check_draws,
    f1_statistic,
    gap_error,
    mean_statistic,
    percentile_interval,
    standard_error,
)
from mmeq.game.certainty import rank_certainty
from mmeq.game.coalitions import all_coalitions, check_names, coalition_names
from mmeq.game.custom import CUSTOM_DRAWS, CustomValue, with_constant
from mmeq.game.edm import edm, edm_normalised
from mmeq.game.report import GameReport
from mmeq.game.shapley import banzhaf_values, shapley_values
from mmeq.game.values import (
    METRICS,
    accuracy,
    check_labels,
    check_metric,
    constant_scores,
    exact_nll,
    macro_f1,
    mean_nll,
    utility,
)


def _check_scores(
    names: tuple[str, ...], prediction_NS: Tensor, nll_NS: Tensor, label_N: Tensor, classes: int
) -> None:
    shape = (len(label_N), 2 ** len(names) - 1)
    if tuple(prediction_NS.shape) != shape or tuple(nll_NS.shape) != shape:
        raise MmeqError(
            f"expected predictions and losses of shape {shape} (samples, non-empty coalitions), "
            f"got {tuple(prediction_NS.shape)} and {tuple(nll_NS.shape)}"
        )
    if bool((prediction_NS < 0).any()) or bool((prediction_NS >= classes).any()):
        raise MmeqError(f"a prediction is outside the classes 0..{classes - 1}")
    bad_S = (~torch.isfinite(nll_NS)).sum(0)
    if bool(bad_S.any()):
        worst = int(bad_S.argmax())
        raise MmeqError(
            f"{int(bad_S[worst])} of {len(label_N)} samples have a NaN or infinite loss under "
            f"coalition {coalition_names(names)[worst + 1]}"
        )


def measure_game(
    modalities: Sequence[str],
    prediction_NS: Tensor,
    nll_NS: Tensor,
    label_N: Tensor,
    class_frequencies: Tensor,
    *,
    value: str = "accuracy",
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    custom: CustomValue | None = None,
    probability_NSC: Tensor | None = None,
) -> GameReport:
    r"""Values of all coalitions, exact Shapley values and EDM, with bootstrap intervals [ours].

    v(S) is the metric under coalition S, v(empty) that of the best constant predictor (see
    `values.constant_scores`), both on these samples. The bootstrap resamples samples, the same
    ones for all coalitions and metrics, so differences between coalitions keep their correlation.
    The result depends on the set of rows and their order alone.

    Args:
        modalities: M names.
        prediction_NS: predicted class, integer [N, S]; column s is coalition s + 1 in binary order.
        nll_NS: negative log-likelihood, real [N, S], in nats.
        label_N: integer [N].
        class_frequencies: counts or shares of the training labels, [C].
        value: metric that the game is played for.
        draws: resamples R.
        level: coverage of the intervals.
        seed: seed of the resampling.
        custom: a metric of one's own to play for, in place of `value`.
        probability_NSC: class probabilities, real [N, S, C], for `custom`.

    Raises:
        MmeqError: for wrong names, shapes or options, no sample, labels or predictions outside the
            classes, losses that are not finite, or a label that training never saw.
    """
    names = check_names(modalities)
    if custom is None:
        check_metric(value)
    check_draws(draws, level)
    classes = len(class_frequencies)
    prediction_NS, nll_NS, class_frequencies = (
        data.detach().cpu() for data in (prediction_NS, nll_NS, class_frequencies)
    )
    label_N = check_labels(label_N.detach().cpu(), classes)
    _check_scores(names, prediction_NS, nll_NS, label_N, classes)

    constant_N, constant_nll_N = constant_scores(class_frequencies, label_N)
    prediction_NV = torch.cat([constant_N[:, None].to(prediction_NS.dtype), prediction_NS], 1)
    nll_NV = torch.cat([constant_nll_N[:, None], nll_NS.double()], 1)
    values = {
        "accuracy": accuracy(prediction_NV, label_N),
        "nll": mean_nll(nll_NV),
        "macro_f1": macro_f1(prediction_NV, label_N, classes),
    }
    metrics = list(METRICS)
    if custom is not None:
        if probability_NSC is None:
            raise MmeqError(f"the value {custom.name} needs the class probabilities")
        value, draws = custom.name, min(draws, CUSTOM_DRAWS)
        probability_NVC = with_constant(probability_NSC.detach().cpu().float(), class_frequencies)
        values[value] = custom.values(probability_NVC, label_N)
        metrics.append(value)
    higher = value != "nll" if custom is None else custom.higher_is_better
    game_V = utility(values[value], higher)

    # One pass over the resamples: all coalitions of the game's metric, the full one of each other.
    columns = {metric: slice(None) if metric == value else slice(-1, None) for metric in metrics}
    statistics = {
        "accuracy": mean_statistic(prediction_NV[:, columns["accuracy"]] == label_N[:, None]),
        "nll": mean_statistic(exact_nll(nll_NV[:, columns["nll"]])),
        "macro_f1": f1_statistic(prediction_NV[:, columns["macro_f1"]], label_N, classes),
    }
    if custom is not None:
        statistics[value] = custom.statistic(probability_NVC, label_N)
    widths = [len(game_V) if metric == value else 1 for metric in metrics]
    ends = tuple(accumulate(widths[:-1]))
    drawn_RK = bootstrap_draws(
        lambda counts: torch.cat([statistics[metric](counts) for metric in metrics], 1),
        len(label_N),
        draws,
        seed,
    )
    drawn = dict(zip(metrics, drawn_RK.tensor_split(ends, 1), strict=True))
    game_RV = utility(drawn[value], higher)
    phi_RM = shapley_values(game_RV)
    edm_R = edm(phi_RM, warn=False)

    phi_M = shapley_values(game_V)
    phi_low_M, phi_high_M = percentile_interval(phi_RM, level)
    order_certainty, weakest_certainty = rank_certainty(phi_M, phi_RM)
    edm_low, edm_high = percentile_interval(edm_R, level)
    value_low_V, value_high_V = percentile_interval(game_RV, level)
    full_ends = {
        metric: percentile_interval(columns_RK[:, -1], level)
        for metric, columns_RK in drawn.items()
    }
    return GameReport(
        modalities=names,
        value=value,
        coalitions=all_coalitions(len(names)),
        values=values,
        phi=phi_M,
        phi_se=standard_error(phi_RM),
        phi_low=phi_low_M,
        phi_high=phi_high_M,
        edm=edm(phi_M).item(),
        edm_low=edm_low.item(),
        edm_high=edm_high.item(),
        edm_normalised=edm_normalised(phi_M, warn=False).item(),
        banzhaf=banzhaf_values(game_V),
        gap_se=gap_error(phi_RM),
        alone_gap_se=gap_error(game_RV[:, [2**m for m in range(len(names))]]),
        banzhaf_gap_se=gap_error(banzhaf_values(game_RV)),
        value_low=value_low_V,
        value_high=value_high_V,
        full_low={metric: low.item() for metric, (low, _) in full_ends.items()},
        full_high={metric: high.item() for metric, (_, high) in full_ends.items()},
        samples=len(label_N),
        higher_is_better=higher,
        evaluations=len(game_V),
        order_certainty=order_certainty,
        weakest_certainty=weakest_certainty,
    )
