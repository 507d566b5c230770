"""How long a sound or film file claims to be, and how far it reaches: is it cut off?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import av

from mmeq.data.media.clip import Broken, Clip
from mmeq.data.media.containers import (
    INDEXED,
    MICRO,
    Container,
    Track,
    jump,
    opened,
    origin,
    packets,
)

DECLARING = INDEXED | {"flv", "flac", "matroska,webm"}
"""Formats whose header tells a length; in others FFmpeg guesses it from the bit rate."""
UNSIZED = 2**31 - 4096
"""Bytes from which on the size in a RIFF header is what a writer to a pipe gives for want of it."""
LONGEST = 100 * 3600.0
"""Seconds above which a claimed length is not believed."""
HALF = 0.5
"""Share of the claimed length below which what was decoded is called truncated."""


def claimed(clip: Clip, container: Container, stream: Track) -> tuple[float | None, bool]:
    """Return how long the header says a track is.

    Returns:
        Seconds from the beginning of the file to the end of the track, None when the header does
        not tell or cannot be believed; whether this is said of the track and not of the file.
    """
    name = container.format.name
    # a gapless mp3 tells its number of frames; of another, FFmpeg guesses
    if name not in DECLARING and not (name == "mp3" and stream.start_time):
        return None, False
    if name == "flv" and _flv_ends(clip):
        return None, False
    own = stream.duration is not None and name != "flv"
    if own:
        first = 0 if stream.start_time is None else stream.start_time
        seconds = float((first + stream.duration) * stream.time_base) - origin(container)
    else:
        seconds = (container.duration or 0) * MICRO
    seconds *= max(_riff_share(clip), 1.0)
    return (seconds, own) if 0 < seconds < LONGEST else (None, False)


def _riff_share(clip: Clip) -> float:
    """Return the size that the header of a wav or avi file claims, by the size that it has.

    FFmpeg takes the length of such a file from what is left of it when it was cut off.
    """
    with clip.path.open("rb") as stream:
        head = stream.read(8)
    size = int.from_bytes(head[4:], "little") + 8
    if head[:4] != b"RIFF" or size >= UNSIZED:
        return 1.0
    return size / clip.path.stat().st_size


def _flv_ends(clip: Clip) -> bool:
    """Tell whether a flv file ends where a tag ends: then it is whole, whatever length it tells.

    Each tag (11 bytes and its data) is followed by its size.
    """
    with clip.path.open("rb") as stream:
        end = stream.seek(-4, 2)
        size = int.from_bytes(stream.read(4), "big")
        if not 11 <= size <= end:
            return False
        stream.seek(end - size + 1)
        return int.from_bytes(stream.read(3), "big") == size - 11


def reach(container: Container, streams: Sequence[Track], enough: float = math.inf) -> float:
    """Return where the packets end that are still to come, in seconds from the file's beginning.

    Args:
        container: no packet is decoded.
        streams: the tracks of which the last end counts.
        enough: stop here.
    """
    furthest, begin = 0.0, origin(container)
    source = packets(container, streams)
    while furthest < enough:
        try:
            packet = next(source, None)
        except av.FFmpegError:
            break
        if packet is None:
            break
        at = packet.dts if packet.pts is None else packet.pts
        if at is not None and packet.size:
            length = (packet.duration or 0) * packet.time_base
            if not length and packet.stream.type == "video":
                length = 1 / (packet.stream.average_rate or math.inf)
            furthest = max(furthest, float(at * packet.time_base + length) - begin)
    return furthest


def check_reach(clip: Clip, whole: float, seen: float = 0.0) -> None:
    """Raise Broken when a file ends before the middle of what a clip shall have of it.

    Args:
        clip: file and span.
        whole: seconds that the file claims to have.
        seen: seconds from its beginning that were decoded, when some were.
    """
    start = clip.start or 0.0
    check_start(start, whole)
    length = (whole if clip.end is None else min(clip.end, whole)) - start
    middle = start + HALF * length
    if seen >= middle:
        return
    # all tracks: one may end early in a file that is whole
    with opened(clip) as container:
        if container.format.name in INDEXED and jump(container, middle):
            seen = reach(container, list(container.streams), middle)
    if seen < middle:
        with opened(clip) as container:
            seen = reach(container, list(container.streams), middle)
    if seen < middle:
        raise Broken(f"truncated: {max(seen - start, 0.0):.1f} of {length:.1f} s")


def check_start(start: float, end: float | None) -> None:
    """Raise Broken for a span that begins where the file has ended."""
    if end is not None and start >= end:
        raise Broken(f"begins at {start:.1f} s, but the file ends at {end:.1f} s")
