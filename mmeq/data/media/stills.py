"""Pictures: image files read with Pillow, and any picture cropped and resized.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmeq.data.media.clip import Broken, Clip
from mmeq.data.media.containers import readable, says

MOST_PIXELS = 89_478_485
"""Width × height above which a picture is refused: a quarter of a gigabyte in RGB."""
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
"""Format → bytes at the end of a file that is whole."""


def read_image(clip: Clip, resize: int | None) -> np.ndarray:
    """Read a picture, upright, in RGB; of an animation the first one.

    What is transparent lies on white; 16-bit greys lose their lower byte.

    Args:
        clip: the file, and the part of the upright picture that counts.
        resize: length of the shorter side in pixels (see `fit`); None keeps the size.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Broken: it is no picture, is truncated or damaged, or has more than `MOST_PIXELS`.
        MmeqError: it cannot be read.
    """
    with readable(clip), clip.path.open("rb") as stream:
        image = _open(stream)
        _decode(image)
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # damaged EXIF data end in errors of all kinds; the pixels are sound
            upright = image
        return fit(_rgb(upright), clip.crop, resize)


def probe_image(clip: Clip) -> None:
    """Look whether a file is a whole picture; decode it only if it does not end as it should.

    Raises:
        Broken: see `read_image`.
        MmeqError: it cannot be read.
    """
    with readable(clip), clip.path.open("rb") as stream:
        image = _open(stream)
        end = ENDS.get(image.format or "", b"")
        stream.seek(-len(end), 2)
        if not end or stream.read() != end:
            stream.seek(0)
            _decode(_open(stream))


def fit(
    image: Image.Image,
    crop: tuple[float, float, float, float] | None,
    resize: int | None,
    aspect: float = 1.0,
) -> np.ndarray:
    """Crop a picture, then resize it, by a triangle filter as wide as the scale asks (no aliasing).

    Args:
        image: RGB.
        crop: left, top, right, bottom as shares; edges are rounded to whole pixels.
        resize: length of the shorter side in pixels, the other in proportion, rounded; smaller
            pictures grow. None: neither size nor aspect change.
        aspect: width of a pixel by its height.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Broken: the result had more than `MOST_PIXELS`.
    """
    if crop is not None:
        width, height = image.size
        left, right = (round(crop[side] * width) for side in (0, 2))
        top, bottom = (round(crop[side] * height) for side in (1, 3))
        left, top = min(left, width - 1), min(top, height - 1)
        image = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    if resize is not None:
        width, height = image.size
        scale = resize / min(width * aspect, height)
        size = max(round(width * aspect * scale), 1), max(round(height * scale), 1)
        check_size(*size)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
    return np.array(image)


def check_size(width: int, height: int) -> None:
    """Raise Broken for a picture that would not fit in memory."""
    if width * height > MOST_PIXELS:
        raise Broken(f"{width} × {height} pixels are too many")


def _open(stream: BinaryIO) -> Image.Image:
    try:
        image = Image.open(stream)
    except UnidentifiedImageError as error:
        raise Broken("no picture") from error
    except Exception as error:
        raise _verdict(error) from error
    if image.format == "EPS":
        raise Broken("EPS, a program and no picture")
    check_size(*image.size)
    return image


def _decode(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:
        raise _verdict(error) from error


def _verdict(error: Exception) -> Exception:
    """Return what to raise: Pillow meets damage with exceptions of all kinds."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return Broken("its pixels are too many")
    words = says(error).lower()
    return Broken("truncated" if "truncated" in words else f"damaged ({words})")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise Broken("floating-point pixels, whose white is unknown")
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
    except ValueError as error:
        raise Broken(f"pixels of mode {image.mode}") from error
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")
