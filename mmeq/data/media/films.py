"""Film: the frames of a span that are kept, decoded, upright, cropped and resized.

Shape suffixes: T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image

from mmeq.data.media.clip import Broken, Clip
from mmeq.data.media.containers import (
    FAR,
    INDEXED,
    MOV,
    Container,
    Frame,
    Tally,
    Track,
    frames,
    jump,
    opened,
    origin,
    track,
)
from mmeq.data.media.lengths import HALF, check_reach, check_start, claimed, reach
from mmeq.data.media.stills import check_size, fit

ROUNDING = 1e-3
"""Seconds to which some containers round the time of a frame."""
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""PyAV converts pixels in a thread for each core unless told otherwise, since it can be told."""


def read_frames(clip: Clip, fps: float, most: int, resize: int | None) -> np.ndarray:
    """Decode a film: the frames that are shown at the middles of intervals of ``1 / fps`` seconds.

    Of all frames these have their own middles nearest. Every interval whose middle lies in the span
    gives a frame (a span too short for that gives the frame in its own middle); of more than `most`
    intervals, `most` evenly spaced ones are taken. A frame that is shown at several middles is
    given once. Rotation that the file asks for is applied; pixels that are not square become so
    where frames are resized.

    Args:
        clip: file, span and the part of the upright picture that counts.
        fps: frames a second.
        most: frames.
        resize: length of the shorter side of the part in pixels; None keeps the size.

    Returns:
        uint8 [T, H, W, 3], T ≥ 1.

    Raises:
        Absent: the file has no film.
        Broken: it cannot be decoded, or less than half of what it claims to hold.
        MmeqError: it cannot be read.
    """
    start = clip.start or 0.0
    with opened(clip) as container:
        stream = track(container, "video")
        pixel = float(stream.sample_aspect_ratio or 1)
        end = _end(clip, container, stream)
        check_start(start, end)
        end = end if clip.end is None else min(clip.end, end)
        targets = [start + middle for middle in middles(end - start, fps, most)]
        seek = start >= FAR and container.format.name in INDEXED and jump(container, start)
        found = _shown(container, start, end, targets, seek)
    if found is None:
        with opened(clip) as container:
            found = _shown(container, start, end, targets, False)
    assert found is not None
    parts = [fit(_upright(frame), clip.crop, resize, _aspect(frame, pixel)) for frame in found]
    # a film may change its size; the first frame's holds
    size = parts[0].shape[1::-1]
    return np.stack([
        part if part.shape == parts[0].shape else
        np.array(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR))
        for part in parts
    ])  # fmt: skip


def middles(seconds: float, fps: float, most: int) -> list[float]:
    """Return the times of the frames that are kept of a span, from its beginning.

    Examples:
        >>> middles(3.2, 1.0, 10), middles(3.6, 1.0, 2), middles(0.4, 1.0, 10)
        ([0.5, 1.5, 2.5], [1.5, 3.5], [0.2])
    """
    count = math.ceil(seconds * fps - 0.5)
    if count < 1:
        return [seconds / 2]
    kept = min(count, most)
    return [((2 * k + 1) * count // (2 * kept) + 0.5) / fps for k in range(kept)]


def _end(clip: Clip, container: Container, stream: Track) -> float:
    """Seconds at which the film ends: what an index tells, else what the packets tell."""
    whole, own = claimed(clip, container, stream)
    if whole is not None and own and container.format.name in (MOV, "avi"):
        return whole
    with opened(clip) as again:
        end = reach(again, [track(again, "video")])
    if not end:
        raise Broken("no frames")
    if whole is not None:
        check_reach(clip, whole, end)
    return end


def _shown(
    container: Container, start: float, end: float, targets: list[float], jumped: bool
) -> list[Frame] | None:
    """Return the frames shown at the targets; None when a seek has led beyond the start."""
    tally, kept, last, until = Tally(), list[Frame](), None, -math.inf
    for at, stays, frame in _timed(container, track(container, "video"), tally):
        if last is None and jumped and at > start + ROUNDING:
            return None
        check_size(frame.width, frame.height)
        while len(kept) < len(targets) and at > targets[len(kept)] + ROUNDING:
            kept.append(frame if last is None else last)
        if len(kept) == len(targets):
            break
        last, until = frame, at + stays
    tally.check()
    if last is None and not kept:
        raise Broken(f"nothing can be decoded ({tally.error})" if tally.error else "no frames")
    if len(kept) < len(targets) and until - start < HALF * (end - start):
        raise Broken(f"truncated: {max(until - start, 0):.1f} of {end - start:.1f} s")
    kept += [last] * (len(targets) - len(kept))
    return [frame for k, frame in enumerate(kept) if not k or frame is not kept[k - 1]]


def _timed(
    container: Container, stream: Track, tally: Tally
) -> Iterator[tuple[float, float, Frame]]:
    """Yield when each frame begins in the file, how long it stays (both in seconds), and itself."""
    begin, step = origin(container), 1 / float(stream.average_rate or 25)
    at = -step
    for frame in frames(container, stream, tally):
        at = at + step if frame.time is None else frame.time - begin
        stays = float((getattr(frame, "duration", 0) or 0) * (frame.time_base or 0))
        yield at, max(stays, step), frame


def _turns(frame: Frame) -> int:
    """Quarter turns, against the clock, that make a frame upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _aspect(frame: Frame, pixel: float) -> float:
    """Width of a pixel by its height in the upright frame; what is hardly true counts as square."""
    if not 0.25 <= pixel <= 4:
        return 1.0
    return 1 / pixel if _turns(frame) % 2 else pixel


def _upright(frame: Frame) -> Image.Image:
    pixels_HW3 = frame.reformat(format="rgb24", **ONE_THREAD).to_ndarray()
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels_HW3, _turns(frame))))
