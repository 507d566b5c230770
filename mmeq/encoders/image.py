"""Encoder of images, from scratch and small enough for a CPU.

Shape suffixes: B batch, H height, W width of the image, D width of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes


class ImageEncoder(nn.Module):
    """A small convolutional network: uint8 [B, 3, H, W] → [B, D].

    Blocks of convolution (stride 2), group norm and GELU, doubling the channels; mean and maximum
    over space; a linear projection. Group norm keeps a sample independent of its batch.

    Args:
        modality: its shape is (3, H, W).
        dim: D.
        channels: of the first block.
        blocks: how many; each halves H and W.
        dropout: before the projection.
        augment: training images are shifted by up to 8 %, scaled by up to 10 % and mirrored,
            unless the data module has done so by itself.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        channels: int = 24,
        blocks: int = 4,
        dropout: float = 0.2,
        augment: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("image", {"channels": (channels, 4), "blocks": (blocks, 1)})
        width = modality.shape[0]
        body: list[nn.Module] = []
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
        self.augment = augment and not modality.augmented

    def transform(self, raw: Tensor, training: bool, generator: torch.Generator) -> Tensor:
        """Augment uint8 images [B, 3, H, W] for training; leave them as they are otherwise."""
        if not (training and self.augment):
            return raw
        draws = torch.rand(4, len(raw), generator=generator)
        mirror = torch.where(draws[0] < 0.5, -1.0, 1.0)
        scale = 1 + 0.2 * (draws[1] - 0.5)
        shift = 0.32 * (draws[2:] - 0.5)  # of a coordinate that runs from -1 to 1
        zero = torch.zeros(len(raw))
        theta = torch.stack(
            [
                torch.stack([mirror * scale, zero, shift[0]], -1),
                torch.stack([zero, scale, shift[1]], -1),
            ],
            1,
        )
        grid = F.affine_grid(theta, list(raw.shape), align_corners=False)
        moved = F.grid_sample(raw.float(), grid, padding_mode="border", align_corners=False)
        return moved.round_().clamp_(0, 255).to(torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D] of uint8 images."""
        x = self.body(x.to(self.project[1].weight.dtype) / 127.5 - 1)
        return self.project(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))
