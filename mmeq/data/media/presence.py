"""Which clips can be used: told by the prepared store, else by a look into each file, remembered.

Shape suffixes: N samples.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mmeq.data.media.clip import Absent, Broken, Clip
from mmeq.data.media.formats import Format
from mmeq.data.media.store import ABSENT, BROKEN, OK, Status, Store
from mmeq.errors import MmeqError
from mmeq.files import json_line, read_jsonl, write_text

THREADS = 8
PATIENCE = 2.0
"""Seconds of silence before progress is shown."""


@dataclass
class Found:
    """What was seen of N clips.

    Attributes:
        keys: fingerprints; None where the clip cannot be used.
        seconds: length; NaN where unknown.
        missing: rows whose file is not there.
        absent: rows whose file has no such track.
        broken: row → why its file cannot be decoded.
        names: row → name of the file, of the rows above.
        unprepared: clips that can be used and are not in the store.
    """

    keys: list[str | None]
    seconds: list[float]
    missing: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    unprepared: int = 0

    @property
    def lost(self) -> dict[int, str]:
        """Row → why the clip cannot be used."""
        out = {row: f"{self.names[row]} is missing" for row in self.missing}
        out |= {row: f"{self.names[row]} has no such track" for row in self.absent}
        return out | {row: f"{self.names[row]}: {why}" for row, why in self.broken.items()}

    def notes(self, modality: str, examples: int) -> list[str]:
        """Say what cannot be used, with names."""
        out = []
        for what, rows in (
            ("files are missing", self.missing),
            ("clips have no such track (a missing modality)", self.absent),
            ("files are broken", list(self.broken)),
        ):
            if rows:
                # one file may hold many clips (a dialog): it is named, and as a file counted, once
                reasons = dict[str, str]()
                for row in rows:
                    reasons.setdefault(self.names[row], self.broken.get(row, ""))
                shown = [
                    name + (f" ({why})" if why else "")
                    for name, why in list(reasons.items())[:examples]
                ]
                more = " …" if len(reasons) > examples else ""
                clips = "" if len(reasons) == len(rows) else f" (of {len(rows)} clips)"
                out.append(
                    f"modality {modality!r}: {len(reasons)} {what}{clips}: {', '.join(shown)}{more}"
                )
        return out


def look(clips: Sequence[Clip | None], format: Format, store: Store, prepared: Path) -> Found:
    """Find out which clips can be used.

    Args:
        clips: N; None where the release has nothing.
        format: of the modality.
        store: what was prepared; what it tells of a clip is believed.
        prepared: folder where looks into files are remembered, if it can be written.

    Raises:
        MmeqError: the system refuses to show a file.
    """
    found = Found([None] * len(clips), [float("nan")] * len(clips))
    open_rows: dict[int, str] = {}
    for row, clip in enumerate(clips):
        if clip is None:
            continue
        found.names[row] = clip.name
        try:
            key = clip.fingerprint()
        except (FileNotFoundError, NotADirectoryError):
            found.missing.append(row)
            continue
        except OSError as error:  # it may pass, so it makes no gap in the data
            raise MmeqError(f"{clip.path} cannot be read: {error.strerror or error}") from error
        if (entry := store.find(key)) is None:
            open_rows[row] = key
        else:
            _note(found, row, key, entry.status, entry.reason, entry.seconds)
    if open_rows:
        looks = _Looks(prepared, format)
        for row, status, reason, seconds in looks.all(clips, open_rows, format):
            _note(found, row, open_rows[row], status, reason, seconds)
            found.unprepared += status == OK
    found.absent.sort()
    found.broken = dict(sorted(found.broken.items()))
    return found


def _note(found: Found, row: int, key: str, status: Status, reason: str, seconds: float) -> None:
    if status == OK:
        found.keys[row], found.seconds[row] = key, seconds
    elif status == ABSENT:
        found.absent.append(row)
    else:
        found.broken[row] = reason


class _Looks:
    """Looks into files, remembered in ``<prepared>/looks-<kind>-<versions>.jsonl``.

    Another version of the decoders looks again: it may open what this one cannot.

    Args:
        prepared: the folder.
        format: of the clips.
    """

    def __init__(self, prepared: Path, format: Format) -> None:
        stored = format.stored()
        versions = [stored[key] for key in ("version", "libavcodec", "pillow") if key in stored]
        self.path = prepared / f"looks-{'-'.join(map(str, [format.kind, *versions]))}.jsonl"
        self.kind = format.kind
        self.known: dict[str, tuple[Status, str, float]] = {}
        for line in read_jsonl(self.path):
            seconds = line["seconds"]
            self.known[line["key"]] = (
                line["status"], line["reason"], float("nan") if seconds is None else seconds
            )  # fmt: skip

    def all(
        self, clips: Sequence[Clip | None], keys: dict[int, str], format: Format
    ) -> Iterator[tuple[int, Status, str, float]]:
        """Yield row, status, reason and seconds of every row in `keys`."""
        new = {row: key for row, key in keys.items() if key not in self.known}
        if new:
            with ThreadPoolExecutor(THREADS) as pool:
                results = pool.map(lambda row: _look(clips[row], format), new)
                for row, result in zip(new, self._watched(results, len(new)), strict=True):
                    self.known[new[row]] = result
            self._remember()
        for row, key in keys.items():
            yield row, *self.known[key]

    def _watched(
        self, results: Iterator[tuple[Status, str, float]], total: int
    ) -> Iterator[tuple[Status, str, float]]:
        """Show progress on a terminal's standard error when it takes long."""
        begun = shown = time.monotonic()
        for done, result in enumerate(results, 1):
            yield result
            now = time.monotonic()
            if now - begun > PATIENCE and (now - shown > PATIENCE or done == total):
                shown = now
                print(
                    f"mmeq: looked into {done} of {total} {self.kind} files, about "
                    f"{(now - begun) / done * (total - done):.0f} s to go",
                    file=sys.stderr,
                )

    def _remember(self) -> None:
        """Write what is known, if the folder can be written: it only saves time."""
        lines = [
            json_line({"key": key, "status": status, "reason": reason, "seconds": seconds})
            for key, (status, reason, seconds) in self.known.items()
        ]
        try:
            write_text(self.path, "".join(line + "\n" for line in lines))
        except OSError:
            return


def _look(clip: Clip | None, format: Format) -> tuple[Status, str, float]:
    assert clip is not None
    try:
        seconds = format.probe(clip)
    except Absent as absent:
        return ABSENT, str(absent), float("nan")
    except Broken as broken:
        return BROKEN, str(broken), float("nan")
    return OK, "", float("nan") if seconds is None else seconds
