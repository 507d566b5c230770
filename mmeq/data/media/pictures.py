"""What images and videos share: which part of a picture is seen, how, and how it is compressed.

Shape suffixes: T frames, H height, W width.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmeq.data.media.checks import flag, whole
from mmeq.errors import MmeqError

SCALE = (0.5, 1.0)
"""Share of the picture that a training crop takes. ImageNet's 0.08 loses what a clip is about."""
RATIO = (3 / 4, 4 / 3)
TRIES = 10
DRAWS = 2 * TRIES + 3
"""Random numbers for one crop and flip."""


@dataclass(frozen=True)
class Look:
    """A part of a picture, in pixels, and whether it is seen in a mirror."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


def check_pictures(kind: str, resize: object, size: object, augment: object, jpeg: object) -> None:
    """Refuse options of pictures that make no sense.

    Raises:
        MmeqError: names option, value, and what would be right.
    """
    whole(f"{kind}.resize", resize, 1)
    whole(f"{kind}.size", size, 1)
    flag(f"{kind}.augment", augment)
    if jpeg is not None:
        whole(f"{kind}.jpeg", jpeg, 1, 100)
    if size > resize:  # type: ignore[operator]
        raise MmeqError(
            f"dataset.{kind}.size={size}: the crop is larger than what is kept; give "
            f"dataset.{kind}.resize={size} or more, or a smaller size"
        )


def random_look(height: int, width: int, draws: Sequence[float]) -> Look:
    """Choose a random resized crop and flip.

    Area uniform in `SCALE` of the picture, log of the ratio of width to height uniform in `RATIO`,
    place uniform; after ten that do not fit, the largest centre with an allowed ratio: as
    ``RandomResizedCrop.get_params`` of torchvision does. Mirrored with probability 1/2.

    Args:
        height: of the picture.
        width: of the picture.
        draws: `DRAWS` numbers, uniform in [0, 1).
    """
    top_draw, left_draw, flip_draw = draws[2 * TRIES :]
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for k in range(TRIES):
        area = height * width * (SCALE[0] + draws[2 * k] * (SCALE[1] - SCALE[0]))
        ratio = math.exp(low + draws[2 * k + 1] * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = min(int(top_draw * (height - h + 1)), height - h)
            left = min(int(left_draw * (width - w + 1)), width - w)
            return Look(top, left, h, w, flip_draw < 0.5)
    h = min(height, max(1, round(width / RATIO[0])))
    w = min(width, max(1, round(height * RATIO[1])))
    return Look((height - h) // 2, (width - w) // 2, h, w, flip_draw < 0.5)


def centre_look(height: int, width: int, size: int) -> Look:
    """Choose the square in the middle: size pixels wide, or all of a shorter side."""
    side = min(size, height, width)
    return Look((height - side) // 2, (width - side) // 2, side, side)


def see(frames: Sequence[np.ndarray], look: Look, out_T3SS: Tensor) -> None:
    """Write a part of each frame, resized, into its place in a batch.

    Bilinear with antialiasing, as torchvision's ``resize``.

    Args:
        frames: T of uint8 [H, W, 3]; may be read-only.
        look: which part.
        out_T3SS: uint8, in one piece; S its height and width.
    """
    down = slice(look.top, look.top + look.height)
    across = slice(look.left, look.left + look.width)
    pixels = torch.from_numpy(np.stack([frame[down, across] for frame in frames]))
    pixels = pixels.permute(0, 3, 1, 2)
    size = out_T3SS.shape[-1]
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    # NumPy turns pixels into planes, mirrored or not, in half the time of torch
    np.copyto(out_T3SS.numpy(), pixels.numpy()[..., ::-1] if look.mirrored else pixels.numpy())


def pack(frame_HW3: np.ndarray, quality: int) -> bytes:
    """Compress a frame as JPEG.

    Args:
        frame_HW3: uint8.
        quality: 1 to 100.
    """
    out = io.BytesIO()
    Image.fromarray(frame_HW3).save(out, "JPEG", quality=quality)
    return out.getvalue()


def unpack(data: np.ndarray) -> np.ndarray:
    """Decompress a JPEG: uint8 [n] → uint8 [H, W, 3]."""
    # torchvision's decoder takes half the time, but is to be removed from it
    return np.asarray(Image.open(io.BytesIO(data.data)))
