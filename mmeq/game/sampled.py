"""The game over more modalities than can be enumerated: features are kept, coalitions sampled.

Legend: N samples, M modalities, D width, S coalitions asked for, L coalitions listed in the report,
R draws, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mmeq.errors import MmeqError
from mmeq.game.bootstrap import gap_error, percentile_interval, resample_counts
from mmeq.game.certainty import rank_certainty
from mmeq.game.edm import edm, edm_normalised
from mmeq.game.estimators import estimate
from mmeq.game.metric import Shell, distinct_rows
from mmeq.game.report import GameReport
from mmeq.game.values import (
    METRICS,
    check_frequencies,
    check_labels,
    check_metric,
    constant_scores,
    exact_nll,
    f1_from_counts,
    sample_scores,
    utility,
)

Scorer = Callable[[list[Tensor], Tensor, Tensor], Tensor]
"""From features M × [N, D], present [N, M] and coalitions [S, M] to logits [S, N, C]."""

BUDGET = 1024
"""Coalitions evaluated a report, unless the caller says otherwise."""

DRAWS = 200
"""Bootstrap resamples of the samples."""

CHUNK = 64
"""Coalitions fused at a time."""


def listed_coalitions(modalities: int) -> Tensor:
    """Return the coalitions that a report lists: none, each alone, all but each, all; [L, M].

    Examples:
        >>> listed_coalitions(3).sum(1).tolist()
        [0, 1, 1, 1, 2, 2, 2, 3]
    """
    alone = torch.eye(modalities, dtype=torch.bool)
    none, every = torch.zeros(1, modalities, dtype=torch.bool), torch.ones(1, modalities).bool()
    return torch.cat([none, alone, ~alone, every])


class SampledGame(Shell):
    """Collects features and estimates the Shapley values of all modalities over them.

    Each encoder runs once a sample; coalitions are then fused from the features that were kept,
    as many as the budget allows. The features of all processes are gathered, so every process
    computes the same report as one process alone would.

    The standard errors of φ hold both noises, added in squares: of the sampled coalitions (as the
    estimator says) and of the samples (bootstrap; a resample's φ is read off the same coalitions
    by least squares under the efficiency constraint, so that nothing is estimated again).
    The Banzhaf values are NaN: they would take an estimate of their own.

    Args:
        modalities: M names.
        class_frequencies: counts or shares of the training labels, [C].
        dim: D, the width of the features.
        value: ``accuracy``, ``nll`` or ``macro_f1``.
        estimator: see `estimate`.
        budget: coalitions evaluated a report; None: `BUDGET`.
        seed: of the sampling.
        **kwargs: options of `torchmetrics.Metric`.
    """

    _STATES = ("feature", "present", "label", "index")

    feature: list[Tensor]
    present: list[Tensor]
    label: list[Tensor]
    index: list[Tensor]

    def __init__(
        self,
        modalities: Sequence[str],
        class_frequencies: Tensor,
        dim: int,
        value: str | Metric = "accuracy",
        estimator: str = "auto",
        budget: int | None = None,
        seed: int = 0,
        **kwargs: Any,  # noqa: ANN401  torchmetrics' own options
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(value, str):
            raise MmeqError(
                f"value: {type(value).__name__} is not summed over samples, which games of more "
                f"than 12 modalities need: use one of {', '.join(METRICS)}"
            )
        self.modalities, self.value, self.dim = tuple(modalities), check_metric(value), dim
        self.estimator, self.budget, self.seed = estimator, budget or BUDGET, seed
        self.class_frequencies = check_frequencies(class_frequencies).cpu().tolist()
        for name in self._STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._add_no_samples()

    def _add_no_samples(self) -> None:
        count = len(self.modalities)
        self.feature.append(torch.zeros(0, count, self.dim, device=self.device))
        self.present.append(torch.zeros(0, count, dtype=torch.uint8, device=self.device))
        self.label.append(torch.zeros(0, dtype=torch.int64, device=self.device))
        self.index.append(torch.zeros(0, dtype=torch.int64, device=self.device))

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self._add_no_samples()

    def update(
        self, features: Sequence[Tensor], present_BM: Tensor, label_B: Tensor, index_B: Tensor
    ) -> None:
        """Add a batch: features M × [B, D], who has what, labels, and which samples they are."""
        self.feature.append(torch.stack([row.detach().float() for row in features], dim=1))
        self.present.append(present_BM.to(torch.uint8))
        self.label.append(label_B.detach().long())
        self.index.append(index_B.detach().long())

    @property
    def coalitions_SM(self) -> Tensor:
        """The non-empty coalitions whose logits are worth keeping: those the report lists."""
        return listed_coalitions(len(self.modalities))[1:]

    def collect(
        self,
        logits_SBC: Tensor,
        features: Sequence[Tensor],
        present_BM: Tensor,
        label_B: Tensor,
        index_B: Tensor,
    ) -> None:
        """`update` under the signature that all games share."""
        self.update(features, present_BM, label_B, index_B)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gather: features [N, M, D], present bool [N, M] and labels [N], sorted by sample."""
        feature, present, label, index = (
            dim_zero_cat(getattr(self, name)) for name in self._STATES
        )
        row_N = distinct_rows(index)
        return feature[row_N], present[row_N].bool(), label[row_N]

    def report(self, scorer: Scorer) -> GameReport:
        """Estimate over all samples of all processes.

        Args:
            scorer: what fuses; called without gradients.
        """
        feature_NMD, present_NM, label_N = self.compute()
        rows = list(feature_NMD.unbind(1))
        self._table = _Table(
            lambda coalitions: scorer(rows, present_NM, coalitions),
            check_labels(label_N.cpu(), len(self.class_frequencies)),
            torch.tensor(self.class_frequencies, dtype=torch.float64),
        )
        return self._measure(self._table)

    @property
    def labels(self) -> Tensor:
        """Labels [N] of the samples of the last `report`, in the order of their index."""
        return self._table.label_N

    def replay(self, row_n: Tensor) -> GameReport:
        """Estimate again over some samples of the last `report`; nothing new is fused.

        Args:
            row_n: integer [n], places in `labels`.
        """
        return self._measure(self._table.part(row_n))

    def _measure(self, table: _Table) -> GameReport:
        return _measure(table, self.modalities, self.value, self.estimator, self.budget, self.seed)


