"""Orders weighted sample by sample, by how confident each one's own prediction is.

Shape suffixes: B batch, C classes, S coalitions, K orders.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmeq.fusions.base import Fusion
from mmeq.inference.base import Strategy


class PerSample(Strategy):
    """A mean over orders that leans to the confident ones [ours].

    logits = Σ_k w_k · logits_k, w = softmax_k(confidence_k / temperature), with

    - ``entropy``: confidence_k = −H(p_k), p_k = softmax(logits_k), in nats;
    - ``probability``: confidence_k = max_c p_k(c).

    A large temperature is the plain mean. [second-hand: order or weight by confidence; formula
    ours.]
    """

    def answer(
        self,
        fusion: Fusion,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        present_BM: Tensor | None = None,
        ids: Sequence[str] | None = None,
    ) -> Tensor:
        """Logits [S, B, C]."""
        if not fusion.ordered:
            return super().answer(fusion, features, coalitions_SM, present_BM)
        logits_KSBC = fusion.per_order(features, coalitions_SM, self.orders, present_BM)
        weight_KSB = self.weights(logits_KSBC)
        return torch.einsum("ksb,ksbc->sbc", weight_KSB.to(logits_KSBC), logits_KSBC)

    def weights(self, logits_KSBC: Tensor) -> Tensor:
        """Weights [K, S, B] of the orders; they add up to 1 over K."""
        logp = logits_KSBC.float().log_softmax(-1)
        if self.options.confidence == "entropy":
            confidence_KSB = (logp.exp() * logp).sum(-1)
        else:
            confidence_KSB = logp.amax(-1).exp()
        return (confidence_KSB / self.options.temperature).softmax(0)
