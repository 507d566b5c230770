"""Late fusion: the mean of unimodal logits.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeq.fusions.base import Fusion, linear_init, mixed, per_modality
from mmeq.fusions.orders import Orders
from mmeq.fusions.tree import present_on


class Late(Fusion):
    """Mean of unimodal logits: o(S) = 1/|S| Σ_{m∈S} (W_m h_m + b_m); absent ones are skipped."""

    def __init__(self, modalities: int, dim: int, classes: int, prior: Tensor) -> None:
        super().__init__(modalities, dim, classes, prior)
        self.weight_MCD = linear_init(modalities, classes, dim, fan_in=dim)
        self.bias_MC = nn.Parameter(torch.zeros(modalities, classes))

    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C]."""
        terms_MBC = per_modality(self.weight_MCD, features) + self.bias_MC[:, None]
        present_SM = present_on(coalitions_SM, terms_MBC.device)
        weight_SM = present_SM / present_SM.sum(1, keepdim=True)
        return mixed(weight_SM, terms_MBC)
