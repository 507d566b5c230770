"""What any order could give: the oracle, what chance gives an oracle, and the part that is closed.

Shape suffixes: N samples, K orders, U distinct rows of right and wrong, G grid of abilities,
R draws, r draws of one chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.bootstrap import percentile_interval, resample_counts

ABILITY = 12.0
STEPS, REFITS = 400, 30


@dataclass(frozen=True)
class Figure:
    """A number with its bootstrap interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Unlockable:
    """The any-order oracle of a set of orders and what strategies make of it.

    Attributes:
        reference: accuracy of the strategy that the gap is measured from.
        oracle: share of samples that some order gets right.
        control: what chance gives an oracle over as many orders, see `chance_oracle`.
        gap: oracle − reference, the "unlockable potential".
        excess: oracle − control, what of it chance does not explain.
        accuracy: of each strategy.
        closed: of each, (accuracy − reference) / gap; NaN where there is no gap.
        closed_excess: of each, (accuracy − reference) / excess; NaN unless the whole interval of
            the excess is above one sample.
    """

    reference: Figure
    oracle: Figure
    control: Figure
    gap: Figure
    excess: Figure
    accuracy: dict[str, Figure]
    closed: dict[str, Figure]
    closed_excess: dict[str, Figure]


class Chance:
    """The random-ensemble control of an any-order oracle [ours].

    An oracle over K tries is right more often than any of them, even if which try is right is
    mere noise. The control is the any-of-K rate of predictions that share the accuracies of the
    orders and how often they agree, but know nothing of which order suits which sample: the rate
    under

        P(order k is right on sample n) = σ(θ_n + δ_k),  independent given θ_n,

    a Rasch model: samples are easy or hard (θ, with any distribution: it makes orders agree),
    orders are good or bad (δ), and there is no interaction of the two. Its distribution π of θ
    over a grid (±∞ included: always right, always wrong) and δ are fitted by maximum likelihood
    (EM). Then control = Σ_g π_g (1 − Π_k (1 − σ(θ_g + δ_k))).

    So orders that are always equal have control = oracle = accuracy; independent flips have
    oracle − control ≈ 0; if exactly one of K orders is right on a sample, as though each had its
    own, chance would have found one with 1 − (1 − 1/K)^K, and the rest is the excess. What the
    control cannot see: an order that suits a sample but whose success noise of that rate would
    bring about as well. An excess of 0 says that the oracle proves nothing, not that no router
    can help; the cross-fitted router is the test of that.

    Args:
        right_NK: bool, order k is right on sample n.
    """

    def __init__(self, right_NK: Tensor) -> None:
        rows_UK, self.row_N = right_NK.unique(dim=0, return_inverse=True)
        self.rows_UK = rows_UK.double()
        self.counts_U = torch.bincount(self.row_N, minlength=len(rows_UK)).double()
        inner = torch.linspace(-ABILITY, ABILITY, 49, dtype=torch.float64)
        self.theta_G = torch.cat([inner.new_tensor([-1e3]), inner, inner.new_tensor([1e3])])
        self.delta_K = torch.zeros(right_NK.shape[1], dtype=torch.float64)
        self.pi_G = torch.full_like(self.theta_G, 1 / len(self.theta_G))
        for _ in range(STEPS):
            self._step()
        self.likelihood_UG = self._likelihood()

    def _likelihood(self) -> Tensor:
        """P(row u | θ_g), [U, G]."""
        score_GK = self.theta_G[:, None] + self.delta_K
        right_GK = torch.nn.functional.logsigmoid(score_GK)
        wrong_GK = torch.nn.functional.logsigmoid(-score_GK)
        return (self.rows_UK @ right_GK.T + (1 - self.rows_UK) @ wrong_GK.T).exp()

    def _step(self) -> None:
        """One EM step: π in full, δ by one damped Newton step."""
        joint_UG = self._likelihood() * self.pi_G
        share_UG = joint_UG / joint_UG.sum(1, keepdim=True).clamp_min(1e-300)
        weight_UG = share_UG * self.counts_U[:, None]
        self.pi_G = weight_UG.sum(0) / self.counts_U.sum()
        p_GK = torch.sigmoid(self.theta_G[:, None] + self.delta_K)
        slope_K = (weight_UG.T @ self.rows_UK).sum(0) - weight_UG.sum(0) @ p_GK
        bend_K = weight_UG.sum(0) @ (p_GK * (1 - p_GK)) + 1.0  # a weak pull towards equal orders
        delta_K = self.delta_K + ((slope_K - self.delta_K) / bend_K).clamp(-1, 1)
        self.delta_K = (delta_K - delta_K.mean()).clamp(-ABILITY, ABILITY)

    def rate(self, pi_rG: Tensor) -> Tensor:
        """Any-of-K rate for distributions of θ: [r]."""
        score_GK = self.theta_G[:, None] + self.delta_K
        none_G = torch.nn.functional.logsigmoid(-score_GK).sum(1).exp()
        return pi_rG @ (1 - none_G)

    def resampled(self, counts_rN: Tensor) -> Tensor:
        """The control of resampled samples, [r]: π fitted again from the whole one, δ kept."""
        one_hot_NU = torch.nn.functional.one_hot(self.row_N, len(self.rows_UK)).double()
        counts_rU = counts_rN @ one_hot_NU
        pi_rG = self.pi_G.expand(len(counts_rU), -1)
        for _ in range(REFITS):
            total_rU = (pi_rG @ self.likelihood_UG.T).clamp_min(1e-300)
            pi_rG = pi_rG * ((counts_rU / total_rU) @ self.likelihood_UG)
            pi_rG = pi_rG / pi_rG.sum(1, keepdim=True)
        return self.rate(pi_rG)