class _Table:
    """Predictions and losses of every coalition that was asked for, each fused once."""

    def __init__(
        self, logits: Callable[[Tensor], Tensor], label_N: Tensor, class_frequencies: Tensor
    ) -> None:
        self.logits, self.label_N, self.frequencies = logits, label_N, class_frequencies
        self.classes = len(class_frequencies)
        constant_N, nll_N = constant_scores(class_frequencies, label_N)
        self.constant = (constant_N, nll_N)
        self.place: dict[tuple[bool, ...], int] = {}
        self.prediction: list[Tensor] = []
        self.nll: list[Tensor] = []

    def part(self, row_n: Tensor) -> _Table:
        """The same table of some samples."""
        logits = self.logits
        part = _Table(lambda rows: logits(rows)[:, row_n], self.label_N[row_n], self.frequencies)
        part.place = dict(self.place)
        part.prediction = [column[row_n] for column in self.prediction]
        part.nll = [column[row_n] for column in self.nll]
        return part

    def columns(self, coalitions_SM: Tensor) -> list[int]:
        """Columns of these coalitions, fusing those that are new."""
        keys = [tuple(row) for row in coalitions_SM.tolist()]
        # sorted, so that coalitions fused together share the beginnings of their walks
        new = sorted({key for key in keys if key not in self.place}, reverse=True)
        if new and not any(new[-1]):
            self._add(new.pop(), *self.constant)
        for start in range(0, len(new), CHUNK):
            part = new[start : start + CHUNK]
            logits_SNC = self.logits(torch.tensor(part, dtype=torch.bool))
            prediction_NS, nll_NS = sample_scores(logits_SNC, self.label_N.to(logits_SNC.device))
            for s, key in enumerate(part):
                self._add(key, prediction_NS[:, s].long().cpu(), nll_NS[:, s].double().cpu())
        return [self.place[key] for key in keys]

    def _add(self, key: tuple[bool, ...], prediction_N: Tensor, nll_N: Tensor) -> None:
        self.place[key] = len(self.prediction)
        self.prediction.append(prediction_N)
        self.nll.append(exact_nll(nll_N))

    def values(self, metric: str, columns: list[int], weight_RN: Tensor) -> Tensor:
        """The metric of some columns under sample weights: float64 [R, len(columns)]."""
        total_R1 = weight_RN.sum(1, keepdim=True)
        if metric == "nll":
            return weight_RN @ torch.stack([self.nll[k] for k in columns], 1) / total_R1
        prediction_NS = torch.stack([self.prediction[k] for k in columns], 1)
        if metric == "accuracy":
            return weight_RN @ (prediction_NS == self.label_N[:, None]).double() / total_R1
        counts = []
        for c in range(self.classes):
            is_c_N, says_c_NS = self.label_N == c, prediction_NS == c
            hit_RS = weight_RN @ (says_c_NS & is_c_N[:, None]).double()
            actual_RS = (weight_RN @ is_c_N.double())[:, None].expand_as(hit_RS)
            counts.append((hit_RS, weight_RN @ says_c_NS.double(), actual_RS))
        hit, said, actual = (torch.stack(parts, -1) for parts in zip(*counts, strict=True))
        return f1_from_counts(hit, said, actual)


