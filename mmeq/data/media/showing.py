"""Samples to look at: which are drawn, and what of each is shown, with units where known.

Shape suffixes: T time or frames, F features, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from mmeq.data.columns import Column, SequenceColumn, VectorColumn
from mmeq.data.manifest import TRAIN, UNUSED, Manifest
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.column import MediaColumn
from mmeq.data.spec import Modality
from mmeq.errors import MmeqError

FEW = 6
"""Features of a sequence that are drawn as a line each."""
LOWEST = 20.0
"""Hz: lower end of the mel bins of Kaldi's fbank."""
_STREAM = 2


@dataclass(frozen=True)
class Picture:
    """What is drawn of one sample of one modality.

    Attributes:
        form: frames: uint8 [T, H, W, 3]; map: float [F, T], the first row at the bottom; lines:
            float [T, F]; bars: float [F]; text; missing; broken. NaN is beyond the sample's end.
        values: as said.
        text: the text; of what is broken, why.
        across: what the horizontal axis counts, with its unit.
        along: the same of the vertical axis.
        span: horizontal coordinates of the left and right end.
        rise: vertical coordinates of the lower and upper end of a map.
        ticks: vertical coordinate → label, where the scale is not linear.
    """

    form: Literal["frames", "map", "lines", "bars", "text", "missing", "broken"]
    values: np.ndarray | None = None
    text: str = ""
    across: str = ""
    along: str = ""
    span: tuple[float, float] = (0.0, 1.0)
    rise: tuple[float, float] = (0.0, 1.0)
    ticks: dict[float, str] | None = None


def draw(manifest: Manifest, samples: int, seed: int) -> list[int]:
    """Draw rows to look at, class by class, from the train part where it has the class.

    Every class gives one before any gives two; of more classes than samples some are drawn.

    Args:
        manifest: any.
        samples: at most so many.
        seed: another seed, other samples.

    Returns:
        Rows, sorted by class.
    """
    labels, split = manifest.labels.numpy(), manifest.split
    queues = []
    for k in range(len(manifest.spec.classes)):
        rows = np.flatnonzero((labels == k) & (split == TRAIN))
        if not len(rows):
            rows = np.flatnonzero((labels == k) & (split != UNUSED))
        queues.append(np.random.default_rng([seed, _STREAM, k]).permutation(rows).tolist())
    order = np.random.default_rng([seed, _STREAM]).permutation(len(queues)).tolist()
    drawn: list[int] = []
    for turn in range(max(map(len, queues), default=0)):
        drawn += [queues[k][turn] for k in order if turn < len(queues[k])]
        if len(drawn) >= samples:
            break
    return sorted(drawn[:samples], key=lambda row: int(labels[row]))


def pictures(manifest: Manifest, rows: Sequence[int]) -> list[list[Picture]]:
    """Return what is drawn of samples: the batch that evaluation makes of each.

    Vectors and sequences are standardised by the training part, as in the data module.

    Args:
        manifest: any.
        rows: of the samples.

    Returns:
        One list a sample, with one picture a modality.
    """
    out: list[list[Picture]] = [[] for _ in rows]
    drawn, train_N = (
        torch.tensor(rows, dtype=torch.int64),
        torch.from_numpy(manifest.split == TRAIN),
    )
    for m, modality in enumerate(manifest.spec.modalities):
        column, fit_N = manifest.columns[modality.name], train_N & manifest.present[:, m]
        few: Any = column.take(drawn)
        if isinstance(column, VectorColumn | SequenceColumn) and fit_N.any():
            few = few.scaled(column.statistics(fit_N))
        here = manifest.present[drawn, m].tolist()
        for k, present in enumerate(here):
            out[k].append(picture(few, k, modality, present))
    return out


def picture(column: Column, row: int, modality: Modality, present: bool) -> Picture:
    """Return what is drawn of one sample of one modality.

    Args:
        column: of the modality, standardised where it is of numbers.
        row: of the sample.
        modality: its kind decides the form.
        present: the sample has the modality.
    """
    if not present:
        return Picture("missing")
    try:
        raw: Any = column.batch(torch.tensor([row]))
    except (MmeqError, OSError) as error:
        return Picture("broken", text=str(error).split("; run python")[0])
    if modality.kind == "text":
        return Picture("text", text=raw[0])
    if modality.kind == "sequence":
        steps_TF = raw["values"][0].clone()
        steps_TF[int(raw["length"][0]) :] = torch.nan
        return _sequence(steps_TF.numpy())
    values = raw[0].numpy()
    if modality.kind in ("image", "video"):
        frames = values if values.ndim == 4 else values[None]
        return Picture("frames", _rgb(np.moveaxis(frames, 1, -1)))
    if modality.kind == "vector":
        return Picture("bars", values, across="feature", along="sd", span=(0, len(values)))
    format = column.format if isinstance(column, MediaColumn) else None
    return _audio(values, format if isinstance(format, AudioFormat) else None)


def _rgb(frames: np.ndarray) -> np.ndarray:
    """Uint8 [T, H, W, 3] of frames of 1 to 3 channels: grey; flow as red u and green v; colour."""
    channels = frames.shape[-1]
    if channels == 1:
        return np.repeat(frames, 3, axis=-1)
    if channels == 2:
        return np.concatenate([frames, np.full_like(frames[..., :1], 128)], axis=-1)
    return frames[..., :3]


def _sequence(values_TF: np.ndarray) -> Picture:
    steps, features = values_TF.shape
    if features <= FEW:
        return Picture("lines", values_TF, across="step", span=(0, steps))
    return Picture(
        "map", values_TF.T, across="step", along="feature", span=(0, steps), rise=(0, features)
    )


def _audio(values: np.ndarray, format: AudioFormat | None) -> Picture:
    """Waveform or spectrogram; in seconds and Hz where the format tells them."""
    if values.ndim == 1:
        across, end = ("s", len(values) / format.rate) if format else ("sample", len(values))
        return Picture("lines", values[:, None], across=across, span=(0.0, end))
    bins, steps = values.shape
    if format is None:
        return Picture("map", values, across="step", along="bin", span=(0, steps), rise=(0, bins))
    if format.features == "fbank":
        return Picture(
            "map", values, across="s", along="kHz (mel)", span=(0.0, steps * 0.01),
            rise=(0, bins), ticks=mel_ticks(bins, format.rate),
        )  # fmt: skip
    return Picture(
        "map", values, across="s", along="kHz", span=(0.0, steps * format.hop / format.rate),
        rise=(0.0, format.rate / 2000),
    )  # fmt: skip


def mel_ticks(bins: int, rate: int) -> dict[float, str]:
    """Place 0.25, 1, 4 and 8 kHz on the axis of Kaldi's mel bins.

    Bin k of B has its centre at ``mel(20 Hz) + (k + 1) (mel(rate/2) − mel(20 Hz)) / (B + 1)`` with
    ``mel(f) = 1127 ln(1 + f / 700)`` (torchaudio.compliance.kaldi.get_mel_banks).

    Args:
        bins: B.
        rate: Hz.

    Returns:
        Place on an axis on which bin k reaches from k to k + 1 → frequency in kHz.

    Examples:
        >>> list(mel_ticks(128, 16000).values())
        ['0.25', '1', '4']
    """
    low, high = _mel(LOWEST), _mel(rate / 2)
    return {
        (_mel(hertz) - low) / (high - low) * (bins + 1) - 0.5: f"{hertz / 1000:g}"
        for hertz in (250.0, 1000.0, 4000.0, 8000.0)
        if hertz < rate / 2
    }


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)
