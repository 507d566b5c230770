"""Balance against capacity: EDM with each modality's target set by a model trained on it alone.

Legend: N samples, S = 2^M - 1 non-empty coalitions, V = 2^M coalitions, M modalities, R draws,
C classes, K columns: V coalitions and then M models of one modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from mmeq.errors import MmeqError
from mmeq.game.bootstrap import bootstrap_draws, f1_statistic, mean_statistic, percentile_interval
from mmeq.game.custom import CUSTOM_DRAWS, CustomValue, with_constant
from mmeq.game.edm import TINY, edm_capacity
from mmeq.game.predictions import Arrays, binary_logits
from mmeq.game.shapley import shapley_values
from mmeq.game.values import check_metric, constant_scores, exact_nll, sample_scores, utility


@dataclass(frozen=True, eq=False)
class CapacityReport:
    """What each modality can give, and how far the fused model is from sharing by it.

    Attributes:
        modalities: their names.
        value: the metric that the game is played for.
        capacity: value above v(empty) of the model trained on each modality alone, float64 [M].
        capacity_low: lower ends of its interval.
        capacity_high: upper ends.
        target: shares of the capacities [M]; NaN where there is none.
        edm: capacity-adjusted EDM, percent; NaN where it is undefined.
        edm_low: lower end of its interval.
        edm_high: upper end.
        samples: how many samples were compared.
    """

    modalities: tuple[str, ...]
    value: str
    capacity: Tensor
    capacity_low: Tensor
    capacity_high: Tensor
    target: Tensor
    edm: float
    edm_low: float
    edm_high: float
    samples: int


def measure_capacity(
    fused: Arrays,
    alone: Mapping[str, Arrays],
    class_frequencies: Tensor,
    *,
    value: str | Metric = "accuracy",
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> CapacityReport:
    r"""Capacity-adjusted EDM (see `edm.edm_capacity`) with bootstrap intervals [ours].

    The capacity of modality m is :math:`c_m = v_m(\{m\}) - v(\emptyset)`, with v_m the value that
    the model trained on m alone reaches on the same samples. The samples, paired by id, are drawn
    once for the fused model and all models of one modality, so an interval takes the uncertainty
    of both and their correlation.

    Args:
        fused: arrays of the fused model's predictions file.
        alone: modality → arrays of the predictions of the model trained on it alone.
        class_frequencies: counts or shares of the training labels, [C].
        value: metric that the game is played for.
        draws: resamples R.
        level: coverage of the intervals.
        seed: of the resampling.

    Raises:
        MmeqError: when a modality has no model, or the samples or labels are not the same.
    """
    names = tuple(str(name) for name in fused["modalities"])
    lost = [name for name in names if name not in alone]
    if lost:
        raise MmeqError(f"no model was trained on {', '.join(lost)} alone: its capacity is unknown")
    ids, labels = fused["ids"], np.asarray(fused["labels"])
    known = np.flatnonzero(labels >= 0)
    if len(known) == 0:
        raise MmeqError("no sample of these predictions has a label: there is no capacity")
    columns = [binary_logits(fused)[known]]
    columns += [_paired(alone[name], name, ids[known], labels[known]) for name in names]
    logits_NKC = torch.cat(columns, 1)  # without the empty coalition so far
    label_N = torch.from_numpy(labels[known].astype(np.int64))
    metric, higher, point_K, drawn_RK = _draw(
        logits_NKC, label_N, class_frequencies, value, draws, seed
    )
    game_K, game_RK = utility(point_K, higher), utility(drawn_RK, higher)
    count = 2 ** len(names)
    capacity_M = game_K[count:] - game_K[0]
    capacity_RM = game_RK[:, count:] - game_RK[:, :1]
    edm_R = edm_capacity(shapley_values(game_RK[:, :count]), capacity_RM, warn=False)
    low_M, high_M = percentile_interval(capacity_RM, level)
    low, high = percentile_interval(edm_R, level)
    positive_M = capacity_M.clamp(min=0)
    total = positive_M.sum()
    return CapacityReport(
        modalities=names,
        value=metric,
        capacity=capacity_M,
        capacity_low=low_M,
        capacity_high=high_M,
        target=torch.where(total > TINY, positive_M / total, torch.nan),
        edm=edm_capacity(shapley_values(game_K[:count]), capacity_M).item(),
        edm_low=low.item(),
        edm_high=high.item(),
        samples=len(known),
    )


def _paired(alone: Arrays, name: str, ids: np.ndarray, labels: np.ndarray) -> Tensor:
    """Logits [N, 1, C] of one modality alone, on the given samples in their order."""
    place = {one: row for row, one in enumerate(alone["ids"].tolist())}
    strangers = [one for one in ids.tolist() if one not in place]
    if strangers:
        raise MmeqError(
            f"the model trained on {name} alone has no prediction of {len(strangers)} samples, "
            f"such as {strangers[0]!r}: compare it on the same split of the same data"
        )
    rows = [place[one] for one in ids.tolist()]
    if not np.array_equal(np.asarray(alone["labels"])[rows], labels):
        raise MmeqError(f"the model trained on {name} alone was given other labels")
    names = [str(each) for each in alone["modalities"]]
    wanted = [each == name for each in names]
    coalition = np.flatnonzero((np.asarray(alone["coalitions"]) == wanted).all(1))
    if name not in names or len(coalition) != 1:
        raise MmeqError(f"the model trained on {name} alone does not predict from {name} alone")
    logits = np.asarray(alone["logits"], dtype=np.float32)[rows]
    return torch.from_numpy(logits[:, coalition])


def _draw(
    logits_NKC: Tensor,
    label_N: Tensor,
    class_frequencies: Tensor,
    value: str | Metric,
    draws: int,
    seed: int,
) -> tuple[str, bool, Tensor, Tensor]:
    """The metric's name, whether more is better, its values [K] and draws [R, K] of them."""
    frequencies_C = torch.as_tensor(class_frequencies).double()
    if isinstance(value, Metric):
        custom = CustomValue(value, len(frequencies_C))
        probability_NKC = with_constant(logits_NKC.float().softmax(-1), frequencies_C)
        statistic = custom.statistic(probability_NKC, label_N)
        name, higher, draws = custom.name, custom.higher_is_better, min(draws, CUSTOM_DRAWS)
    else:
        name, higher = check_metric(value), value != "nll"
        constant_N, constant_nll_N = constant_scores(frequencies_C, label_N)
        prediction_NK, nll_NK = sample_scores(logits_NKC.transpose(0, 1), label_N)
        prediction_NK = torch.cat([constant_N[:, None], prediction_NK.long()], 1)
        if name == "nll":
            statistic = mean_statistic(
                exact_nll(torch.cat([constant_nll_N[:, None], nll_NK.double()], 1))
            )
        elif name == "accuracy":
            statistic = mean_statistic(prediction_NK == label_N[:, None])
        else:
            statistic = f1_statistic(prediction_NK, label_N, len(frequencies_C))
    once_1N = torch.ones(1, len(label_N), dtype=torch.float64)
    drawn_RK = bootstrap_draws(statistic, len(label_N), draws, seed)
    return name, higher, statistic(once_1N)[0], drawn_RK


def paired_difference(
    hit_N: Sequence[bool] | np.ndarray,
    other_N: Sequence[bool] | np.ndarray,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of hit - other with its bootstrap interval over the same samples.

    Args:
        hit_N: right or wrong, one a sample.
        other_N: the same samples, judged by another model.
        draws: resamples.
        level: coverage.
        seed: of the resampling.

    Returns:
        Difference of the means, lower and upper end.
    """
    column_N1 = torch.as_tensor(np.asarray(hit_N, float) - np.asarray(other_N, float))[:, None]
    drawn_R1 = bootstrap_draws(mean_statistic(column_N1), len(column_N1), draws, seed)
    low_1, high_1 = percentile_interval(drawn_R1, level)
    return column_N1.mean().item(), low_1.item(), high_1.item()
