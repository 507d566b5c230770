"""Sampled orders: antithetic pairs, a standard error, and an end for each sample when it is sure.

Shape suffixes: B batch, M modalities, C classes, S coalitions, P pairs of orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeq.collective import add_over_ranks
from mmeq.fusions.base import Fusion
from mmeq.fusions.tree import coalition_tree
from mmeq.inference.base import Strategy


@dataclass(frozen=True)
class Estimate:
    """A sampled answer.

    Attributes:
        logits_SBC: mean over the pairs that each (coalition, sample) has used.
        error_SBC: standard error of these means; 0 where all M! orders were used.
        used_SB: orders used.
    """

    logits_SBC: Tensor
    error_SBC: Tensor
    used_SB: Tensor


class Sampled(Strategy):
    """The mean over K orders in antithetic pairs, fewer for a sample that is sure [ours].

    With m_p the mean logits of pair p (an order and its reverse), drawn without replacement from
    the M!/2 pairs: the answer is their mean over P pairs, with standard error

        se = sd_p(m_p) · √((1 − P / (M!/2)) / P).

    After 2, 4, 8, … pairs a sample stops if the margin of its two top classes is at least
    `certainty` standard errors of their difference. Few looks, since each is another chance to
    stop by luck. The rule sees one coalition of one sample: no batch mate moves it. Only samples
    that some coalition still needs are walked on. Where K reaches all M! orders, nothing is
    sampled: the answer is hybrid's, its error 0.
    """

    def follow(self, order: Sequence[int]) -> None:
        """The orders depend on M and the seed alone."""
        super().follow(order)
        self.population = math.factorial(len(order)) // 2
        self.exact = len(order) < 2 or len(self.orders) == math.factorial(len(order))
        self.reset()

    def rounds(self) -> Iterator[tuple[int, int]]:
        """First and last pair of each walk; a look follows each."""
        pairs, done = max(1, len(self.orders) // 2), 0
        at_once = self.exact or self.options.certainty is None
        while done < pairs:
            upto = pairs if at_once else min(pairs, max(2, 2 * done))
            yield done, upto
            done = upto

    def answer(
        self,
        fusion: Fusion,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        present_BM: Tensor | None = None,
        ids: Sequence[str] | None = None,
    ) -> Tensor:
        """Logits [S, B, C]; counts what the coalition of all modalities has used."""
        if not fusion.ordered:
            return super().answer(fusion, features, coalitions_SM, present_BM)
        estimate = self.estimate(fusion, features, coalitions_SM, present_BM)
        full_S = coalitions_SM.all(1)
        if bool(full_S.any()):
            row = int(full_S.nonzero()[0])
            ends = torch.tensor([min(2 * stop, len(self.orders)) for _, stop in self.rounds()])
            stopped = (estimate.used_SB[row].cpu()[:, None] == ends).sum(0)
            error = estimate.error_SBC[row].double().mean(1).sum().cpu()
            self.counted += torch.cat([error[None], stopped.double()])
        return estimate.logits_SBC

    def estimate(
        self,
        fusion: Fusion,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        present_BM: Tensor | None = None,
    ) -> Estimate:
        """The answer with its standard errors and the number of orders used."""
        batch, device = len(features[0]), features[0].device
        if self.exact:
            logits_SBC = fusion(features, coalitions_SM, self.orders, present_BM)
            used_SB = torch.full(logits_SBC.shape[:2], len(self.orders), device=device)
            return Estimate(logits_SBC, torch.zeros_like(logits_SBC), used_SB)
        pairs = len(self.orders) // 2
        active_SB = torch.ones(len(coalitions_SM), batch, dtype=torch.bool, device=device)
        used_SB = torch.zeros(len(coalitions_SM), batch, dtype=torch.int64, device=device)
        shape = (pairs, len(coalitions_SM), batch, fusion.classes)
        mean_PSBC = torch.zeros(shape, device=device)
        for start, stop in self.rounds():
            row_b = active_SB.any(0).nonzero().squeeze(1)
            if not len(row_b):
                break
            logits = fusion.per_order(
                [feature[row_b] for feature in features],
                coalitions_SM,
                self.orders[2 * start : 2 * stop],
                None if present_BM is None else present_BM[row_b],
            )
            mean = logits.unflatten(0, (stop - start, 2)).mean(1)
            mean_PSBC[start:stop, :, row_b] = mean.to(mean_PSBC.dtype)
            used_SB[active_SB] = stop
            if self.options.certainty is not None:
                active_SB &= ~self._certain(mean_PSBC[:stop])
        taken_PSB = torch.arange(pairs, device=device)[:, None, None] < used_SB
        weight_PSB1 = (taken_PSB / used_SB)[..., None].to(mean_PSBC)
        logits_SBC = (weight_PSB1 * mean_PSBC).sum(0)
        square_SBC = (weight_PSB1 * (mean_PSBC - logits_SBC).square()).sum(0)
        return Estimate(
            logits_SBC, self._error(square_SBC, used_SB[..., None].to(square_SBC)), 2 * used_SB
        )

    def _certain(self, mean_PSBC: Tensor) -> Tensor:
        """Whether the two top classes are told apart, [S, B]; only looked at where still active."""
        pairs = len(mean_PSBC)
        if mean_PSBC.shape[-1] < 2:
            return mean_PSBC.new_ones(mean_PSBC.shape[1:3], dtype=torch.bool)
        top_SB2 = mean_PSBC.mean(0).topk(2, dim=-1).indices
        both_PSB2 = mean_PSBC.gather(-1, top_SB2.expand(pairs, *top_SB2.shape))
        margin_PSB = both_PSB2[..., 0] - both_PSB2[..., 1]
        count = margin_PSB.new_tensor(float(pairs))
        error_SB = self._error(margin_PSB.var(0, correction=0), count)
        return margin_PSB.mean(0) >= self.options.certainty * error_SB

    def _error(self, square: Tensor, pairs: Tensor) -> Tensor:
        """Standard error of a mean over pairs from their mean squared deviation."""
        left = (1 - pairs / self.population).clamp_min(0)
        return (square / (pairs - 1).clamp_min(1) * left).sqrt()

    def cells(self, coalitions_SM: Tensor) -> float:
        """Mean cells a sample, given where samples stopped since `reset` (else at the end)."""
        if self.exact:
            return super().cells(coalitions_SM)
        total, stopped = 0.0, self.counted[1:]
        for number, (start, stop) in enumerate(self.rounds()):
            part = coalition_tree(coalitions_SM, self.orders[2 * start : 2 * stop]).cells
            walked = float(stopped[number:].sum() / stopped.sum()) if stopped.any() else 1.0
            total += part * walked
        return total

    def reset(self) -> None:
        """Forget what was counted."""
        self.counted = torch.zeros(1 + len(list(self.rounds())), dtype=torch.float64)

    def facts(self) -> dict[str, float]:
        """Mean orders used a sample, and mean standard error of its logits."""
        counted = self.counted.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            nccl = torch.distributed.get_backend() == "nccl"
            counted = counted.cuda() if nccl else counted
            add_over_ranks([counted])
        error, *stopped = counted.tolist()
        if not sum(stopped):
            return {}
        used = sum(2 * stop * n for (_, stop), n in zip(self.rounds(), stopped, strict=True))
        mean = len(self.orders) if self.exact else used / sum(stopped)
        return {"orders": mean, "of": len(self.orders), "error": error / sum(stopped)}
