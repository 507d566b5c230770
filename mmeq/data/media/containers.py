"""Sound and film files opened with FFmpeg: tracks, packets, frames, and what is wrong with them.

Every failure of a file is told apart here: `Absent` (sound, without such track), `Broken` (its
content), `MmeqError` (the file cannot be read now: it may be later, so it is not called broken).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.stream import Disposition

from mmeq.data.media.clip import Absent, Broken, Clip
from mmeq.errors import MmeqError

# PyAV's own, whose type stubs differ between versions
Container: TypeAlias = Any
Track: TypeAlias = Any
Frame: TypeAlias = Any
MOV = "mov,mp4,m4a,3gp,3g2,mj2"
INDEXED = frozenset({"wav", "avi", MOV})
"""Formats in which a seek is exact and cheap; flv has no index, mp3 guesses, the others round."""
FAR = 5.0
"""Seconds: a span that begins later is worth a seek."""
MICRO = 1e-6
"""Seconds: FFmpeg's own unit of time."""


@dataclass
class Tally:
    """What became of the packets of a track."""

    decoded: int = 0
    failed: int = 0
    error: str = ""

    def check(self) -> None:
        """Raise Broken when most packets could not be decoded."""
        if self.failed > self.decoded:
            total = self.failed + self.decoded
            raise Broken(f"{self.failed} of {total} packets cannot be decoded ({self.error})")


@contextmanager
def opened(clip: Clip) -> Iterator[Container]:
    """Open a file for reading, and close it whatever happens.

    Raises:
        Broken: there is nothing in it that FFmpeg knows.
        MmeqError: the file is not there or cannot be read.
    """
    with readable(clip):
        # file: a name such as concat:a|b shall not be taken for a protocol
        options = {"protocol_whitelist": "file"}
        if _head(clip.path, 12)[8:] == b"WAVE":
            # or the whole file is searched for DTS packed into PCM, which takes ten times longer
            options["max_probe_packets"] = "1"
        try:
            container = av.open(
                f"file:{clip.path}", container_options=options, metadata_errors="replace"
            )
        except av.FFmpegError as error:
            raise Broken(_wreck(clip.path, error)) from error
        with container:
            yield container


@contextmanager
def readable(clip: Clip) -> Iterator[None]:
    """Tell a broken file from one that cannot be read now.

    A disk or a network that fails looks to a decoder like the end of the file; a file is called
    broken only when all its bytes can be read.

    Raises:
        Broken: it is empty or a folder, or what happened inside says so.
        MmeqError: it is no file, or the system refuses to read it.
    """
    try:
        status = clip.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Broken("a folder in place of a file")
        try:
            if not stat.S_ISREG(status.st_mode):
                raise MmeqError(f"{clip.path} is no file")
            if not status.st_size:
                raise Broken("empty file")
            yield
        except Broken:
            with clip.path.open("rb") as stream:
                while stream.read(1 << 20):
                    pass
            raise
    except OSError as error:
        raise MmeqError(f"{clip.path} cannot be read: {says(error)}") from error


def says(error: Exception) -> str:
    """Return an error in a few words, without the path."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def track(container: Container, kind: str) -> Track:
    """Return the first track of a kind, set to decode in one thread.

    Threads of the decoder gain nothing: there is a process for each core already.

    Args:
        container: open.
        kind: audio or video.

    Raises:
        Absent: the file has no such track.
        Broken: it has no track at all, or one that FFmpeg has no decoder for.
    """
    tracks = [
        stream
        for stream in container.streams
        # an attached picture is the cover of a song, not a film
        if stream.type in ("audio", "video") and not stream.disposition & Disposition.attached_pic
    ]
    if not tracks:
        raise Broken("neither sound nor picture in it")
    chosen = next((stream for stream in tracks if stream.type == kind), None)
    if chosen is None:
        raise Absent(f"no {kind} track")
    if chosen.codec_context is None:
        raise Broken(f"no decoder for its {kind} track")
    chosen.codec_context.thread_count = 1
    return chosen


def frames(container: Container, stream: Track, tally: Tally) -> Iterator[Frame]:
    """Yield the decoded frames of a track from where the container stands.

    A packet that cannot be decoded is counted and passed over, as players do.
    """
    source = packets(container, [stream])
    while True:
        try:
            packet = next(source, None)
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise Broken(says(error)) from error
            tally.error = says(error)
            return
        if packet is None:
            return
        try:
            decoded = packet.decode()
        except av.FFmpegError as error:
            # the empty packet at the end only asks for what is left
            tally.failed += packet.size > 0
            tally.error = says(error)
            continue
        tally.decoded += packet.size > 0
        yield from decoded


def packets(container: Container, streams: Sequence[Track]) -> Iterator[Any]:
    """Yield the packets of some tracks, the empty ones at the end too."""
    source = container.demux(*streams)
    while True:
        try:
            packet = next(source, None)
        except IndexError:  # PyAV does not know a track that turned up after the file was opened
            source = container.demux(*streams)
            continue
        if packet is None:
            return
        yield packet


def origin(container: Container) -> float:
    """Seconds that the container's clock shows at its beginning."""
    return (container.start_time or 0) * MICRO


def jump(container: Container, seconds: float) -> bool:
    """Go to a key frame before a time; tell whether the container could."""
    try:
        container.seek(int((seconds + origin(container)) / MICRO), backward=True)
    except av.FFmpegError:
        return False
    return True


def _wreck(path: Path, error: Exception) -> str:
    """Say in a few words what a file is that FFmpeg does not open."""
    if not isinstance(error, av.InvalidDataError | av.EOFError):
        return says(error)
    head = _head(path, 512)
    if head[4:8] == b"ftyp":
        return "truncated or damaged: no index (moov) can be read"
    if head[:4] in (b"RIFF", b"OggS", b"FLV\x01", b"\x1aE\xdf\xa3"):
        return "damaged or truncated header"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return "text, neither sound nor film"
    return "neither sound nor film"


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)
