"""Pretrained bodies for sound: AST, Whisper's encoder, wav2vec 2.0 and its like, d-vectors.

Shape suffixes: B batch, N samples, T tokens, H width of the body's features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmeq.data.spec import Modality
from mmeq.encoders.loading import DVECTOR, Source, extra, fetch
from mmeq.encoders.pretrained.body import Body
from mmeq.encoders.pretrained.libraries import load_transformers
from mmeq.encoders.pretrained.state import fit, read_state
from mmeq.encoders.pretrained.voice import RATE, Voice, mel_windows
from mmeq.errors import MmeqError

LEAST = 0.1
"""Seconds that a clip counts at least, however much of it is silent."""
FRAME = 0.01
"""Seconds from one frame of a filter bank to the next."""


class Extracted:
    """Waveforms float32 [B, N] → what the model's own feature extractor makes of them.

    Zeros at the end of a waveform are taken for padding, and given to the extractor as such: so it
    fills a short clip up in its own way, and pooling leaves the rest out.

    Args:
        extractor: of transformers; None: mel windows of the d-vector.
        rate: Hz.
    """

    def __init__(self, extractor: Any, rate: int) -> None:  # noqa: ANN401
        self.extractor, self.rate = extractor, rate

    def __call__(
        self, raw: Tensor, training: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Extract; the same in training."""
        lengths = [self._length(wave) for wave in raw]
        if self.extractor is None:
            return mel_windows(raw, lengths)
        waves = [wave[:length].numpy() for wave, length in zip(raw, lengths, strict=True)]
        options: dict[str, Any] = {"sampling_rate": self.rate, "return_tensors": "pt"}
        if fixed_seconds(self.extractor) is None:
            options |= {"padding": "max_length", "max_length": raw.shape[1]}
        found = {
            key: value if key == "attention_mask" else value.float()
            for key, value in self.extractor(waves, **options).items()
        }
        hop = getattr(self.extractor, "hop_length", 1)
        counts = [math.ceil(length / hop) for length in lengths]
        return {**found, "length": torch.tensor(counts, dtype=torch.int64)}

    def _length(self, wave: Tensor) -> int:
        loud = wave.nonzero()
        last = int(loud[-1]) + 1 if len(loud) else 0
        return min(len(wave), max(last, int(LEAST * self.rate)))


class AudioBody(Body):
    """Waveforms → features [B, H].

    Args:
        source: of the model.
        modality: its shape is (samples,).
        pooling: auto is the model's own (AST: class and distillation token), else the mean over
            the tokens that are sound.
    """

    def __init__(self, source: Source, modality: Modality, pooling: str) -> None:
        if len(modality.shape) != 1:
            raise MmeqError(
                f"modality {modality.name!r} has the shape {modality.shape}: {source.option} takes "
                "waveforms (samples,); give the data as sound files or waveforms at its rate"
            )
        if source.library == DVECTOR:
            voice, rate, extractor = Voice(), RATE, None
            assert source.weights is not None
            fit(voice, read_state(source.weights), f"{source.option}, weights {source.weights}")
            super().__init__(source, voice)
            if pooling != "auto":
                raise self.refuse("pooling", pooling, "auto: the mean over a clip's windows")
        else:
            extractor = load_extractor(source)
            rate = int(extractor.sampling_rate)
            super().__init__(source, *load_transformers(source))
        self.samples = modality.shape[0]
        self.given = f"waveforms of {self.samples} samples"
        self.prepare = Extracted(extractor, rate)
        if extractor is not None:
            self.choose(pooling)
            self.facts |= {"extractor": prepared_by(extractor)}
        self.facts |= {"rate": rate, "least": LEAST}

    def example(self) -> dict[str, Tensor]:
        """Silence."""
        assert self.prepare is not None
        return self.prepare(torch.zeros(1, self.samples), False, torch.Generator())

    def call(self, inputs: dict[str, Tensor]) -> Any:  # noqa: ANN401
        """Return the model's output."""
        given = {
            key: value.to(self.dtype) if value.is_floating_point() else value
            for key, value in inputs.items()
            if key != "length"
        }
        return self.model(**given)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Features [B, H]."""
        if self.source.library == DVECTOR:
            return self.model(inputs["mels"].to(self.dtype), inputs["count"])
        found = self.call(inputs)
        return self.pool(found, self._sound(found, inputs["length"]))

    def _sound(self, found: Any, length_B: Tensor) -> Tensor | None:  # noqa: ANN401
        """Which tokens are sound [B, T]; None where all count, since they are not in time."""
        shorten = getattr(self.model, "_get_feat_extract_output_lengths", None)
        if shorten is None or self.pooling != "mean":
            return None
        tokens_T = torch.arange(found.last_hidden_state.shape[1], device=length_B.device)
        return tokens_T < shorten(length_B).clamp_min(1)[:, None]


def load_extractor(source: Source) -> Any:  # noqa: ANN401 - of transformers
    """Load a model's feature extractor.

    Raises:
        MmeqError: when there is none, or it is not for sound.
    """
    found = fetch(source, extra("transformers").AutoFeatureExtractor.from_pretrained)
    if not getattr(found, "sampling_rate", None):
        raise source.refuse("its feature extractor has no sampling rate: it is not for sound")
    return found


def prepared_by(extractor: Any) -> dict[str, Any]:  # noqa: ANN401 - of transformers
    """Return an extractor's settings, plain, without its tables."""
    return {k: v for k, v in extractor.to_dict().items() if isinstance(v, str | int | float)}


def fixed_seconds(extractor: Any) -> float | None:  # noqa: ANN401 - of transformers
    """Return the seconds that a model always takes; None when it takes any number."""
    if getattr(extractor, "chunk_length", None):  # Whisper
        return float(extractor.chunk_length)
    if hasattr(extractor, "num_mel_bins") and getattr(extractor, "max_length", None):  # AST
        return extractor.max_length * FRAME
    return None


def format_of(source: Source, seconds: float | None) -> dict[str, Any]:
    """Return the fields of the audio format that a model needs, from its configuration alone.

    Args:
        source: of the model.
        seconds: in place of the model's own length; not more than that.
    """
    if source.library == DVECTOR:
        rate, longest = RATE, None
    else:
        extractor = load_extractor(source)
        rate, longest = int(extractor.sampling_rate), fixed_seconds(extractor)
    if seconds is not None and not LEAST <= seconds <= (longest or math.inf):
        most = "" if longest is None else f" to {longest:g}"
        raise MmeqError(
            f"backbone.encoders.audio.seconds={seconds}: give {LEAST}{most or ' or more'}, or null"
        )
    length = longest if seconds is None else float(seconds)
    return {
        "rate": rate, "features": "waveform", "fill": "zero", "mean": None, "std": None,
        "freq_mask": 0, "time_mask": 0, **({} if length is None else {"seconds": length}),
    }  # fmt: skip
