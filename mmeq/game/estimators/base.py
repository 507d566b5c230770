"""What every estimator takes and gives: a game whose evaluations are counted, and an estimate.

Legend: M modalities, S coalitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.coalitions import coalition_name

Value = Callable[[Tensor], Tensor]
"""From coalitions, bool [S, M], to their values, real [S]."""

MOST = 62
"""Most modalities that can be estimated: a coalition is one signed 64-bit word."""


@dataclass(frozen=True)
class Estimate:
    """Shapley (or Banzhaf) values and how sure they are.

    The errors are those of sampling coalitions, given the values: the validation set's own noise
    comes on top (see `bootstrap`). Exact results have errors of 0.

    Args:
        phi: float64 [M], in the unit of the values.
        cov: float64 [M, M], covariance of the estimate.
        evaluations: distinct coalitions that were evaluated.
        estimator: name of what computed it.
        reason: why this one, in words.
        budget: most evaluations allowed.
        seed: seed of the sampling.
        empty: value of the empty coalition.
        full: value of the full one.
        samples: independent units behind the errors (permutations, pairs; 0 for exact ones).
    """

    phi: Tensor
    cov: Tensor
    evaluations: int
    estimator: str
    reason: str
    budget: int
    seed: int
    empty: float
    full: float
    samples: int

    @property
    def se(self) -> Tensor:
        """Standard error of every value, float64 [M]."""
        return self.cov.diagonal().clamp(min=0).sqrt()

    @property
    def gap_se(self) -> Tensor:
        """Standard error of every difference, float64 [M, M]; what `next_order` takes."""
        variance = self.cov.diagonal()
        return (variance[:, None] + variance[None, :] - 2 * self.cov).clamp(min=0).sqrt()

    def because(self, reason: str) -> Estimate:
        """Return the same estimate with another reason."""
        return replace(self, reason=reason)


class Game:
    """A value function that remembers: each distinct coalition is evaluated, and costs, once.

    Args:
        value: from bool [S, M] to real [S]; called with every new coalition of a batch at once.
        names: names of the modalities, for messages.
        budget: most distinct coalitions to evaluate, at least 2.
    """

    def __init__(self, value: Value, names: Sequence[str], budget: int) -> None:
        self.value = value
        self.names = tuple(names)
        self.modalities = len(self.names)
        self.budget = budget
        self.complete = self.modalities < MOST and 2**self.modalities <= budget
        self._known: dict[int, float] = {}

    @property
    def evaluations(self) -> int:
        """Distinct coalitions evaluated so far."""
        return len(self._known)

    def keys(self, coalitions: Tensor) -> Tensor:
        """Return the index of each coalition, int64 [...]: bit m tells whether m is in it."""
        return (coalitions.long() << torch.arange(self.modalities)).sum(-1)

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Values of coalitions, float64 [S]; the new ones in one call.

        Args:
            coalitions: bool [S, M]; a row may come more than once.

        Raises:
            MmeqError: if the value function returns a wrong shape, or a number that is not finite.
        """
        keys = self.keys(coalitions).tolist()
        rows = {key: row for row, key in enumerate(keys) if key not in self._known}
        if self.evaluations + len(rows) > self.budget:
            raise RuntimeError(f"{len(rows)} more evaluations exceed the budget {self.budget}")
        if rows:
            new = coalitions[list(rows.values())]
            values = self._check(torch.as_tensor(self.value(new)).detach().cpu(), new)
            self._known.update(zip(rows, values.tolist(), strict=True))
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float64)

    def _check(self, values: Tensor, coalitions: Tensor) -> Tensor:
        if values.shape != (len(coalitions),) or values.is_complex():
            raise MmeqError(
                f"value(coalitions) must return {len(coalitions)} real numbers, one a coalition, "
                f"got shape {tuple(values.shape)} of {values.dtype}"
            )
        values = values.double()
        for row in (~torch.isfinite(values)).nonzero()[:1, 0].tolist():
            name = coalition_name(coalitions[row], self.names)
            raise MmeqError(f"the value of coalition {name} is {values[row].item()}: not finite")
        return values

    def ends(self) -> tuple[float, float]:
        """Values of the empty and of the full coalition."""
        rows = torch.tensor([[False], [True]]).expand(-1, self.modalities)
        empty, full = self(rows).tolist()
        return empty, full

    def result(self, phi: Tensor, cov: Tensor, estimator: str, seed: int, samples: int) -> Estimate:
        """Assemble the estimate."""
        empty, full = self.ends()
        spent = self.evaluations
        reason = f"{estimator} was asked for"
        return Estimate(phi, cov, spent, estimator, reason, self.budget, seed, empty, full, samples)
