"""What a strategy answers: logits of every coalition, from features encoded once.

Shape suffixes: B batch, M modalities, C classes, S coalitions, K orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from mmeq.fusions.base import Fusion
from mmeq.fusions.orders import Orders
from mmeq.fusions.tree import coalition_tree
from mmeq.inference.orders import DEFAULT, Options, inference_orders, resolve


class Strategy:
    """The mean over a fixed set of orders: hybrid, cyclic, memory_guided; base of the others.

    The mean is taken over representations, which is the mean over logits where the readout is
    linear. A fusion without an order answers alike under every strategy.

    Args:
        name: of the strategy; ``auto`` is resolved.
        order: of the last training epoch, weakest modality first.
        options: of the strategies.
        seed: of the run.

    Attributes:
        orders: what it looks at; training that averages over orders uses them too.
        fitted: it can answer; only a strategy that learns from validation starts without.
    """

    learns: ClassVar[bool] = False

    def __init__(
        self, name: str, order: Sequence[int], options: Options = DEFAULT, seed: int = 0
    ) -> None:
        self.name, self.options, self.seed = resolve(name, len(order)), options, seed
        self.orders: Orders = ()
        self.follow(order)

    @property
    def fitted(self) -> bool:
        """Whether it can answer."""
        return True

    def follow(self, order: Sequence[int]) -> None:
        """Take the order of another epoch."""
        self.orders = inference_orders(self.name, order, self.options, self.seed)

    def answer(
        self,
        fusion: Fusion,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        present_BM: Tensor | None = None,
        ids: Sequence[str] | None = None,
    ) -> Tensor:
        """Logits [S, B, C]; each sample's depend on that sample alone.

        Args:
            fusion: whose logits.
            features: M tensors [B, D].
            coalitions_SM: bool [S, M], on the CPU.
            present_BM: bool [B, M], or None when no sample lacks anything.
            ids: of the samples, for a strategy that must know which ones it has learnt from.
        """
        return fusion(features, coalitions_SM, self.orders, present_BM)

    def cells(self, coalitions_SM: Tensor) -> float:
        """Memory cells a sample that a prediction of these coalitions costs."""
        return float(coalition_tree(coalitions_SM, self.orders).cells)

    # what it has done since `reset`, and what it has learnt

    def reset(self) -> None:
        """Forget what was counted."""

    def facts(self) -> dict[str, float]:
        """What was counted since, all ranks together: a collective; plain numbers."""
        return {}

    def state(self) -> dict[str, Any] | None:
        """What it has learnt, as plain tensors and lists; None for nothing."""
        return None

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Take back what `state` gave."""
