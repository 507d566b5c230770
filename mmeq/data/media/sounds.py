"""Sound: decoded, cut to a span, mixed to one channel, resampled.

Shape suffixes: C channels, n samples.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mmeq.data.media.clip import Broken, Clip
from mmeq.data.media.containers import (
    FAR,
    INDEXED,
    Frame,
    Tally,
    frames,
    jump,
    opened,
    origin,
    track,
)
from mmeq.data.media.lengths import HALF, check_reach, check_start, claimed

PREROLL = 1.0
"""Seconds of sound decoded before a span, for codecs whose blocks overlap."""
RATES = (1000, 768_000)
"""Hz: lowest and highest rate that is believed."""
SAMPLES = {
    "u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64,
    "flt": np.float32, "dbl": np.float64,
}  # fmt: skip
"""Sample formats, without the p of those that keep each channel in a plane of its own."""
CROSSINGS = 32
"""Zero crossings of the resampling filter on either side."""
KAISER = 8.0
"""Its window: 80 dB of attenuation."""
ROLLOFF = 0.92
"""Its cutoff by the lower Nyquist frequency: at 1 it is all stop band."""


def read_audio(clip: Clip, rate: int, limit: float | None = None) -> np.ndarray:
    """Decode sound: the mean of its channels, resampled.

    A span is cut before resampling, at the sample nearest to its start; where the track begins
    within the span, silence comes before it. The length is ``round(seconds * rate)`` as far as the
    track reaches.

    Args:
        clip: file and span.
        rate: of the result in Hz.
        limit: seconds from the start of the clip; None keeps all.

    Returns:
        int16 [n].

    Raises:
        Absent: the file has no sound track.
        Broken: it cannot be decoded, or less than half of what it claims to hold.
        MmeqError: it cannot be read.
    """
    length = min((x for x in (clip.seconds, limit) if x is not None), default=None)
    tries = [True, False] if (clip.start or 0) >= FAR else [False]
    for seek in tries:
        found = _samples(clip, length, seek)
        if found is not None:
            break
    assert found is not None
    wave, native = found
    wave = resample(wave, native, rate)
    if length is not None:
        wave = wave[: round(length * rate)]
    scaled: np.ndarray = np.rint(wave * 32768).clip(-32768, 32767)
    return scaled.astype(np.int16)


def _samples(clip: Clip, length: float | None, seek: bool) -> tuple[np.ndarray, int] | None:
    """Return float32 [n] and its rate; None when the seek has led beyond the start."""
    start = clip.start or 0.0
    tally, parts, native, at, begin, need = Tally(), list[np.ndarray](), 0, 0, 0, math.inf
    with opened(clip) as container:
        stream = track(container, "audio")
        whole, own = claimed(clip, container, stream)
        check_start(start, whole)
        jumped = seek and container.format.name in INDEXED and jump(container, start - PREROLL)
        for frame in frames(container, stream, tally):
            if not native:
                native = frame.sample_rate
                if not RATES[0] <= native <= RATES[1]:
                    raise Broken(f"a rate of {native} Hz")
                begin = round(start * native)
                need = math.inf if length is None else math.ceil(length * native)
                first = 0.0 if frame.time is None else frame.time - origin(container)
                at = begin if clip.start is None else round(first * native)
                if jumped and at > begin:
                    return None
                if begin < at < begin + need:
                    parts.append(np.zeros(at - begin, np.float32))
            elif frame.sample_rate != native:
                raise Broken(f"its rate changes from {native} to {frame.sample_rate} Hz")
            block = mono(frame)
            parts.append(block[max(begin - at, 0) :])
            at += len(block)
            if at >= begin + need:
                break
    wave = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    wave = wave[: int(min(need, len(wave)))]
    tally.check()
    if at <= begin and tally.error:
        raise Broken(f"nothing can be decoded ({tally.error})")
    if whole is not None:
        wanted = whole - start if length is None else min(length, whole - start)
        got = len(wave) / native if native else 0.0
        if own and got < HALF * wanted:
            raise Broken(f"truncated: {got:.1f} of {wanted:.1f} s")
        check_reach(clip, whole, start + got)
    if not len(wave):
        raise Broken("no samples" if clip.start is None else f"no sound from {start:.1f} s on")
    if not np.isfinite(wave).all():
        raise Broken("samples that are not finite")
    return wave.clip(-1, 1), native


def mono(frame: Frame) -> np.ndarray:
    """Return the mean of a decoded block's channels: float32 [n], full scale 1."""
    kind, channels = SAMPLES.get(frame.format.name.rstrip("p")), frame.layout.nb_channels
    if kind is None:
        raise Broken(f"samples of format {frame.format.name}")
    # not frame.to_ndarray(): of 8 and more channels PyAV 18 finds planes that are not there, and
    # reading them ends the process
    if frame.format.is_planar:
        planes = frame.planes
        values_Cn = np.stack([
            np.frombuffer(planes[channel], kind, frame.samples) for channel in range(channels)
        ])  # fmt: skip
    else:
        count = frame.samples * channels
        values_Cn = np.frombuffer(frame.planes[0], kind, count).reshape(-1, channels).T
    # means of integers are exact in float64
    wave = values_Cn[0] if channels == 1 else values_Cn.mean(0, dtype=np.float64)
    if kind is np.uint8:
        wave = wave.astype(np.float64) - 128
    if issubclass(kind, np.integer):
        wave = wave / 2.0 ** (8 * np.dtype(kind).itemsize - 1)
    return wave.astype(np.float32)


def resample(wave: np.ndarray, native: int, rate: int) -> np.ndarray:
    """Change the rate of a sound by a linear-phase FIR filter.

    A Kaiser-windowed sinc of 32 zero crossings a side, whose stop band (−80 dB) begins at the lower
    of the two Nyquist frequencies, so that nothing folds; the pass band ends at 0.84 of it. [ours]
    Not torchaudio's, whose convolution rounds otherwise with another number of threads and whose
    default filter of 6 crossings lets through what folds; not FFmpeg's, whose result depends on how
    the codec cuts its blocks. This one has one thread, no state, and the same bits each time.

    Args:
        wave: float32 [n].
        native: its rate in Hz.
        rate: wanted in Hz.

    Returns:
        float32 [ceil(n * rate / native)]; the same array when the rates are equal.
    """
    if native == rate:
        return wave
    from scipy.signal import upfirdn  # takes half a second: not for those who need none

    common = math.gcd(native, rate)
    up, down = rate // common, native // common
    taps, delay = _filter(up, down)
    count = -(-len(wave) * up // down)
    return upfirdn(taps, wave, up, down)[delay : delay + count]


@lru_cache(maxsize=16)
def _filter(up: int, down: int) -> tuple[np.ndarray, int]:
    """Return the taps at `up` times the old rate, and their delay in new samples."""
    widest = max(up, down)
    delay = -(-CROSSINGS * widest // down)
    time = np.arange(-delay * down, delay * down + 1) * (ROLLOFF / widest)
    taps = np.sinc(time) * np.kaiser(len(time), KAISER)
    return (taps * (up / taps.sum())).astype(np.float32), delay
