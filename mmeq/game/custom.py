"""A game played for any torchmetrics metric.

Legend: N samples, S = 2^M - 1 non-empty coalitions, V = 2^M coalitions (row 0 empty), C classes,
r draws of one chunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from mmeq.errors import MmeqError

CUSTOM_DRAWS = 200
"""Bootstrap resamples for a metric that must be computed anew for each coalition and resample."""


class CustomValue:
    """v(S) by a torchmetrics metric of class probabilities and labels [ours].

    v(empty) is the metric of the best constant predictor: the training frequencies for everyone.
    The metric is computed once for each coalition and bootstrap resample, so there are fewer
    resamples (`CUSTOM_DRAWS`) than for the metrics that are sums over samples.

    Args:
        metric: takes probabilities [N, C] and labels [N], gives one number.
        classes: C, for a trial on made-up samples.

    Attributes:
        name: of the metric in every record, such as ``multiclass_auroc``.
        higher_is_better: as the metric says; the game is played for minus a metric where less is
            better.

    Raises:
        MmeqError: for a metric that does not say which way is better, or that does not give one
            number for C classes.

    Examples:
        >>> from torchmetrics.classification import MulticlassAccuracy
        >>> value = CustomValue(MulticlassAccuracy(num_classes=3, average="micro"), 3)
        >>> value.name, value(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 2]))
        ('multiclass_accuracy', 0.6666666865348816)
    """

    def __init__(self, metric: Metric, classes: int) -> None:
        self.metric = metric
        self.name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(metric).__name__).lower()
        if metric.higher_is_better is None:
            raise MmeqError(
                f"value: {type(metric).__name__} does not say whether more of it is better, so no "
                "game can be played for it"
            )
        self.higher_is_better = bool(metric.higher_is_better)
        label_N = torch.arange(classes).repeat(3)
        probability_NC = torch.nn.functional.one_hot(label_N.roll(1), classes).float()
        try:
            number = self(probability_NC * 0.9 + 0.1 / classes, label_N)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise MmeqError(
                f"value: {type(metric).__name__} does not take probabilities [N, {classes}] and "
                f"labels [N]: {str(error).splitlines()[0]}"
            ) from error
        if not isinstance(number, float):
            raise MmeqError(
                f"value: {type(metric).__name__} gives {len(number)} numbers, not one: choose its "
                "average"
            )

    def __call__(self, probability_NC: Tensor, label_N: Tensor) -> float | list[float]:
        """Compute the metric of one coalition: a number (a list if the metric gives several)."""
        self.metric.reset()
        self.metric.update(probability_NC, label_N)
        result = torch.as_tensor(self.metric.compute())
        self.metric.reset()
        return result.item() if result.numel() == 1 else result.flatten().tolist()

    def values(self, probability_NVC: Tensor, label_N: Tensor) -> Tensor:
        """Compute the metric of every coalition: float64 [V]."""
        numbers = [self(row, label_N) for row in probability_NVC.unbind(1)]
        return torch.tensor(numbers, dtype=torch.float64)

    def statistic(self, probability_NVC: Tensor, label_N: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from counts [r, N] to values [r, V], for `bootstrap_draws`."""

        def draw(counts_rN: Tensor) -> Tensor:
            rows = [counts_N.long() for counts_N in counts_rN]
            drawn = [torch.arange(len(label_N)).repeat_interleave(row_N) for row_N in rows]
            return torch.stack([self.values(probability_NVC[n], label_N[n]) for n in drawn])

        return draw


def with_constant(probability_NSC: Tensor, class_frequencies: Tensor) -> Tensor:
    """Put the best constant predictor before the coalitions: [N, V, C]."""
    share_C = (class_frequencies / class_frequencies.sum()).to(probability_NSC)
    constant = share_C.expand(len(probability_NSC), 1, -1)
    return torch.cat([constant, probability_NSC], 1)
