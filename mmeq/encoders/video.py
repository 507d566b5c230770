"""Encoder of clips, from scratch and small enough for a CPU.

Shape suffixes: B batch, T frames, C channels, H height, W width, D width of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.encoders.image import ImageEncoder
from mmeq.errors import MmeqError


class VideoEncoder(nn.Module):
    """The network of images over frames, their mean over time: uint8 [B, T, C, H, W] → [B, D].

    Args:
        modality: its shape is (T, C, H, W); pictures have 3 channels, optical flow 2.
        dim: D.
        channels: of the first block.
        blocks: how many; each halves H and W.
        dropout: before the projection.
        augment: training clips are shifted, scaled and mirrored as images are, all frames alike,
            unless the data module has done so by itself. Flow never is: its values would have to
            turn with it.

    Raises:
        MmeqError: for options that make no network, and for other shapes.
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
        check_sizes("video", {"channels": (channels, 4), "blocks": (blocks, 1)})
        if len(modality.shape) != 4:
            raise MmeqError(
                f"modality {modality.name!r} has the shape {modality.shape}: "
                "backbone.encoders.video takes (frames, channels, height, width)"
            )
        frame = Modality(modality.name, "image", modality.shape[1:], modality.augmented)
        self.frames = ImageEncoder(
            frame, dim, channels, blocks, dropout, augment and modality.shape[1] == 3
        )

    def transform(self, raw: Tensor, training: bool, generator: torch.Generator) -> Tensor:
        """Augment uint8 clips [B, T, C, H, W] for training; leave them as they are otherwise."""
        # as channels of one picture, all frames move alike
        together = self.frames.transform(raw.flatten(1, 2), training, generator)
        return together.view(raw.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D] of uint8 clips."""
        return self.frames(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)
