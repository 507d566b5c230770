"""What a played game tells: values, contributions and balance, with their uncertainty.

Legend: M modalities, V = 2^M coalitions in binary order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmeq.game.coalitions import coalition_name
from mmeq.game.values import utility


def _plain(number: float | Tensor) -> float | None:
    number = float(number)
    return number if math.isfinite(number) else None


@dataclass(frozen=True, eq=False)
class GameReport:
    """Result of a game over all coalitions; every tensor is float64 on the CPU.

    The game's value is the metric ``value``, with its sign changed for nll so that higher is
    better; phi, banzhaf, alone, full and value_low/high are in its unit. ``values``, ``full_low``
    and ``full_high`` hold the metrics as they are (nll in nats, lower is better).

    Attributes:
        modalities: their names.
        value: the metric that the game is played for.
        coalitions: bool [V, M].
        values: metric to [V]; row 0 is the best constant predictor.
        phi: Shapley values [M], signed.
        phi_se: bootstrap standard errors of phi [M].
        phi_low: lower ends of the intervals of phi [M].
        phi_high: upper ends [M].
        edm: percent; NaN where undefined.
        edm_low: lower end of its interval. A percentile interval of a sum of absolute values: at
            perfect balance it lies above 0, since noise only adds to EDM.
        edm_high: upper end.
        edm_normalised: edm in [0, 1].
        banzhaf: Banzhaf values [M].
        gap_se: standard error of phi_i - phi_j [M, M].
        alone_gap_se: the same of the differences of `alone`.
        banzhaf_gap_se: the same of banzhaf; NaN where that is.
        value_low: lower ends of the intervals of the game's value [V].
        value_high: upper ends [V].
        full_low: metric to lower end for the full coalition.
        full_high: metric to upper end for the full coalition.
        samples: how many different samples were evaluated.
        higher_is_better: of the metric that the game is played for.
        order_certainty: share of bootstrap draws that rank the modalities by phi as the point
            estimate does (see `certainty.rank_certainty`).
        weakest_certainty: share of draws with the same modality of the least phi.
        estimator: what computed phi; all but ``exact`` list some of the coalitions only.
        evaluations: coalitions that were evaluated.
        reason: why this estimator, in words.
    """

    modalities: tuple[str, ...]
    value: str
    coalitions: Tensor
    values: dict[str, Tensor]
    phi: Tensor
    phi_se: Tensor
    phi_low: Tensor
    phi_high: Tensor
    edm: float
    edm_low: float
    edm_high: float
    edm_normalised: float
    banzhaf: Tensor
    gap_se: Tensor
    alone_gap_se: Tensor
    banzhaf_gap_se: Tensor
    value_low: Tensor
    value_high: Tensor
    full_low: dict[str, float]
    full_high: dict[str, float]
    samples: int
    higher_is_better: bool = True
    order_certainty: float = math.nan
    weakest_certainty: float = math.nan
    estimator: str = "exact"
    evaluations: int = 0
    reason: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of `values`: mmeq's three, and the game's own where it is another."""
        return tuple(self.values)

    @property
    def game(self) -> Tensor:
        """The game's value of every coalition [V]; higher is better."""
        return utility(self.values[self.value], self.higher_is_better)

    @property
    def alone(self) -> Tensor:
        """The game's value of each modality alone [M]."""
        return self.game[self._single_M]

    def alone_in(self, metric: str) -> Tensor:
        """A metric of each modality alone [M], as it is."""
        return self.values[metric][self._single_M]

    @property
    def _single_M(self) -> Tensor:
        """Rows of the coalitions {m}."""
        single_V = self.coalitions.sum(1) == 1
        row_M = [
            (self.coalitions[:, m] & single_V).nonzero()[0, 0] for m in range(len(self.modalities))
        ]
        return torch.stack(row_M)

    @property
    def full(self) -> float:
        """The game's value of all modalities together."""
        return self.game[-1].item()

    @property
    def proper_mean(self) -> float:
        """Mean accuracy over the listed non-empty proper coalitions; NaN for one modality."""
        return self.values["accuracy"][1:-1].mean().item()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain types for JSON: names as keys, NaN as None.

        ``values`` is {coalition: {metric: number}}, ``game`` {coalition: {value, low, high}},
        ``phi`` {modality: {value, low, high, se}}, ``edm`` {value, low, high, normalised},
        ``full`` {metric: {value, low, high}}, ``gap_se`` {modality: {modality: number}}.
        """
        names = self.modalities
        coalitions = [coalition_name(row, names) for row in self.coalitions]
        game, alone = self.game, self.alone
        return {
            "modalities": list(names),
            "value": self.value,
            "samples": self.samples,
            "values": {
                coalition: {metric: _plain(self.values[metric][row]) for metric in self.metrics}
                for row, coalition in enumerate(coalitions)
            },
            "game": {
                coalition: {
                    "value": _plain(game[row]),
                    "low": _plain(self.value_low[row]),
                    "high": _plain(self.value_high[row]),
                }
                for row, coalition in enumerate(coalitions)
            },
            "phi": {
                name: {
                    "value": _plain(self.phi[m]),
                    "low": _plain(self.phi_low[m]),
                    "high": _plain(self.phi_high[m]),
                    "se": _plain(self.phi_se[m]),
                }
                for m, name in enumerate(names)
            },
            "edm": {
                "value": _plain(self.edm),
                "low": _plain(self.edm_low),
                "high": _plain(self.edm_high),
                "normalised": _plain(self.edm_normalised),
            },
            "banzhaf": {name: _plain(self.banzhaf[m]) for m, name in enumerate(names)},
            "certainty": {
                "order": _plain(self.order_certainty),
                "weakest": _plain(self.weakest_certainty),
            },
            "alone": {name: _plain(alone[m]) for m, name in enumerate(names)},
            "gap_se": {
                name: {other: _plain(self.gap_se[m, k]) for k, other in enumerate(names)}
                for m, name in enumerate(names)
            },
            "full": {
                metric: {
                    "value": _plain(self.values[metric][-1]),
                    "low": _plain(self.full_low[metric]),
                    "high": _plain(self.full_high[metric]),
                }
                for metric in self.metrics
            },
            "proper_mean": _plain(self.proper_mean),
        }
