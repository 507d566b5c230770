"""Small real media files for the tests: tones and pictures whose content tells the time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """float64 [n]: a sine."""
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def chirp(seconds: float, rate: int, low: float = 100.0, high: float = 2000.0) -> np.ndarray:
    """float64 [n]: a sine whose pitch rises, so that any two places differ."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * seconds)))


def write_sound(
    path: Path, wave: np.ndarray, rate: int, codec: str = "pcm_s16le", options: Any = None
) -> Path:
    """Write float [n] or [C, n]; the suffix tells the container."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = _sound_stream(container, np.atleast_2d(wave), rate, codec)
        container.mux(_encoded(stream, wave))
    return path


def write_film(
    path: Path,
    seconds: float = 3.0,
    fps: int = 25,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    gop: int = 12,
    b_frames: int = 0,
    sound: tuple[np.ndarray, int, str] | None = None,
    pixels: str = "yuv420p",
    options: Any = None,
    change: Any = None,
) -> Path:
    """Write frames that `number_of` can tell apart, with a sound track when one is given.

    Args:
        path: its suffix tells the container.
        seconds: length.
        fps: frames a second.
        size: width and height.
        codec: of the picture.
        gop: distance of key frames.
        b_frames: in a row.
        sound: float [n] or [C, n], Hz, codec.
        pixels: format of the stored pixels.
        options: of the container.
        change: called with the stream before the first frame.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        context = stream.codec_context
        context.thread_count, context.gop_size, context.max_b_frames = 1, gop, b_frames
        stream.bit_rate = 800_000
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": str(b_frames)}
        if change is not None:
            change(stream)
        heard = (
            None if sound is None else _sound_stream(container, np.atleast_2d(sound[0]), *sound[1:])
        )
        packets = []
        for number in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(numbered(number, size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            packets += stream.encode(frame)
        packets += stream.encode()
        if sound is not None:
            packets += _encoded(heard, sound[0])
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def numbered(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """uint8 [H, W, 3]: 13 bits in black and white columns, the highest at the left."""
    bits = [(number >> (12 - bit)) & 1 for bit in range(13)]
    edges = np.linspace(0, size[0], 14).round().astype(int)
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for bit, left, right in zip(bits, edges, edges[1:], strict=False):
        picture[:, left:right] = 235 if bit else 20
    return picture


def number_of(picture: np.ndarray) -> int:
    """Read what `numbered` has written, after lossy compression and scaling."""
    width = picture.shape[1]
    centres = ((np.arange(13) + 0.5) * width / 13).astype(int)
    levels = picture[picture.shape[0] // 2][:, :][centres].mean(-1)
    return int(sum(int(level > 128) << (12 - bit) for bit, level in enumerate(levels)))


def write_picture(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    """Write uint8 pixels by Pillow; the suffix tells the format."""
    Image.fromarray(pixels, mode=None).convert(mode or "RGB").save(path, **options)
    return path


def _sound_stream(container: Any, wave_Cn: np.ndarray, rate: int, codec: str) -> Any:
    return container.add_stream(codec, rate=rate, layout="mono" if len(wave_Cn) == 1 else "stereo")


def _encoded(stream: Any, wave: np.ndarray) -> list[Any]:
    """Packets of a sound."""
    wave_Cn = np.atleast_2d(wave).astype(np.float32)
    context = stream.codec_context
    block = context.frame_size or 4096
    convert = av.AudioResampler(context.format.name, context.layout, context.rate)
    packets = []
    for start in range(0, wave_Cn.shape[1], block):
        part = np.ascontiguousarray(wave_Cn[:, start : start + block])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=context.layout.name)
        frame.sample_rate, frame.pts = context.rate, start
        frame.time_base = Fraction(1, context.rate)
        for ready in convert.resample(frame):
            packets += stream.encode(ready)
    return packets + stream.encode()