def _sample_noise(table: _Table, value: str, weight_RN: Tensor) -> Tensor:
    """Covariance [M, M] of φ over resamples of the samples.

    Each resample's φ solves min Σ_S (v(S) − v(∅) − Σ_{m∈S} φ_m)² over the coalitions evaluated,
    with Σφ = v(all) − v(∅).
    """
    rows = list(table.place)
    members_SM = torch.tensor(rows, dtype=torch.float64)
    values_RS = table.values(value, [table.place[row] for row in rows], weight_RN)
    size_S = members_SM.sum(1)
    gain_RS = values_RS - values_RS[:, size_S == 0]
    whole_R = gain_RS[:, size_S == len(rows[0])].squeeze(1)
    inverse_MM = torch.linalg.pinv(members_SM.T @ members_SM)
    free_RM = gain_RS @ members_SM @ inverse_MM
    along_M = inverse_MM.sum(1) / inverse_MM.sum()
    phi_RM = free_RM + (whole_R - free_RM.sum(1))[:, None] * along_M
    return torch.cov(phi_RM.T)


def _measure(
    table: _Table, names: tuple[str, ...], value: str, estimator: str, budget: int, seed: int
) -> GameReport:
    """Estimate on the samples as they are, and again on resamples of them."""
    samples, higher = len(table.label_N), value != "nll"
    once_1N = torch.ones(1, samples, dtype=torch.float64)

    def play(weight_1N: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda coalitions: utility(
            table.values(value, table.columns(coalitions), weight_1N)[0], higher
        )

    found = estimate(play(once_1N), names, estimator, budget, seed)
    weight_RN = torch.cat(list(resample_counts(samples, DRAWS, seed)))
    covariance = _sample_noise(table, value, weight_RN) + found.cov
    spread = torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(names)).double())
    noise = torch.randn(
        1000, len(names), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    drawn_M = found.phi + noise @ spread.T
    low_M, high_M = percentile_interval(drawn_M)
    edm_low, edm_high = percentile_interval(edm(drawn_M, warn=False))
    order_certainty, weakest_certainty = rank_certainty(found.phi, drawn_M)
    listed_LM = listed_coalitions(len(names))
    columns = table.columns(listed_LM)
    values = {metric: table.values(metric, columns, once_1N)[0] for metric in METRICS}
    drawn = {metric: table.values(metric, columns, weight_RN) for metric in METRICS}
    ends = {metric: percentile_interval(draws_RL) for metric, draws_RL in drawn.items()}
    value_low, value_high = percentile_interval(utility(drawn[value], higher))
    return GameReport(
        modalities=names,
        value=value,
        coalitions=listed_LM,
        values=values,
        phi=found.phi,
        phi_se=covariance.diagonal().sqrt(),
        phi_low=low_M,
        phi_high=high_M,
        edm=edm(found.phi).item(),
        edm_low=edm_low.item(),
        edm_high=edm_high.item(),
        edm_normalised=edm_normalised(found.phi, warn=False).item(),
        banzhaf=torch.full_like(found.phi, torch.nan),
        gap_se=gap_error(drawn_M),
        alone_gap_se=gap_error(drawn[value][:, 1 : 1 + len(names)]),
        banzhaf_gap_se=found.phi.new_full((len(names), len(names)), torch.nan),
        value_low=value_low,
        value_high=value_high,
        full_low={metric: low[-1].item() for metric, (low, _) in ends.items()},
        full_high={metric: high[-1].item() for metric, (_, high) in ends.items()},
        samples=samples,
        higher_is_better=higher,
        order_certainty=order_certainty,
        weakest_certainty=weakest_certainty,
        estimator=found.estimator,
        evaluations=found.evaluations,
        reason=found.reason,
    )
