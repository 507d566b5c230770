"""Front ends of a language model: sound, pictures, clips, vectors and sequences become tokens.

Shape suffixes: B batch, N samples of a waveform, F features or frequencies, T time, C channels,
H height, W width of pictures, K tokens, E width of the model's embeddings.
"""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.data.spec import Modality
from mmeq.encoders.image import ImageEncoder
from mmeq.errors import MmeqError

BLOCKS = 4
"""Convolutions of stride 2 over sound and pictures."""
WINDOW, HOP, BANDS = 400, 160, 64
"""Of a waveform's spectrum: samples (25 and 10 ms at 16 kHz) and mel bands."""
AXES = {"vector": (1,), "sequence": (2,), "audio": (1, 2), "image": (3,), "video": (4,)}
"""How many axes a sample may have, by kind."""


class Front(nn.Module):
    """A sample becomes K tokens that look like embeddings of words, and one that asks.

    A reader by kind gives K vectors; each is layer-normalised, projected to E and brought to the
    root mean square that embeddings of words have, times one learnt factor. One learnt token
    follows: under causal attention only the last token sees all others, and this one need carry
    nothing else.

    Args:
        modality: of any kind but text.
        width: E.
        scale: root mean square of the embeddings of words.
        tokens: K.
        hidden: width of the readers; a multiple of 4, at least 16.
        dropout: on what is projected.

    Raises:
        MmeqError: for a shape that the kind does not have.
    """

    def __init__(
        self,
        modality: Modality,
        width: int,
        scale: float,
        tokens: int = 8,
        hidden: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        kind, shape = modality.kind, modality.shape
        if len(shape) not in AXES.get(kind, ()):
            raise MmeqError(
                f"modality {modality.name!r} of kind {kind!r} has the shape {shape}, which no "
                "front end of a language model takes"
            )
        self.read: nn.Module
        if kind == "vector":
            self.read = VectorReader(shape[0], tokens, hidden)
        elif kind == "sequence":
            self.read = SequenceReader(shape[-1], tokens, hidden)
        elif kind == "audio":
            self.read = AudioReader(tokens, hidden)
        else:
            self.read = PictureReader(shape[-3], tokens, hidden)
        self.project = nn.Sequential(
            nn.LayerNorm(4 * hidden), nn.Dropout(dropout), nn.Linear(4 * hidden, width)
        )
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.ask = nn.Parameter(torch.randn(width) * scale)

    def forward(self, x: Tensor | dict[str, Tensor]) -> Tensor:
        """Tokens [B, K + 1, E]."""
        out_BKE = self.project(self.read(x))
        out_BKE = F.rms_norm(out_BKE, out_BKE.shape[-1:]) * self.scale
        return torch.cat([out_BKE, self.ask.expand(len(out_BKE), 1, -1).to(out_BKE)], dim=1)


class VectorReader(nn.Module):
    """A layer of its own for each token over a common hidden one: [B, F] → [B, K, 4 hidden]."""

    def __init__(self, width: int, tokens: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, 2 * hidden),
            nn.LayerNorm(2 * hidden),
            nn.GELU(),
            nn.Linear(2 * hidden, tokens * 4 * hidden),
            nn.Unflatten(1, (tokens, 4 * hidden)),
        )

    def forward(self, x_BF: Tensor) -> Tensor:
        """Tokens [B, K, 4 hidden]."""
        return self.body(x_BF)


