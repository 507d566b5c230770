"""Concat fusion: one linear layer on the features side by side.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeq.fusions.base import Absence, FillingFusion, linear_init, mixed, per_modality
from mmeq.fusions.orders import Orders
from mmeq.fusions.tree import present_on


class Concat(FillingFusion):
    """Linear concatenation: o = W[h_1; …; h_M] + b, an absent h_m replaced (see `absence`).

    W splits into one block a modality, so all coalitions cost M small products: each block is
    applied once to the features and once to the filler, and a coalition adds the ones it has.
    """

    def __init__(
        self, modalities: int, dim: int, classes: int, prior: Tensor, absence: Absence = "mean"
    ) -> None:
        super().__init__(modalities, dim, classes, prior, absence)
        self.weight_MCD = linear_init(modalities, classes, dim, fan_in=self.fan_in())
        self.bias_C = nn.Parameter(torch.zeros(classes))

    def fan_in(self) -> int:
        """Inputs of one output unit, for the initial scale: all features side by side."""
        return self.modalities * self.dim

    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C]."""
        terms_MBC = per_modality(self.weight_MCD, features)
        fill_MC = torch.einsum("mcd,md->mc", self.weight_MCD, self.filler())
        present_SM = present_on(coalitions_SM, terms_MBC.device)
        constant_SC = (1 - present_SM) @ fill_MC.to(terms_MBC) + self.bias_C
        return mixed(present_SM, terms_MBC) + constant_SC[:, None]

    def terms(self, features: Sequence[Tensor]) -> Tensor:
        """W_m h_m + b/M: [M, B, C]."""
        return per_modality(self.weight_MCD, features) + self.bias_C / self.modalities
