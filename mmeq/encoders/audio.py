"""Encoder of sound, from scratch and small enough for a CPU.

Shape suffixes: B batch, N samples of a waveform, F frequencies, T time, D width of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.errors import MmeqError

FILTERS = 64
"""Bands of a waveform that are learnt in place of frequencies."""
WINDOWS, STRIDES = (64, 16), (16, 8)
"""Of the convolutions over a waveform; together one step for 128 samples."""


class AudioEncoder(nn.Module):
    """A small convolutional network: float [B, F, T] or [B, N] → [B, D].

    A sample is standardised by its own mean and deviation, so that it depends neither on its batch
    nor on the features' unit. A second channel tells each place its frequency, since a sound moved
    to another pitch is another sound. Blocks of convolution (stride 2), group norm and GELU,
    doubling the channels; mean and maximum; a linear projection. A waveform first passes two
    strided convolutions, whose filters take the place of frequencies. Training is not augmented
    here: SpecAugment and cuts are options of the data.

    Args:
        modality: its shape is (F, T) or (N,).
        dim: D.
        channels: of the first block.
        blocks: how many; each halves F and T.
        dropout: before the projection.

    Raises:
        MmeqError: for options that make no network, and for other shapes.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        channels: int = 16,
        blocks: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_sizes("audio", {"channels": (channels, 4), "blocks": (blocks, 1)})
        if len(modality.shape) not in (1, 2):
            raise MmeqError(
                f"modality {modality.name!r} has the shape {modality.shape}: "
                "backbone.encoders.audio takes (samples,) or (frequencies, time)"
            )
        self.listen: nn.Module | None = None
        if len(modality.shape) == 1:
            shortest = WINDOWS[0] + (WINDOWS[1] - 1) * STRIDES[0]
            if modality.shape[0] < shortest:
                raise MmeqError(
                    f"modality {modality.name!r} has {modality.shape[0]} samples: "
                    f"backbone.encoders.audio takes {shortest} or more; raise dataset.audio.seconds"
                )
            self.listen = nn.Sequential(
                nn.Conv1d(1, FILTERS, WINDOWS[0], STRIDES[0], bias=False),
                nn.GroupNorm(8, FILTERS),
                nn.GELU(),
                nn.Conv1d(FILTERS, FILTERS, WINDOWS[1], STRIDES[1], bias=False),
                nn.GroupNorm(8, FILTERS),
                nn.GELU(),
            )
        width, body = 2, list[nn.Module]()
        for block in range(blocks):
            out = channels * 2**block
            body += [
                nn.Conv2d(width, out, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(min(8, out // 4), out),
                nn.GELU(),
            ]
            width = out
        self.body = nn.Sequential(*body)
        self.project = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D]."""
        x = _standardised(x.to(self.project[1].weight.dtype))
        if self.listen is not None:
            x = self.listen(x[:, None])
        pitch_F = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype, device=x.device)
        x = self.body(torch.stack([x, pitch_F[:, None].expand_as(x)], dim=1))
        return self.project(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


def _standardised(x: Tensor) -> Tensor:
    """Every sample with mean 0 and deviation 1; one that is constant (absent) becomes zero."""
    across = tuple(range(1, x.ndim))
    centred = x - x.mean(across, keepdim=True)
    return centred * (centred.square().mean(across, keepdim=True) + 1e-10).rsqrt()
