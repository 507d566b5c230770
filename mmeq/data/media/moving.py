"""What formats of moving pictures share: a few frames of a sample, one part of them all.

Shape suffixes: B batch, K frames of a sample, C channels, H height, W width, S size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mmeq.data.media.checks import whole
from mmeq.data.media.clip import Blob
from mmeq.data.media.pictures import DRAWS, centre_look, check_pictures, random_look, see
from mmeq.errors import MmeqError


class MovingFormat(ABC):
    """Base of the formats of kind video: uint8 [B, frames, channels, size, size].

    Evaluation sees the middle frames of equal stretches of the clip, and of each the centre.
    Training, if it is augmented, sees one random part with 0.5 to 1 of the area, the same in all
    frames, resized and mirrored at random, and one random frame of each stretch (TSN, Wang et al.
    2016). A clip of fewer frames repeats some.

    Attributes:
        channels: C.
        motion: the first channel is what moves to the right, 127.5 nothing: a mirror turns its
            sign.
        frames: K.
        most: at most so many frames of a clip are kept.
        resize: shorter side in pixels, as kept.
        size: S.
        augment: false: training sees what evaluation sees.
        jpeg: quality at which kept frames are compressed; None keeps them as they are.
    """

    kind: ClassVar[str] = "video"
    channels: ClassVar[int]
    motion: ClassVar[bool] = False

    frames: int
    most: int
    resize: int
    size: int
    augment: bool
    jpeg: int | None

    def check(self, name: str, what: str) -> None:
        """Check these options.

        Args:
            name: of the section ``dataset.<name>`` that they stand in.
            what: is kept, for the message.

        Raises:
            MmeqError: names an option that makes no sense, its value, and what would be right.
        """
        whole(f"{name}.most", self.most, 1)
        whole(f"{name}.frames", self.frames, 1)
        if self.frames > self.most:
            raise MmeqError(
                f"dataset.{name}.frames={self.frames}: no more than "
                f"dataset.{name}.most={self.most} {what} are kept; give a larger most"
            )
        check_pictures(name, self.resize, self.size, self.augment, self.jpeg)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (K, C, size, size)."""
        return self.frames, self.channels, self.size, self.size

    @property
    def augments(self) -> bool:
        """Training sees other parts and frames than evaluation."""
        return self.augment

    @property
    def random_frames(self) -> bool:
        """Augmented training sees random frames, not the middle ones."""
        return True

    def view(
        self, blobs: Sequence[Blob | None], training: bool, generator: torch.Generator
    ) -> Tensor:
        """Return the batch uint8 [B, K, C, size, size], see `Format.view`."""
        out = torch.zeros(len(blobs), *self.shape, dtype=torch.uint8)
        draws: list[list[float]] | None = None
        if training and self.augment:
            drawn = torch.rand(len(blobs), DRAWS + self.frames, generator=generator)
            draws = drawn.tolist()
        for row, blob in enumerate(blobs):
            if blob is not None:
                self._fill(out[row], blob, None if draws is None else draws[row])
        return out

    def _fill(self, out_KCSS: Tensor, blob: Blob, draws: list[float] | None) -> None:
        """Write one sample into its place in the batch."""
        within = [0.5] * self.frames
        if draws is not None and self.random_frames:
            within = draws[DRAWS:]
        picked = pick(blob.shape[0], within)
        frames = self.unpacked(blob, sorted(set(picked)))
        height, width = frames[picked[0]].shape[:2]
        if draws is None:
            look = centre_look(height, width, self.size)
        else:
            look = random_look(height, width, draws[:DRAWS])
        see([frames[k] for k in picked], look, out_KCSS)
        if look.mirrored and self.motion:
            out_KCSS[:, 0] = 255 - out_KCSS[:, 0]

    @abstractmethod
    def unpacked(self, blob: Blob, numbers: list[int]) -> Mapping[int, np.ndarray]:
        """Kept frames by number: uint8 [H, W, C]."""


def pick(count: int, within: Sequence[float]) -> list[int]:
    """Choose one frame in each of K equal stretches of a clip.

    Args:
        count: frames of the clip.
        within: K places in [0, 1) within each stretch; 0.5: its middle.

    Examples:
        >>> pick(10, [0.5, 0.5, 0.5])
        [1, 5, 8]
        >>> pick(2, [0.5, 0.5, 0.5])
        [0, 1, 1]
    """
    stretches = len(within)
    return [min(int((k + place) * count / stretches), count - 1) for k, place in enumerate(within)]
