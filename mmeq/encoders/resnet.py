"""Encoders by ResNet-18: sound as a picture of one channel, images, and frames of clips.

Shape suffixes: B batch, T frames, C channels, H height, W width, F frequencies, D width of the
features; N = B or B·T pictures.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from mmeq.data.media.pictures import DRAWS, random_look
from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.encoders.resnet_weights import load_resnet18
from mmeq.errors import MmeqError

WIDTH = 512
"""Features of ResNet-18."""
STRIDE = 32
"""Pixels of the picture, each way, for one place of the last feature map."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of the colours, of values from 0 to 1."""
FLOW = 0.5, 0.226
"""The same of each direction of flow [second-hand: temporal segment networks]."""


class ResNet(nn.Module):
    """Torchvision's ResNet-18 without its classifier: pictures [N, C, H, W] → features [N, 512].

    The recipe of the field [second-hand: the released code of OGM-GE (Peng et al. 2022,
    arXiv 2203.15332), which MMPareto, D&R and BalanceBenchmark share]: first convolution 7×7 for
    the channels at hand, convolutions from N(0, 2 / fan_out), batch norms from 1 and 0, the last
    map averaged over space (and time), 512 features that go straight into the fusion.

    Batch norm knows the batch in training; in evaluation it uses running statistics, so that a
    sample's features depend on nothing else. In training too, if the last map has a single place
    (one picture of up to 32 pixels): the deviation of one number is none.

    Args:
        kind: of the modality, for names of options.
        channels: C.
        dim: D.
        weights: null, imagenet or a local path, see `mmeq.encoders.resnet_weights`.
        project: a linear layer 512 → D (Xavier's normal weights, bias 0 [second-hand: as OGM-GE's
            linear layers]); null: only where D is not 512; false: none.
        dropout: of the features, before that.

    Attributes:
        first_weights: options that say no more than what weights training begins with.

    Raises:
        MmeqError: for options that make no network, and for weights that cannot be had.
    """

    first_weights: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(
        self,
        kind: str,
        channels: int,
        dim: int,
        weights: str | None,
        project: bool | None,
        dropout: float,
    ) -> None:
        super().__init__()
        option = f"backbone.encoders.{kind}"
        if project is False and dim != WIDTH:
            raise MmeqError(
                f"{option}.project=false: ResNet-18 has {WIDTH} features; give "
                f"backbone.dim={WIDTH} in place of {dim}, or {option}.project=null"
            )
        if not 0 <= dropout < 1:
            raise MmeqError(f"{option}.dropout={dropout}: give 0 or more and less than 1")
        self.body = resnet18()
        self.body.fc = nn.Identity()
        if channels != 3:
            self.body.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.body.conv1.weight, mode="fan_out", nonlinearity="relu")
        if weights is not None:
            load_resnet18(self.body, weights, f"{option}.weights")
        self.dropout = nn.Dropout(dropout)
        self.project: nn.Module = nn.Identity()
        if project or (project is None and dim != WIDTH):
            self.project = nn.Linear(WIDTH, dim)
            nn.init.xavier_normal_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    @classmethod
    def needs(cls, kind: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - options as given
        """Return the fields that the modality's format must have: none, any size will do."""
        return {}

    def pictures(self, x_NCHW: Tensor) -> Tensor:
        """Features [N, 512] of pictures, normalised already."""
        count, _, height, width = x_NCHW.shape
        places = count * math.ceil(height / STRIDE) * math.ceil(width / STRIDE)
        if places > 1 or not self.body.training:
            return self.body(x_NCHW)
        self.body.eval()
        try:
            return self.body(x_NCHW)
        finally:
            self.body.train()

    def ending(self, features_B512: Tensor) -> Tensor:
        """Features [B, D] of the body's."""
        return self.project(self.dropout(features_B512))


class AudioResNet(ResNet):
    """ResNet-18 of a spectrogram or filter bank as one channel: float [B, F, T] → [B, D].

    Args:
        modality: its shape is (F, T).
        dim: D.
        weights: null: from scratch; imagenet or a local path: of pictures, the first convolution
            folded to one channel.
        project: see `ResNet`.
        standardise: every sample by its own mean and deviation. False takes values as the format
            gives them: the published recipe [second-hand: OGM-GE's code has that step commented
            out; CAV-MAE's filter banks are normalised by the format's mean and std]. Choose true
            with weights of pictures, which expect values around zero.
        dropout: see `ResNet`.

    Raises:
        MmeqError: for options that make no network, weights that cannot be had, and waveforms.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        weights: str | None = None,
        project: bool | None = None,
        standardise: bool = False,
        dropout: float = 0.0,
    ) -> None:
        if len(modality.shape) != 2:
            raise MmeqError(
                f"modality {modality.name!r} has the shape {modality.shape}: "
                "backbone.encoders.audio takes (frequencies, time); give "
                "dataset.audio.features=spectrogram or fbank, not waveform"
            )
        super().__init__("audio", 1, dim, weights, project, dropout)
        self.standardise = standardise

    def forward(self, x_BFT: Tensor) -> Tensor:
        """Features [B, D]."""
        x = x_BFT.to(self.body.conv1.weight.dtype)
        if self.standardise:
            x = x - x.mean((1, 2), keepdim=True)
            x = x * (x.square().mean((1, 2), keepdim=True) + 1e-10).rsqrt()
        return self.ending(self.pictures(x[:, None]))


class PictureResNet(ResNet):
    """ResNet-18 of an image or of frames: uint8 [B, 3, H, W] or [B, T, C, H, W] → [B, D].

    Frames are folded into the batch, and the last map is averaged over time and space: for frames
    of one size the mean of the frames' features. Colours are normalised by ImageNet's statistics,
    flow (2 channels) by 0.5 and 0.226.

    Args:
        modality: its shape is (3, H, W) or (T, C, H, W).
        dim: D.
        weights: null: from scratch; imagenet or a local path: first convolution folded for flow.
        project: see `ResNet`.
        size: H and W that pictures are resized to, here if they are in memory and by the data's
            format otherwise; null leaves them. Weights of ImageNet are used to 224.
        dropout: see `ResNet`.
        augment: training pictures are cropped, resized and mirrored at random (as
            `mmeq.data.media.pictures.random_look` has it, all frames alike), unless the data module
            has done so by itself. Flow never is: its values would have to turn with it.

    Raises:
        MmeqError: for options that make no network, weights that cannot be had, other shapes.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        weights: str | None = None,
        project: bool | None = None,
        size: int | None = None,
        dropout: float = 0.0,
        augment: bool = True,
    ) -> None:
        kind, shape = modality.kind, modality.shape
        if len(shape) != (4 if kind == "video" else 3):
            frames = "frames, channels" if kind == "video" else "3"
            raise MmeqError(
                f"modality {modality.name!r} has the shape {shape}: "
                f"backbone.encoders.{kind} takes ({frames}, height, width)"
            )
        if size is not None:
            check_sizes(kind, {"size": (size, 1)})
        channels = shape[-3]
        super().__init__(kind, channels, dim, weights, project, dropout)
        self.size = size
        self.augment = augment and channels == 3 and not modality.augmented
        colours, motion = IMAGENET, tuple((one,) * channels for one in FLOW)
        for name, values in zip(("mean", "std"), colours if channels == 3 else motion, strict=True):
            buffer = torch.tensor(values)[:, None, None] * 255
            self.register_buffer(name, buffer, persistent=False)

    @classmethod
    def needs(cls, kind: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - options as given
        """Return ``size`` and ``resize`` of the format if the option ``size`` is given."""
        size = options.get("size")
        return {} if size is None else {"size": size, "resize": round(size * 256 / 224)}

    def transform(self, raw: Tensor, training: bool, generator: torch.Generator) -> Tensor:
        """Augment uint8 pictures for training; leave them as they are otherwise."""
        if not (training and self.augment):
            return raw
        draws = torch.rand(len(raw), DRAWS, generator=generator).tolist()
        height, width = raw.shape[-2:]
        out = torch.empty_like(raw)
        for row, one in enumerate(raw):
            look = random_look(height, width, draws[row])
            part = one[..., look.top : look.top + look.height, look.left : look.left + look.width]
            frames_TCHW = part.reshape(-1, *part.shape[-3:])
            seen = F.interpolate(frames_TCHW, (height, width), mode="bilinear", antialias=True)
            out[row] = (seen.flip(-1) if look.mirrored else seen).reshape(one.shape)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D]."""
        frames_NCHW = x.flatten(0, -4).to(self.body.conv1.weight.dtype)
        mean, std = (getattr(self, name).to(frames_NCHW.dtype) for name in ("mean", "std"))
        frames_NCHW = (frames_NCHW - mean) / std
        if self.size is not None and frames_NCHW.shape[-2:] != (self.size, self.size):
            frames_NCHW = F.interpolate(
                frames_NCHW, (self.size, self.size), mode="bilinear", antialias=True
            )
        features_N512 = self.pictures(frames_NCHW)
        return self.ending(features_N512.unflatten(0, (len(x), -1)).mean(1))
