"""Attention fusion: modalities are the tokens of one transformer block; an absent one is masked.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.device import carried
from mmeq.errors import MmeqError
from mmeq.fusions.base import Fusion
from mmeq.fusions.orders import Orders


class Attention(Fusion):
    """Self-attention over modalities, then the mean of their tokens and a linear readout.

    One pre-norm block (Vaswani et al. 2017, arXiv 1706.03762) over x_m = h_m + e_m, e_m a learned
    vector of the modality; the mean over the tokens of S, normalised, is read out. Keys outside S
    are masked, so that an absent modality is skipped and none is imputed. With its feed-forward
    layer of width 3D/2 it has 7D² weights and some, as many as the memory, so that the two compare
    at equal size [ours].

    Args:
        modalities: M.
        dim: D, a multiple of `heads`.
        classes: C.
        prior: [C] class frequencies of the training part.
        heads: H.
    """

    def __init__(
        self, modalities: int, dim: int, classes: int, prior: Tensor, heads: int = 4
    ) -> None:
        super().__init__(modalities, dim, classes, prior)
        if heads < 1 or dim % heads:
            raise MmeqError(f"fusion.heads={heads}: must divide backbone.dim={dim}")
        self.heads = heads
        self.own_MD = nn.Parameter(0.02 * torch.randn(modalities, dim))
        self.norm_in, self.norm_mid, self.norm_out = (nn.LayerNorm(dim) for _ in range(3))
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 3 * dim // 2), nn.GELU(), nn.Linear(3 * dim // 2, dim)
        )
        self.readout = nn.Linear(dim, classes)

    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C]."""
        x_BMD = torch.stack(tuple(features), dim=1)
        return self.run(Attention._block, x_BMD, carried(coalitions_SM, x_BMD.device))

    def _block(self, x_BMD: Tensor, coalitions_SM: Tensor) -> Tensor:
        x_BMD = x_BMD + self.own_MD.to(x_BMD.dtype)
        parts = self.query_key_value(self.norm_in(x_BMD)).chunk(3, dim=-1)
        query, key, value = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        count = len(coalitions_SM)
        mixed_SBHMD = F.scaled_dot_product_attention(
            query.expand(count, -1, -1, -1, -1),
            key.expand(count, -1, -1, -1, -1),
            value.expand(count, -1, -1, -1, -1),
            attn_mask=coalitions_SM[:, None, None, None, :],
        )
        x_SBMD = x_BMD + self.project(mixed_SBHMD.transpose(2, 3).flatten(3))
        x_SBMD = x_SBMD + self.feed_forward(self.norm_mid(x_SBMD))
        weight_SM = coalitions_SM.to(x_SBMD.dtype)
        weight_SM = weight_SM / weight_SM.sum(1, keepdim=True)
        return self.readout(self.norm_out(torch.einsum("sm,sbmd->sbd", weight_SM, x_SBMD)))
