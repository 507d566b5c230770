"""Gated fusion: one modality's sigmoid gates the other (Kiela et al. 2018, arXiv 1802.02892).

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeq.fusions.base import Absence, FillingFusion
from mmeq.fusions.orders import Orders


class Gated(FillingFusion):
    """Gated fusion: o = W_o(σ(W_a h_a) ⊙ W_b h_b) + b for two modalities.

    M > 2 [ours]: chained in the dataset's order, s ← σ(A_j s) ⊙ B_j h_j from s = h_1, so that
    M = 2 is the published form. An absent feature is replaced (see `absence`).
    """

    def __init__(
        self, modalities: int, dim: int, classes: int, prior: Tensor, absence: Absence = "mean"
    ) -> None:
        super().__init__(modalities, dim, classes, prior, absence)
        self.gates = nn.ModuleList(nn.Linear(dim, dim) for _ in range(modalities - 1))
        self.maps = nn.ModuleList(nn.Linear(dim, dim) for _ in range(modalities - 1))
        self.readout = nn.Linear(dim, classes)

    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C]."""
        return self.run(Gated._chain, self.fill(features, coalitions_SM))

    def _chain(self, filled_SMBD: Tensor) -> Tensor:
        first, *others = filled_SMBD.unbind(1)
        state = first
        for gate, linear, feature in zip(self.gates, self.maps, others, strict=True):
            state = torch.sigmoid(gate(state)) * linear(feature)
        return self.readout(state)
