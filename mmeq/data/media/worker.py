"""What a worker process does: decode clips, write shards, say so; it dies with its parent."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from mmeq.data.media.clip import Absent, Blob, Broken, Clip
from mmeq.data.media.locks import Inherited
from mmeq.data.media.shards import ABSENT, BROKEN, OK, folder_of
from mmeq.data.media.writing import Writer
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    from mmeq.data.media.formats import Format

MISSING, UNREADABLE = "missing", "unreadable"
"""What is not written down, since it may be otherwise next time."""
TICK = 0.2
"""Seconds."""


@dataclass(frozen=True)
class Task:
    """A clip to decode: the number of its format, its fingerprint."""

    place: int
    clip: Clip
    key: str


def decoded(format: Format, clip: Clip, key: str) -> tuple[str, str, float | None, Blob | None]:
    """Decode a clip, and see that its file did not change meanwhile.

    Returns:
        Status, reason, seconds, content.
    """
    status, reason, seconds, blob = OK, "", None, None
    try:
        try:
            seconds = format.probe(clip)
            blob = format.read(clip)
        except Absent as error:
            status, reason = ABSENT, str(error)
        except Broken as error:
            status, reason = BROKEN, str(error)
        if clip.fingerprint() != key:
            return UNREADABLE, "it changed while it was decoded", None, None
    except (FileNotFoundError, NotADirectoryError):
        return MISSING, "", None, None
    except OSError as error:
        return UNREADABLE, error.strerror or str(error), None, None
    except MmeqError as error:
        return UNREADABLE, str(error), None, None
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        return UNREADABLE, f"{said} ({Path(where.filename).name}:{where.lineno})", None, None
    return status, reason, seconds, blob


def work(channel: Connection, locks: list[Inherited], parent: int) -> None:
    """What a worker does: ask for clips, decode, write, say so; until it is told to end.

    Args:
        channel: to the parent.
        locks: held as long as this process lives.
        parent: process without which this one shall not live.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch comes with the formats
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent gets them too, and says what to do
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        _serve(channel)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # the parent is gone


def _serve(channel: Connection) -> None:
    root, formats = channel.recv()
    writers = [Writer(folder_of(root, format), format) for format in formats]
    kept: list[list[int]] = [[] for _ in writers]

    def write(place: int) -> None:
        writers[place].write()
        channel.send(("kept", kept[place]))
        kept[place] = []

    try:
        while not channel.poll(0):
            channel.send(("want", None))
            tasks = channel.recv()
            if tasks is None:
                break
            for number, task in tasks:
                channel.send(("begin", number))
                status, reason, seconds, blob = decoded(formats[task.place], task.clip, task.key)
                if status in (OK, ABSENT, BROKEN):
                    writer = writers[task.place]
                    writer.add(task.clip, task.key, status, reason, seconds, blob)  # type: ignore[arg-type]
                    kept[task.place].append(number)
                channel.send(("did", (number, status, reason)))
                for place, writer in enumerate(writers):
                    if writer.full:
                        write(place)
                if channel.poll(0):  # only the word to end can come here
                    break
        for place in range(len(writers)):
            write(place)
    except OSError as error:
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            raise
        channel.send(("failed", error.strerror or str(error)))
    channel.send(("end", None))


def _die_with(parent: int) -> None:
    """End this process at once when the parent is gone, even in the middle of a clip."""
    while os.getppid() == parent:
        time.sleep(TICK)
    os._exit(1)
