"""Columns: all samples of one modality in memory, given batch by batch.

Shape suffixes: N samples, B batch, F features, T time, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Statistics = tuple[Tensor, Tensor]
"""Mean and scale of each feature, float64 [F]."""


class Column(Protocol):
    """The samples of one modality."""

    def __len__(self) -> int:
        """N."""

    def batch(self, rows_B: Tensor) -> Any:  # noqa: ANN401 - by kind, see `Manifest`
        """Return the raw batch of these rows (int64)."""

    def finite(self) -> Tensor:
        """Return bool [N]: the sample holds neither NaN nor an infinity."""

    def masked(self, present_N: Tensor) -> Column:
        """Return the column with zeros (an empty text) where the sample lacks the modality."""

    def take(self, rows: Tensor) -> Column:
        """Return the column of these rows (int64) alone."""

    def content(self, row: int) -> bytes:
        """Return a sample's content, to find samples that are identical."""


@dataclass(frozen=True)
class VectorColumn:
    """Vectors float32 [N, F]."""

    values: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    def batch(self, rows_B: Tensor) -> Tensor:
        """Float32 [B, F]."""
        return self.values[rows_B]

    def finite(self) -> Tensor:
        """Bool [N]."""
        return torch.isfinite(self.values).all(1)

    def masked(self, present_N: Tensor) -> VectorColumn:
        """Zeros where absent, NaN there included."""
        return VectorColumn(torch.where(present_N[:, None], self.values, 0.0))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (F,)."""
        return tuple(self.values.shape[1:])

    def take(self, rows: Tensor) -> VectorColumn:
        """These rows alone."""
        return VectorColumn(self.values[rows])

    def content(self, row: int) -> bytes:
        """The vector's bytes."""
        return self.values[row].numpy().tobytes()

    def statistics(self, rows_N: Tensor) -> Statistics:
        """Mean and scale float64 [F] of every feature over some rows (bool [N])."""
        return _statistics(self.values[rows_N])

    def scaled(self, statistics: Statistics) -> VectorColumn:
        """Centre and scale every feature."""
        mean, scale = statistics
        return VectorColumn(((self.values.double() - mean) / scale).float())


@dataclass(frozen=True)
class SequenceColumn:
    """Sequences float32 [N, T, F], padded with zeros, and their lengths int64 [N]."""

    values: Tensor
    length: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    def batch(self, rows_B: Tensor) -> dict[str, Tensor]:
        """``{"values": float32 [B, T, F], "length": int64 [B]}``."""
        return {"values": self.values[rows_B], "length": self.length[rows_B]}

    def finite(self) -> Tensor:
        """Bool [N]; padding counts too, since a NaN there would still spread."""
        return torch.isfinite(self.values).flatten(1).all(1)

    def masked(self, present_N: Tensor) -> SequenceColumn:
        """Zeros and length 0 where absent."""
        values = torch.where(present_N[:, None, None], self.values, 0.0)
        return SequenceColumn(values, self.length * present_N)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (T, F)."""
        return tuple(self.values.shape[1:])

    def take(self, rows: Tensor) -> SequenceColumn:
        """These rows alone."""
        return SequenceColumn(self.values[rows], self.length[rows])

    def content(self, row: int) -> bytes:
        """The bytes of the steps that count."""
        return self.values[row, : int(self.length[row])].numpy().tobytes()

    def statistics(self, rows_N: Tensor) -> Statistics:
        """Mean and scale float64 [F] over the valid steps of some rows (bool [N])."""
        return _statistics(self.values[self._valid() & rows_N[:, None]])

    def scaled(self, statistics: Statistics) -> SequenceColumn:
        """Centre and scale every feature; the padding stays zero."""
        mean, scale = statistics
        values = ((self.values.double() - mean) / scale).float()
        return SequenceColumn(torch.where(self._valid()[:, :, None], values, 0.0), self.length)

    def _valid(self) -> Tensor:
        """Bool [N, T]: the step lies within the sample's length."""
        return torch.arange(self.values.shape[1]) < self.length[:, None]


@dataclass(frozen=True)
class ImageColumn:
    """Decoded images uint8 [N, 3, H, W]."""

    pixels: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    def batch(self, rows_B: Tensor) -> Tensor:
        """Uint8 [B, 3, H, W]."""
        return self.pixels[rows_B]

    def finite(self) -> Tensor:
        """Bytes always are."""
        return torch.ones(len(self), dtype=torch.bool)

    def masked(self, present_N: Tensor) -> ImageColumn:
        """Black where absent."""
        return ImageColumn(self.pixels * present_N[:, None, None, None])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (3, H, W)."""
        return tuple(self.pixels.shape[1:])

    def take(self, rows: Tensor) -> ImageColumn:
        """These rows alone."""
        return ImageColumn(self.pixels[rows])

    def content(self, row: int) -> bytes:
        """The pixels."""
        return self.pixels[row].numpy().tobytes()


@dataclass(frozen=True)
class TextColumn:
    """Texts."""

    texts: list[str]

    def __len__(self) -> int:
        """N."""
        return len(self.texts)

    def batch(self, rows_B: Tensor) -> list[str]:
        """B texts."""
        return [self.texts[row] for row in rows_B.tolist()]

    def finite(self) -> Tensor:
        """Texts always are."""
        return torch.ones(len(self), dtype=torch.bool)

    def masked(self, present_N: Tensor) -> TextColumn:
        """Empty where absent."""
        kept = zip(self.texts, present_N.tolist(), strict=True)
        return TextColumn([text if here else "" for text, here in kept])

    @property
    def shape(self) -> tuple[int, ...]:
        """Texts have none."""
        return ()

    def take(self, rows: Tensor) -> TextColumn:
        """These rows alone."""
        return TextColumn([self.texts[row] for row in rows.tolist()])

    def content(self, row: int) -> bytes:
        """The text in UTF-8."""
        return self.texts[row].encode()


def _statistics(values: Tensor) -> Statistics:
    """Mean and scale of each last-axis feature; a constant feature keeps scale 1."""
    values = values.double()
    mean = values.mean(0)
    scale = values.std(0, correction=0)
    constant = scale <= 1e-7 * values.abs().amax(0).clamp_min(1e-30)
    return mean, torch.where(constant, 1.0, scale)
