"""Encoder of plain feature vectors.

Shape suffixes: B batch, F input features, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes


class VectorEncoder(nn.Module):
    """A multilayer perceptron with layer norm: [B, F] → [B, D].

    Args:
        modality: its shape gives F.
        dim: D.
        hidden: width of the hidden layers.
        layers: how many hidden layers.
        dropout: after each hidden layer.
    """

    def __init__(
        self, modality: Modality, dim: int, hidden: int = 128, layers: int = 1, dropout: float = 0.2
    ) -> None:
        super().__init__()
        check_sizes("vector", {"hidden": (hidden, 1), "layers": (layers, 0)})
        (width,) = modality.shape
        body: list[nn.Module] = []
        for _ in range(layers):
            body += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
            width = hidden
        self.body = nn.Sequential(*body, nn.Linear(width, dim))

    def forward(self, x_BF: Tensor) -> Tensor:
        """Features [B, D]."""
        return self.body(x_BF)
