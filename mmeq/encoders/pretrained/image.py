"""Pretrained bodies for images and frames: models of transformers, timm and torchvision.

Shape suffixes: B batch, T frames, H width of the body's features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.data.spec import Modality
from mmeq.encoders.loading import Source, extra, fetch
from mmeq.encoders.pretrained.body import Body
from mmeq.encoders.pretrained.libraries import (
    load_timm,
    load_torchvision,
    load_transformers,
    timm_card,
    torchvision_weights,
)
from mmeq.errors import MmeqError


@dataclass(frozen=True)
class Look:
    """How a model wants its images.

    Attributes:
        size: height and width.
        resize: shorter side, of which the centre of `size` is cut.
        scale: factor of the bytes.
        mean: of each channel, after the scale.
        std: of each channel.
    """

    size: int
    resize: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ImageBody(Body):
    """uint8 [B, 3, height, width] or [B, T, 3, height, width] → features [B, H].

    Images of another size than the model's are resized (bicubic, antialiased); mean and deviation
    are the model's own. Frames are seen one by one, and their features averaged.

    Args:
        source: of the model.
        modality: its shape is (3, H, W) or (T, 3, H, W).
        pooling: of a transformers model; timm and torchvision pool by themselves: auto.
        size: pixels, in place of the model's own; for models that take any.
    """

    def __init__(self, source: Source, modality: Modality, pooling: str, size: int | None) -> None:
        if len(modality.shape) < 3 or modality.shape[-3] != 3:
            raise MmeqError(
                f"modality {modality.name!r} has the shape {modality.shape}: {source.option} takes "
                f"3 channels; for others take backbone=small's backbone.encoders.{source.kind}"
            )
        look = look_of(source, size)
        if source.library == "transformers":
            super().__init__(source, *load_transformers(source))
        elif source.library == "timm":
            super().__init__(source, load_timm(source))
        else:
            super().__init__(source, load_torchvision(source))
        self.look = look
        self.given = f"images of {look.size} pixels"
        self.register_buffer("mean", torch.tensor(look.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(look.std).view(3, 1, 1), persistent=False)
        if source.library == "transformers":
            self.choose(pooling)
        elif pooling != "auto":
            raise self.refuse("pooling", pooling, f"auto: {source.library} pools by itself")
        self.facts |= {"size": self.look.size, "scale": self.look.scale}
        self.facts |= {"mean": list(self.look.mean), "std": list(self.look.std)}

    def example(self) -> Tensor:
        """One grey image."""
        return torch.full((1, 3, self.look.size, self.look.size), 128, dtype=torch.uint8)

    def call(self, inputs: Tensor) -> Any:  # noqa: ANN401
        """Return what the model gives for uint8 images."""
        pixels = inputs.float() * self.look.scale
        size = (self.look.size, self.look.size)
        if tuple(pixels.shape[-2:]) != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True)
            pixels = pixels.clamp(0, 255 * self.look.scale)
        return self.model(((pixels - self.mean) / self.std).to(self.dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """Features [B, H]."""
        found = self.call(inputs.flatten(0, -4))
        features = self.pool(found) if self.source.library == "transformers" else found.flatten(1)
        return features.unflatten(0, inputs.shape[:2]).mean(1) if inputs.ndim == 5 else features


def look_of(source: Source, size: int | None) -> Look:
    """Return how a model wants its images, from its configuration alone.

    Args:
        source: of the model.
        size: pixels in place of the model's own.

    Raises:
        MmeqError: when that is not to be found, or the size is no size.
    """
    if size is not None and size < 16:
        raise MmeqError(f"backbone.encoders.{source.kind}.size={size}: give 16 or more, or null")
    of = {"timm": _timm_look, "torchvision": _torchvision_look}.get(source.library, _own_look)
    look = of(source)
    if size is None:
        return look
    resize = max(size, round(size * look.resize / look.size))
    return Look(size, resize, look.scale, look.mean, look.std)


def _own_look(source: Source) -> Look:
    processor = fetch(source, extra("transformers").AutoImageProcessor.from_pretrained)
    sizes = dict(processor.size or {})
    crop = dict(getattr(processor, "crop_size", None) or {})
    shorter = sizes.get("shortest_edge") or sizes.get("height")
    cut = crop.get("height") if getattr(processor, "do_center_crop", False) else None
    if not shorter:
        raise source.refuse(f"its preprocessor gives no size (size={sizes})")
    mean, std = ((0.0,) * 3, (1.0,) * 3)
    if processor.do_normalize:
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    side = int(cut or shorter)
    return Look(side, max(side, int(shorter)), scale, mean, std)


def _timm_look(source: Source) -> Look:
    known = extra("timm").data.resolve_data_config(args={}, pretrained_cfg=timm_card(source))
    side = int(known["input_size"][-1])
    return Look(
        side, max(side, int(side / known["crop_pct"])), 1 / 255,
        tuple(known["mean"]), tuple(known["std"]),
    )  # fmt: skip


def _torchvision_look(source: Source) -> Look:
    seen = torchvision_weights(source).transforms()
    side = int(seen.crop_size[0])
    return Look(
        side, max(side, int(seen.resize_size[0])), 1 / 255, tuple(seen.mean), tuple(seen.std)
    )
