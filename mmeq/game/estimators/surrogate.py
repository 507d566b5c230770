"""A regression of the odd half of a game whose Shapley values are known in closed form.

Legend: M modalities, P pairs (training), Q pairs (elsewhere).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

DECAYS = (0.0, 0.05, 0.15, 0.3, 0.5)
"""Candidates for the decay of interactions with their order; 0: the additive surrogate."""

RIDGES = (1e-4, 1e-2, 1.0)
"""Candidates for the ridge, where the kernel of interactions is 1 between like coalitions."""

LINEAR = 100.0
"""Weight of the additive kernel beside that of interactions: hardly shrunk."""

MOST_TRIED, MOST_FITTED = 400, 2000
"""Most pairs that choose decay and noise, and most that are fitted."""


class Surrogate:
    r"""Kernel ridge regression of odd functions on the cube of coalitions [ours].

    With signs :math:`x, y \in \{-1, 1\}^M`, the kernel is
    :math:`k(x, y) = c\, x \cdot y / M + \sum_{d\ \mathrm{odd}} \gamma^d e_d(xy) / (1+\gamma)^M`,
    :math:`e_d` the elementary symmetric polynomial: the odd half of the diffusion kernel
    :math:`\prod_i (1 + \gamma x_i y_i)` (Kondor and Lafferty 2002), beside a free additive part.
    A product of d signs, d odd, gives each of its modalities the Shapley value 2/d, so

    :math:`\phi_i(k(x, \cdot)) = 2 c x_i / M + \frac{2 x_i}{(1+\gamma)^M} \int_0^\gamma
    \mathrm{even}_t \prod_{j \ne i} (1 + t x_j)\, dt`.

    Decay and noise are those of least leave-one-out error on the training pairs.

    Args:
        sign: training pairs, float64 [P, M] of +1 and -1.
        odd: odd half of the game on them, float64 [P].
    """

    def __init__(self, sign: Tensor, odd: Tensor) -> None:
        step = -(-len(sign) // MOST_FITTED)
        self.sign, odd = sign[::step], odd[::step]
        scale = odd.square().mean().clamp(min=1e-300)
        tried = -(-len(self.sign) // MOST_TRIED)
        sign_tried, odd_tried = self.sign[::tried], odd[::tried]
        best = (float("inf"), DECAYS[0], RIDGES[0])
        for decay in DECAYS:
            gram = self._kernel(sign_tried, sign_tried, decay)
            for ridge in RIDGES:
                inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram)).double())
                left_out = (inverse @ odd_tried) / inverse.diagonal()
                best = min(best, (float(left_out.square().mean() / scale), decay, ridge))
        _, self.decay, self.ridge = best
        gram = self._kernel(self.sign, self.sign, self.decay)
        gram.diagonal().add_(self.ridge)
        self.weight = torch.cholesky_solve(odd[:, None], torch.linalg.cholesky(gram))[:, 0]

    @staticmethod
    def _kernel(a_PM: Tensor, b_QM: Tensor, decay: float) -> Tensor:
        count = a_PM.shape[1]
        alike = torch.arange(count + 1, dtype=torch.float64)  # the kernel depends on it alone
        ratio = (1 - decay) / (1 + decay)
        odd = (ratio ** (count - alike) - ratio**alike) / 2
        table = LINEAR * (2 * alike - count) / count + odd
        return table[((a_PM @ b_QM.T + count) / 2).round().long()]

    def __call__(self, sign_QM: Tensor) -> Tensor:
        """Predicted odd half, float64 [Q]."""
        parts = sign_QM.chunk(1 + len(sign_QM) // 8192)
        return torch.cat([self._kernel(s, self.sign, self.decay) @ self.weight for s in parts])

    def shapley(self) -> Tensor:
        """Shapley values of the surrogate, float64 [M]."""
        count = self.sign.shape[1]
        node, share = np.polynomial.legendre.leggauss(count // 2 + 1)  # exact up to degree M
        t = torch.from_numpy((node + 1) * self.decay / 2)
        members = torch.arange(count)[:, None]  # of the others
        up, down = (1 + t) ** members, (1 - t) ** (count - 1 - members)
        other = (1 - t) ** members * (1 + t) ** (count - 1 - members)
        table = ((up * down + other) / 2) @ torch.from_numpy(share) * self.decay / 2
        table = table / (1 + self.decay) ** count + LINEAR / count
        others_PM = ((self.sign + 1) / 2).sum(1, keepdim=True) - (self.sign + 1) / 2
        return 2 * (self.weight[:, None] * self.sign * table[others_PM.long()]).sum(0)
