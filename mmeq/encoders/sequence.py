"""Encoder of sequences of feature vectors (sensors, frame features).

Shape suffixes: B batch, T time, F input features, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes


class SequenceEncoder(nn.Module):
    """Temporal convolutions and masked pooling: [B, T, F] with lengths → [B, D].

    Steps beyond a sequence's length are zeroed before each layer and left out of the pooling, so
    that a sample's features do not depend on how far its batch is padded.

    Args:
        modality: its shape is (T, F).
        dim: D.
        hidden: channels.
        layers: convolutions of width 5; the k-th is dilated by 2^k.
        dropout: after each layer.
    """

    def __init__(
        self, modality: Modality, dim: int, hidden: int = 64, layers: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        check_sizes("sequence", {"hidden": (hidden, 1), "layers": (layers, 1)})
        width = modality.shape[-1]
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for layer in range(layers):
            dilation = 2**layer
            self.convolutions.append(
                nn.Conv1d(width, hidden, 5, padding=2 * dilation, dilation=dilation)
            )
            self.norms.append(nn.LayerNorm(hidden))
            width = hidden
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(2 * width, dim)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Features [B, D] of ``{"values": [B, T, F], "length": int [B]}``."""
        values_BTF, length_B = x["values"], x["length"]
        steps_T = torch.arange(values_BTF.shape[1], device=values_BTF.device)
        mask_BT1 = (steps_T < length_B.clamp_min(1)[:, None])[:, :, None]
        hidden = values_BTF
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            out = convolution((hidden * mask_BT1).transpose(1, 2)).transpose(1, 2)
            hidden = self.dropout(nn.functional.gelu(norm(out)))
        mean_BD = (hidden * mask_BT1).sum(1) / mask_BT1.sum(1)
        top_BD = hidden.masked_fill(~mask_BT1, float("-inf")).amax(1)
        return self.project(torch.cat([mean_BD, top_BD], dim=1))
