"""Image format: pictures are kept at a common scale, and become pictures of one size.

Shape suffixes: B batch, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
from torch import Tensor

from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.decode import probe_image, read_image
from mmeq.data.media.pictures import (
    DRAWS,
    centre_look,
    check_pictures,
    pack,
    random_look,
    see,
    unpack,
)

VERSION = 1
"""Of what `ImageFormat.read` gives: to be raised whenever that changes."""


@dataclass(frozen=True)
class ImageFormat:
    """Images: uint8 [B, 3, size, size].

    Evaluation sees the centre. Training, if it is augmented, sees a random part with 0.5 to 1 of
    the area, resized and mirrored at random.

    Args:
        resize: shorter side in pixels, as kept.
        size: height and width in the batch.
        augment: false: training sees what evaluation sees.
        jpeg: quality (1 to 100) at which kept images are compressed; None keeps them as they are.

    Raises:
        MmeqError: names an option that makes no sense, its value, and what would be right.
    """

    kind: ClassVar[str] = "image"

    resize: int = 256
    size: int = 224
    augment: bool = True
    jpeg: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        check_pictures("image", self.resize, self.size, self.augment, self.jpeg)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (3, size, size)."""
        return 3, self.size, self.size

    @property
    def augments(self) -> bool:
        """Training sees other parts than evaluation."""
        return self.augment

    def stored(self) -> dict[str, Any]:
        """Return what `read` depends on beside the file."""
        return {
            "kind": self.kind, "version": VERSION, "resize": self.resize, "jpeg": self.jpeg,
            "pillow": int(PIL.__version__.split(".")[0]),
        }  # fmt: skip

    def probe(self, clip: Clip) -> float | None:
        """Look into the file without decoding it, see `Format.probe`."""
        probe_image(clip)
        return None

    def read(self, clip: Clip) -> Blob:
        """Decode: uint8 [H, W, 3], shape the same; as a JPEG: shape (length,)."""
        pixels_HW3 = read_image(clip, self.resize)
        if self.jpeg is None:
            return Blob(np.ascontiguousarray(pixels_HW3).reshape(-1), pixels_HW3.shape)
        data = np.frombuffer(pack(pixels_HW3, self.jpeg), np.uint8)
        return Blob(data, data.shape)

    def view(
        self, blobs: Sequence[Blob | None], training: bool, generator: torch.Generator
    ) -> Tensor:
        """Return the batch uint8 [B, 3, size, size], see `Format.view`."""
        out = torch.zeros(len(blobs), *self.shape, dtype=torch.uint8)
        draws: list[list[float]] | None = None
        if training and self.augment:
            draws = torch.rand(len(blobs), DRAWS, generator=generator).tolist()
        for row, blob in enumerate(blobs):
            if blob is None:
                continue
            whole = self.jpeg is None
            pixels_HW3 = blob.data.reshape(blob.shape) if whole else unpack(blob.data)
            height, width, _ = pixels_HW3.shape
            if draws is None:
                look = centre_look(height, width, self.size)
            else:
                look = random_look(height, width, draws[row])
            see([pixels_HW3], look, out[row : row + 1])
        return out
