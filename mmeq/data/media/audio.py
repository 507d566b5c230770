"""Audio format: waveforms are kept, and become waveforms, spectrograms or filter banks.

Shape suffixes: B batch, N samples of the waveform, F frequencies or mel bins, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import av
import numpy as np
import torch
from torch import Tensor

from mmeq.data.media.checks import number, whole
from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.decode import probe_audio, read_audio
from mmeq.data.media.spectra import fbank, spec_augment, spectrogram
from mmeq.data.options import one_of
from mmeq.errors import MmeqError

VERSION = 1
"""Of what `AudioFormat.read` gives: to be raised whenever that changes."""
LONGEST = 60.0
"""Seconds that are kept of a clip of which `view` chooses a part."""
DRAWS = 5
"""Random numbers for one sample."""
LEAST_RATE = 1000


@dataclass(frozen=True)
class AudioFormat:
    """Sound: mono at one rate; in a batch of one length.

    features and shape of a sample:

    - waveform: in [-1, 1], ``(samples,)`` with samples = rate · seconds;
    - spectrogram: log(|STFT| + 1e-7), ``(n_fft // 2 + 1, 1 + samples // hop)``;
    - fbank: Kaldi's log mel filter banks as AST and CAV-MAE take them (windows of 25 ms every
      10 ms), ``(bins, round(100 · seconds))``. Frames beyond the end of the clip (with
      ``fill=zero``: of a shorter clip too) are zero before mean and std, as in AST's code.

    An absent sample is zero after all of this.

    Args:
        rate: Hz, after resampling to mono.
        seconds: of a sample.
        fill: what a shorter clip is filled up with: tile repeats it, zero is silence.
        cut: which part of a longer clip: random in training and centre otherwise; centre; start.
            The former two keep the first 60 s of a clip, start no more than `seconds`.
        features: waveform, spectrogram or fbank.
        n_fft: samples of the spectrogram's window, even.
        hop: samples between the spectrogram's frames.
        bins: mel bands of the fbank.
        mean: subtracted from the features; None: no normalisation.
        std: the features are divided by it, as in CAV-MAE. AST divides by twice the deviation:
            give it doubled.
        freq_mask: widest band of bins that training masks (SpecAugment); 0: none. Masked places
            become 0, or the sample's mean without normalisation.
        time_mask: longest stretch of frames that training masks; 0: none.

    Raises:
        MmeqError: names an option that makes no sense, its value, and what would be right.
    """

    kind: ClassVar[str] = "audio"

    rate: int = 16000
    seconds: float = 3.0
    fill: Literal["tile", "zero"] = "tile"
    cut: Literal["random", "start", "centre"] = "random"
    features: Literal["waveform", "spectrogram", "fbank"] = "waveform"
    n_fft: int = 512
    hop: int = 353
    bins: int = 128
    mean: float | None = None
    std: float | None = None
    freq_mask: int = 0
    time_mask: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        whole("audio.rate", self.rate, LEAST_RATE)
        number("audio.seconds", self.seconds)
        one_of("dataset.audio.fill", self.fill, ["tile", "zero"])
        one_of("dataset.audio.cut", self.cut, ["random", "start", "centre"])
        one_of("dataset.audio.features", self.features, ["waveform", "spectrogram", "fbank"])
        whole("audio.n_fft", self.n_fft, 2)
        whole("audio.hop", self.hop, 1)
        whole("audio.bins", self.bins, 4)
        if self.n_fft % 2:
            raise MmeqError(f"dataset.audio.n_fft={self.n_fft}: give an even number")
        if min(self.shape) < 1:
            raise MmeqError(f"dataset.audio.seconds={self.seconds}: too short for {self.features}")
        if (self.mean is None) != (self.std is None):
            given, lacking = ("std", "mean") if self.mean is None else ("mean", "std")
            raise MmeqError(f"dataset.audio.{given} is given without {lacking}: give both or none")
        if self.mean is not None:
            number("audio.mean", self.mean, None)
            number("audio.std", self.std)
        for axis, option in enumerate(("freq_mask", "time_mask")):
            value = getattr(self, option)
            if self.features == "waveform" and value != 0:
                raise MmeqError(
                    f"dataset.audio.{option}={value}: a waveform has no such masks; give 0, or "
                    "features=spectrogram or fbank"
                )
            if self.features != "waveform":
                whole(f"audio.{option}", value, 0, self.shape[axis])

    @property
    def samples(self) -> int:
        """N."""
        return round(self.rate * self.seconds)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (N,) or (F, T)."""
        if self.features == "waveform":
            return (self.samples,)
        if self.features == "spectrogram":
            return self.n_fft // 2 + 1, 1 + self.samples // self.hop
        return self.bins, round(100 * self.seconds)

    @property
    def augments(self) -> bool:
        """Training cuts at random or masks."""
        return self.cut == "random" or self.freq_mask > 0 or self.time_mask > 0

    @property
    def limit(self) -> float:
        """Seconds that are kept of a clip."""
        return self.seconds if self.cut == "start" else max(LONGEST, self.seconds)

    def stored(self) -> dict[str, Any]:
        """Return what `read` depends on beside the file."""
        majors = {name: av.library_versions[name][0] for name in ("libavcodec", "libswresample")}
        return {
            "kind": self.kind, "version": VERSION, "rate": self.rate, "limit": float(self.limit),
            **majors,
        }  # fmt: skip

    def probe(self, clip: Clip) -> float | None:
        """Return the seconds of a clip without decoding it, see `Format.probe`."""
        return probe_audio(clip)

    def read(self, clip: Clip) -> Blob:
        """Decode: int16 [n], n the clip's samples."""
        wave_N = np.ascontiguousarray(read_audio(clip, self.rate, self.limit), dtype="<i2")
        return Blob(wave_N.view(np.uint8), wave_N.shape)

    def view(
        self, blobs: Sequence[Blob | None], training: bool, generator: torch.Generator
    ) -> Tensor:
        """Return the batch float32 [B, *shape], see `Format.view`."""
        draws_B5 = torch.rand(len(blobs), DRAWS, generator=generator) if training else None
        waves_BN, counts = self._waves(blobs, draws_B5)
        out = self._features(waves_BN, counts)
        if self.mean is not None and self.std is not None:
            out.sub_(self.mean).div_(self.std)
        if draws_B5 is not None and (self.freq_mask or self.time_mask):
            fill_B = out.mean((1, 2)) if self.mean is None else torch.zeros(len(out))
            spec_augment(out, draws_B5[:, 1:], self.freq_mask, self.time_mask, fill_B)
        out[torch.tensor([blob is None for blob in blobs], dtype=torch.bool)] = 0.0
        return out

    def _waves(
        self, blobs: Sequence[Blob | None], draws_B5: Tensor | None
    ) -> tuple[Tensor, list[int]]:
        """Waveforms float32 [B, N] in [-1, 1], and how many samples of each are sound."""
        size = self.samples
        out_BN = np.zeros((len(blobs), size), dtype=np.int16)
        counts = [0] * len(blobs)
        for row, blob in enumerate(blobs):
            if blob is None:
                continue
            wave = blob.data.view("<i2")
            spare = len(wave) - size
            if spare >= 0:
                begin = self._begin(spare, None if draws_B5 is None else float(draws_B5[row, 0]))
                out_BN[row], counts[row] = wave[begin : begin + size], size
            elif self.fill == "tile" and len(wave):
                out_BN[row], counts[row] = np.resize(wave, size), size
            else:
                out_BN[row, : len(wave)], counts[row] = wave, len(wave)
        return torch.from_numpy(out_BN).float().div_(32768.0), counts

    def _begin(self, spare: int, draw: float | None) -> int:
        """First sample that is kept of a clip with so many to spare."""
        if self.cut == "start":
            return 0
        if self.cut == "random" and draw is not None:
            return min(int(draw * (spare + 1)), spare)
        return spare // 2

    def _features(self, waves_BN: Tensor, counts: list[int]) -> Tensor:
        if self.features == "waveform":
            return waves_BN
        if self.features == "spectrogram":
            return spectrogram(waves_BN, self.n_fft, self.hop)
        out_BFT = torch.zeros(len(waves_BN), *self.shape)
        for row, count in enumerate(counts):
            found_FT = fbank(waves_BN[row, :count], self.rate, self.bins)[:, : self.shape[1]]
            out_BFT[row, :, : found_FT.shape[1]] = found_FT
        return out_BFT
