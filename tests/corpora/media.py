"""Real files for the test corpora: PyAV writes sound and video, Pillow images."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from PIL import Image

_LAYOUTS = {1: "mono", 2: "stereo"}


def write_audio(
    path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_s16le", out_rate: int = 0
) -> None:
    """Write int16 [n] or [n, 2]; the container follows the suffix, `out_rate` 0 keeps the rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        _mux_audio(
            container, _add_audio(container, samples, codec, out_rate or rate), samples, rate
        )


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: float,
    codec: str = "mpeg4",
    sound: tuple[np.ndarray, int] | None = None,
    sound_codec: str = "aac",
    sound_rate: int = 0,
    tag: str | None = None,
) -> None:
    """Write uint8 [T, H, W, 3], with a sound track (int16 and its rate) where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames.shape[1:3]
    with av.open(path, "w") as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = max(200_000, width * height * 20)
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"preset": "ultrafast"}
        if tag:
            stream.codec_context.codec_tag = tag
        audio = None
        if sound is not None:
            audio = _add_audio(container, sound[0], sound_codec, sound_rate or sound[1])
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _mux_audio(container, audio, *sound)


def write_image(path: Path, picture: np.ndarray, quality: int = 90) -> None:
    """Write uint8 [H, W, 3] or [H, W] (grey) as JPEG (PNG where the suffix says so)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=quality)


def write_text(path: Path, lines: Iterable[str], encoding: str = "utf-8", end: str = "\n") -> None:
    """Write lines, each with its line end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))


def _add_audio(container: Any, samples: np.ndarray, codec: str, rate: int) -> Any:
    layout = _LAYOUTS[1 if samples.ndim == 1 else samples.shape[1]]
    return container.add_stream(codec, rate=rate, layout=layout)


def _mux_audio(container: Any, stream: Any, samples: np.ndarray, rate: int) -> None:
    context = stream.codec_context
    chosen = context.format.name if context.format else context.codec.audio_formats[0].name
    resampler = AudioResampler(chosen, context.layout, context.rate, context.frame_size or 0)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=context.layout.name
    )
    frame.sample_rate, frame.pts = rate, 0
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode())