def chance_oracle(right_NK: Tensor) -> float:
    """The random-ensemble control of an any-order oracle, see `Chance`.

    Args:
        right_NK: bool, order k is right on sample n.

    Examples:
        >>> same = torch.tensor([True, True, False])[:, None].expand(-1, 6)
        >>> round(chance_oracle(same), 3)
        0.667
    """
    chance = Chance(right_NK)
    return float(chance.rate(chance.pi_G[None])[0])


def unlockable(
    right_NK: Tensor,
    strategies: Mapping[str, Tensor],
    reference: str,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Unlockable:
    """Measure oracle, control and the part of the gap that each strategy closes.

    Intervals resample the samples, all figures on the same draws.

    Args:
        right_NK: bool, order k is right on sample n.
        strategies: bool [N] of each strategy, right or wrong.
        reference: the strategy that gaps are measured from.
        draws: R.
        level: coverage of the intervals.
        seed: of the draws.

    Raises:
        MmeqError: if there is no sample, or the reference is none of the strategies.
    """
    if reference not in strategies:
        raise MmeqError(f"reference={reference!r} is none of {', '.join(strategies)}")
    chance = Chance(right_NK)
    names = list(strategies)
    columns = [right_NK.any(1), *(strategies[name] for name in names)]
    column_NK = torch.stack(columns, 1).double().cpu()
    whole = torch.ones(1, len(column_NK), dtype=torch.float64)
    parts = [whole, *resample_counts(len(column_NK), draws, seed)]
    mean_RK = torch.cat([part @ column_NK for part in parts]) / len(column_NK)
    control_R = torch.cat(
        [chance.rate(chance.pi_G[None]), *(chance.resampled(part) for part in parts[1:])]
    )
    oracle_R, accuracy_R = mean_RK[:, 0], dict(zip(names, mean_RK[:, 1:].T, strict=True))
    reference_R = accuracy_R[reference]
    gap_R, excess_R = oracle_R - reference_R, oracle_R - control_R

    def figure(each_R: Tensor) -> Figure:
        low, high = percentile_interval(each_R[1:], level)
        return Figure(float(each_R[0]), float(low), float(high))

    def part(name: str, of_R: Tensor, defined: bool) -> Figure:
        if not defined:
            return Figure(float("nan"), float("nan"), float("nan"))
        gained_R = accuracy_R[name] - reference_R
        return figure(torch.where(of_R > 1e-9, gained_R / of_R, float("nan")))

    gap, excess, one = figure(gap_R), figure(excess_R), 1 / len(column_NK)
    return Unlockable(
        reference=figure(reference_R),
        oracle=figure(oracle_R),
        control=figure(control_R),
        gap=gap,
        excess=excess,
        accuracy={name: figure(accuracy_R[name]) for name in names},
        closed={name: part(name, gap_R, gap.value > 1e-9) for name in names},
        closed_excess={name: part(name, excess_R, excess.low > one) for name in names},
    )