class SequenceReader(nn.Module):
    """Two masked convolutions over time, then the mean and maximum of K stretches.

    The stretches divide each sequence by its own length, so that padding changes nothing.
    """

    def __init__(self, width: int, tokens: int, hidden: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(size, 2 * hidden, 5, padding=2) for size in (width, 2 * hidden)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(2 * hidden) for _ in self.convolutions])

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Tokens [B, K, 4 hidden] of ``{"values": [B, T, F], "length": int [B]}``."""
        out_BTF, length_B = x["values"], x["length"].clamp_min(1)
        steps_T = torch.arange(out_BTF.shape[1], device=out_BTF.device)
        mask_BT1 = (steps_T < length_B[:, None])[:, :, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            out_BTF = convolution((out_BTF * mask_BT1).transpose(1, 2)).transpose(1, 2)
            out_BTF = F.gelu(norm(out_BTF))
        return stretches(out_BTF, length_B, self.tokens)


def stretches(x_BTF: Tensor, length_B: Tensor, count: int) -> Tensor:
    """Mean and maximum over `count` stretches of each sequence: [B, count, 2 F].

    Stretch k of a sequence of length L holds the steps ⌊kL/count⌋ to ⌈(k+1)L/count⌉ - 1, as
    adaptive pooling does; those of a short sequence overlap.

    Examples:
        >>> stretches(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]), 2)
        tensor([[[1., 1.],
                 [3., 3.]]])
    """
    steps_T = torch.arange(x_BTF.shape[1], device=x_BTF.device)
    out = []
    for k in range(count):
        start_B = (k * length_B).div(count, rounding_mode="floor")
        end_B = -(-(k + 1) * length_B).div(count, rounding_mode="floor")
        inside_BT1 = ((steps_T >= start_B[:, None]) & (steps_T < end_B[:, None]))[:, :, None]
        mean_BF = (x_BTF * inside_BT1).sum(1) / inside_BT1.sum(1)
        top_BF = x_BTF.masked_fill(~inside_BT1, float("-inf")).amax(1)
        out.append(torch.cat([mean_BF, top_BF], dim=1))
    return torch.stack(out, dim=1)


class AudioReader(nn.Module):
    """Convolutions over a spectrogram [B, F, T], then K stretches of time.

    A sample is standardised by its own mean and deviation; a second channel tells each place its
    frequency. A waveform [B, N] first becomes a log mel spectrogram, its bands placed as for 16
    kHz.
    """

    def __init__(self, tokens: int, hidden: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.body = convolutions(2, hidden)
        bands = torchaudio.functional.melscale_fbanks(
            WINDOW // 2 + 1, 60.0, 7800.0, BANDS, 16000, norm="slaney"
        )
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, K, 4 hidden]."""
        x = self._spectrum(x) if x.ndim == 2 else x
        centred = x - x.mean((1, 2), keepdim=True)
        x = centred * (centred.square().mean((1, 2), keepdim=True) + 1e-10).rsqrt()
        pitch_F = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype, device=x.device)
        x = self.body(torch.stack([x, pitch_F[:, None].expand_as(x)], dim=1))
        return pooled(x[:, :, None], (1, 1, self.tokens))

    def _spectrum(self, x_BN: Tensor) -> Tensor:
        spectrum_BFT = torch.stft(
            x_BN.float(),
            WINDOW,
            HOP,
            window=self.window.float(),
            pad_mode="constant",
            return_complex=True,
        )
        power_BTF = spectrum_BFT.abs().square().transpose(1, 2)
        return (power_BTF @ self.bands.to(power_BTF) + 1e-7).log().transpose(1, 2)


class PictureReader(nn.Module):
    """Convolutions over each picture, then K places: uint8 [B, 3, H, W] or [B, T, C, H, W].

    The places divide a picture into rows and columns as square as K allows; of a clip a quarter as
    many stretches of time by 2 × 2, where 4 divides K, else K stretches of time.
    """

    def __init__(self, channels: int, tokens: int, hidden: int) -> None:
        super().__init__()
        rows = max(n for n in range(1, tokens + 1) if tokens % n == 0 and n * n <= tokens)
        self.places = (1, rows, tokens // rows)
        self.times = (tokens // 4, 2, 2) if tokens % 4 == 0 else (tokens, 1, 1)
        self.body = convolutions(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, K, 4 hidden]."""
        x = x.to(self.body[0].weight.dtype) / 127.5 - 1
        if x.ndim == 4:
            return pooled(self.body(x)[:, :, None], self.places)
        out = self.body(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return pooled(out.transpose(1, 2), self.times)


def convolutions(channels: int, hidden: int) -> nn.Sequential:
    """Blocks of convolution (stride 2), group norm and GELU up to 2 · hidden channels."""
    body: list[nn.Module] = []
    for block in range(BLOCKS):
        out = hidden // 4 * 2**block
        body += [
            nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(min(8, out // 4), out),
            nn.GELU(),
        ]
        channels = out
    return nn.Sequential(*body)


def pooled(x: Tensor, places: tuple[int, int, int]) -> Tensor:
    """Mean and maximum of [B, C, T, H, W] over a grid of places: [B, places, 2 C]."""
    both = torch.cat([F.adaptive_avg_pool3d(x, places), F.adaptive_max_pool3d(x, places)], dim=1)
    return both.flatten(2).transpose(1, 2)


class Augment:
    """Training pictures and clips are shifted, scaled and mirrored as `ImageEncoder` does.

    An object apart from any network, which data workers can take with them.
    """

    augment = True

    def __call__(self, raw: Tensor, training: bool, generator: torch.Generator) -> Tensor:
        """Augment uint8 [B, 3, H, W] or [B, T, 3, H, W] for training; all frames move alike."""
        together = raw.flatten(1, -3)  # frames as channels of one picture
        return ImageEncoder.transform(self, together, training, generator).view(raw.shape)
