"""Preparation: decodes what a dataset lists and the store lacks, and reports what became of all.

Safe to end at any time and to start again: shards are whole or not there, a clip is known by what
its content depends on, and each part of the work is done by one process tree at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from mmeq.data.media.accounts import SAID, Lost, Place, Report, account
from mmeq.data.media.clip import Clip, used
from mmeq.data.media.locks import Inherited, locked
from mmeq.data.media.pool import Outcome, decode_all
from mmeq.data.media.progress import Progress, Stop, stoppable
from mmeq.data.media.shards import Unusable, folder_of, format_key, read_small, shards_of
from mmeq.data.media.store import Store
from mmeq.data.media.worker import MISSING, UNREADABLE, Task
from mmeq.data.media.writing import describe, tidy
from mmeq.errors import MmeqError

THREADS = 16
"""That ask for size and time of files: over a network that takes a while."""
Lookout = Literal["report", "raise"]


def prepare(
    dataset: Any,  # noqa: ANN401 - a MediaDataset, or one that has no media
    *,
    workers: int | None = None,
    part: tuple[int, int] = (1, 1),
    on_broken: Lookout = "report",
) -> Report:
    """Decode all clips of a dataset that its store lacks.

    Args:
        dataset: of media files.
        workers: processes; None: one a core.
        part: i of n, from 1: the i-th share of the clips, parted by their files' names. All n
            together do everything once.
        on_broken: raise ends at the first clip that is broken, missing or unreadable.

    Raises:
        MmeqError: there is nothing to prepare, another process is at the same, the folder cannot
            be written, the disk is full, or as `on_broken` says. What is finished stays.
    """
    count = cores() if workers is None else workers
    if isinstance(count, bool) or count < 1:
        raise MmeqError(f"prepare.workers={workers}: give 1 or more, or null for one a core")
    if not getattr(dataset, "formats", {}):
        raise MmeqError(
            f"{type(dataset).__name__} has no media files in modalities "
            f"{', '.join(dataset.modalities)}: there is nothing to prepare"
        )
    begun, listing = time.monotonic(), dataset.listing()
    root: Path = dataset.prepared
    clips = {name: used(listing.cells[name], listing.split) for name in dataset.formats}
    places = _places(dataset.formats, clips, part)
    folders = [folder_of(root, place.format) for place in places]
    with _used(root), stoppable() as stop:
        for place, folder in zip(places, folders, strict=True):
            describe(folder, place.format)
        with locked(root, [folder.name for folder in folders], part) as locks:
            for place, folder in zip(places, folders, strict=True):
                tidy(folder)
                _set_aside(folder, format_key(place.format))
                _stamp(place)
            run = _Run(root, places, stop, on_broken)
            outcome = run.decode(count, locks)
        report = account(root, dataset.name, part, places)
    report.deaths, report.decoded = outcome.deaths, run.progress.done
    report.notes, report.stopped = list(listing.notes), stop.signal
    report.elapsed = time.monotonic() - begun
    if outcome.failure is not None:
        raise MmeqError(
            f"prepared={root} cannot be written ({outcome.failure}); what is finished stays, and "
            "the same command goes on from there"
        )
    if run.first is not None:
        raise MmeqError(
            f"{run.first}; what is finished stays. on_broken=report lists all such files and goes "
            "on without them"
        )
    return report


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_part(text: object) -> tuple[int, int]:
    """Read ``3/16``; None is the whole, ``1/1``.

    Raises:
        MmeqError: says what would be right.

    Examples:
        >>> read_part("3/16"), read_part(None)
        ((3, 16), (1, 1))
    """
    if text is None:
        return 1, 1
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(text), re.ASCII)
    i, n = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= i <= n:
        raise MmeqError(
            f"prepare.part={text}: give <i>/<n> with i from 1 to n, such as 3/16 for the third of "
            "16 parts"
        )
    return i, n


def in_part(name: str, part: tuple[int, int]) -> bool:
    """Say whether a file belongs to part i of n: a hash of its name decides, whatever is listed."""
    i, n = part
    digest = blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % n == i - 1


def _places(
    formats: Mapping[str, Any], clips: Mapping[str, Any], part: tuple[int, int]
) -> list[Place]:
    """Put modalities of one format together, each with its clips of this part."""
    places: dict[Path, Place] = {}
    for name, format in formats.items():
        place = places.setdefault(folder_of(Path(), format), Place(format))
        place.clips[name] = [c for c in clips[name] if c is not None and in_part(c.name, part)]
    return list(places.values())


def _stamp(place: Place) -> None:
    """Ask for the fingerprints of all clips."""
    clips = list(dict.fromkeys(clip for some in place.clips.values() for clip in some))
    with ThreadPoolExecutor(THREADS) as threads:
        for clip, (key, lost) in zip(clips, threads.map(_fingerprint, clips), strict=True):
            if lost is None:
                place.keys[clip] = key
            else:
                place.lost[clip] = lost


def _fingerprint(clip: Clip) -> tuple[str, tuple[str, str] | None]:
    try:
        return clip.fingerprint(), None
    except (FileNotFoundError, NotADirectoryError):
        return "", (MISSING, "")
    except OSError as error:
        return "", (UNREADABLE, error.strerror or str(error))


def _set_aside(folder: Path, key: str) -> None:
    """Rename what is no sound shard of a format, so that its clips are decoded anew."""
    for path in shards_of(folder):
        try:
            read_small(path, key)
        except FileNotFoundError:
            continue  # another part was faster
        except Unusable as error:
            target = path.with_name(path.name + ".damaged")
            with contextlib.suppress(FileNotFoundError):
                path.rename(target)
                warnings.warn(
                    f"{path} is not used: {error}; it is kept as {target.name}, and what it held "
                    "is decoded anew",
                    stacklevel=3,
                )


class _Run:
    """The decoding of what is open.

    Args:
        root: of the prepared formats.
        places: what is to be done.
        stop: whether the user wants an end.
        on_broken: see `prepare`.

    Attributes:
        first: where `on_broken` is raise: the first clip that cannot be used, if any.
        progress: of the decoding.
    """

    def __init__(self, root: Path, places: Sequence[Place], stop: Stop, on_broken: Lookout) -> None:
        self.root, self.places, self.stop = root, places, stop
        self.strict = on_broken == "raise"
        self.first: Lost | None = None
        self.tasks = list(self._open())
        self.progress = Progress(len(self.tasks), "clips decoded")
        self._seen: set[int] = set()

    def _open(self) -> Iterator[Task]:
        """Clips of which the store has nothing; notes the first that is known to be lost."""
        for number, place in enumerate(self.places):
            store = Store(self.root, place.format)
            for clip in dict.fromkeys(clip for some in place.clips.values() for clip in some):
                key = place.keys.get(clip)
                if key is None:
                    self._note(place, clip, *place.lost[clip])
                elif (entry := store.find(key)) is not None:
                    self._note(place, clip, entry.status, entry.reason)
                else:
                    yield Task(number, clip, key)

    def decode(self, workers: int, locks: list[Inherited]) -> Outcome:
        """Decode in worker processes."""
        if not self.tasks or not self._go_on():
            return Outcome()
        formats = [place.format for place in self.places]
        try:
            return decode_all(
                self.tasks, self.root, formats, workers, locks, self._done, self._go_on
            )
        finally:
            self.progress.close()

    def _done(self, number: int, status: str, reason: str) -> None:
        task = self.tasks[number]
        place = self.places[task.place]
        if number not in self._seen:
            self._seen.add(number)
            self.progress.advance()
        if status in (MISSING, UNREADABLE):
            place.lost[task.clip] = (status, reason)
        self._note(place, task.clip, status, reason)

    def _note(self, place: Place, clip: Clip, status: str, reason: str) -> None:
        if self.strict and self.first is None and status in SAID:
            modality = next(name for name, clips in place.clips.items() if clip in clips)
            self.first = Lost(modality, clip, status, reason)

    def _go_on(self) -> bool:
        self.progress.tick()
        return self.stop.signal is None and self.first is None


@contextlib.contextmanager
def _used(root: Path) -> Iterator[None]:
    """Turn what the system says of the folder of prepared data into a word to the user."""
    try:
        yield
    except OSError as error:
        said = f"{error.strerror or error}: {error.filename or root}"
        raise MmeqError(
            f"prepared={root} cannot be used ({said}); give prepared=<another folder> here and in "
            "training"
        ) from error
