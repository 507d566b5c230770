"""Decoding: one clip's sound as samples, its film as frames, its picture as pixels; a first look.

A file is decoded from its beginning: a seek for each frame is slower on clips of some seconds, and
fails where there is no index (flv). Only for a span that begins late (an utterance in a dialog of
minutes) one seek is made, to a key frame before it, where the container's times are exact; the
first decoded time tells whether the seek was right, and if it was not, decoding starts over.

Nothing is shared between two calls: they are safe in threads and in forked workers.
"""

from __future__ import annotations

from collections.abc import Callable

from mmeq.data.media.clip import Broken, Clip
from mmeq.data.media.containers import (
    MICRO,
    Frame,
    Tally,
    frames,
    opened,
    track,
)
from mmeq.data.media.films import read_frames
from mmeq.data.media.lengths import check_reach, check_start, claimed, reach
from mmeq.data.media.sounds import read_audio
from mmeq.data.media.stills import check_size, probe_image, read_image

__all__ = ["probe_audio", "probe_image", "probe_video", "read_audio", "read_frames", "read_image"]


def probe_audio(clip: Clip) -> float | None:
    """Look whether a clip has sound: decode its first block, and see that the file is not cut off.

    Returns:
        Seconds of the clip; None where the file does not tell.

    Raises:
        Absent: the file has no sound track.
        Broken: it cannot be opened, has no samples, or ends before half of what it claims.
        MmeqError: it cannot be read.
    """
    return _probe(clip, "audio", lambda frame: None)


def probe_video(clip: Clip) -> float | None:
    """Look whether a clip has a film (see `probe_audio`)."""
    return _probe(clip, "video", lambda frame: check_size(frame.width, frame.height))


def _probe(clip: Clip, kind: str, check: Callable[[Frame], None]) -> float | None:
    tally = Tally()
    with opened(clip) as container:
        stream = track(container, kind)
        whole, _ = claimed(clip, container, stream)
        guess = (container.duration or 0) * MICRO
        frame = next(frames(container, stream, tally), None)
        if frame is None:
            what = "samples" if kind == "audio" else "frames"
            raise Broken(f"nothing can be decoded ({tally.error})" if tally.error else f"no {what}")
        check(frame)
        unindexed = whole is None and container.format.name == "flv"
    start, known = clip.start or 0.0, whole
    if unindexed:
        with opened(clip) as container:
            known = reach(container, [track(container, kind)])
    check_start(start, known)
    if whole is not None:
        check_reach(clip, whole)
    if clip.end is not None:
        return (clip.end if known is None else min(clip.end, known)) - start
    seconds = guess if known is None else known
    return seconds - start if seconds > start else None
