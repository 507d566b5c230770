"""What became of the clips of a preparation: counts of each modality, and all that was lost."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmeq.data.media.clip import Clip
from mmeq.data.media.shards import BROKEN, OK, shards_of
from mmeq.data.media.store import Store
from mmeq.data.media.worker import MISSING, UNREADABLE
from mmeq.files import write_text

if TYPE_CHECKING:
    from mmeq.data.media.formats import Format

OPEN = "open"
"""Not decoded yet."""
SAID = {
    BROKEN: "is broken",
    MISSING: "is missing",
    UNREADABLE: "could not be read",
}


@dataclass
class Place:
    """What of a dataset is kept in one folder: its modalities of one format.

    Attributes:
        format: of the clips.
        clips: modality → clips of this part, in the order of the samples.
        keys: clip → fingerprint, of the files that are there.
        lost: clip → status and reason, of what is missing or could not be read.
    """

    format: Format
    clips: dict[str, list[Clip]] = field(default_factory=dict)
    keys: dict[Clip, str] = field(default_factory=dict)
    lost: dict[Clip, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """A clip that cannot be used, and why."""

    modality: str
    clip: Clip
    status: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        start, end = self.clip.start, self.clip.end
        span = "" if start is None and end is None else f" from {start or 0:g} s"
        span += "" if end is None else f" to {end:g} s"
        why = f": {self.reason}" if self.reason else ""
        return f"{self.modality}: {self.clip.name}{span} {SAID[self.status]}{why}"


@dataclass(frozen=True)
class Row:
    """One modality: its clips by status, their seconds, and the folder that they are kept in."""

    modality: str
    counts: Mapping[str, int]
    seconds: float
    folder: Path
    size: int

    @property
    def total(self) -> int:
        """Clips."""
        return sum(self.counts.values())


@dataclass
class Report:
    """What a preparation did and found.

    Attributes:
        part: i of n.
        rows: one a modality.
        lost: what is broken, missing or could not be read.
        path: of the file that lists these; None where nothing is lost.
        deaths: a sentence for each worker that died.
        decoded: clips, in this run.
        elapsed: seconds, of this run.
        notes: what the dataset says of its release.
        stopped: number of the signal that ended it early, or None.
    """

    part: tuple[int, int]
    rows: list[Row]
    lost: list[Lost]
    path: Path | None
    deaths: list[str] = field(default_factory=list)
    decoded: int = 0
    elapsed: float = 0.0
    notes: list[str] = field(default_factory=list)
    stopped: int | None = None

    @property
    def finished(self) -> bool:
        """Nothing is left that another run might do."""
        return not any(row.counts.get(OPEN) or row.counts.get(UNREADABLE) for row in self.rows)


def account(root: Path, name: str, part: tuple[int, int], places: list[Place]) -> Report:
    """Look every clip up on the disk, and write what is lost into ``<root>/broken-<name>.csv``.

    Args:
        root: of the prepared formats.
        name: of the dataset.
        part: i of n; in the file's name where n is not 1.
        places: what was to be done.
    """
    rows, lost = [], []
    for place in places:
        store = Store(root, place.format)
        size = sum(path.stat().st_size for path in shards_of(store.folder))
        for modality, clips in place.clips.items():
            counts: Counter[str] = Counter()
            seconds = 0.0
            for clip in clips:
                status, reason, length = _fate(store, place, clip)
                counts[status] += 1
                seconds += 0.0 if math.isnan(length) else length
                if status in SAID:
                    lost.append(Lost(modality, clip, status, reason))
            rows.append(Row(modality, counts, seconds, store.folder, size))
    label = "" if part[1] == 1 else f"-{part[0]}of{part[1]}"
    path = root / f"broken-{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}{label}.csv"
    if lost:
        write_text(path, _table(lost))
    else:
        path.unlink(missing_ok=True)  # of an earlier run, and no longer true
    return Report(part, rows, lost, path if lost else None)


def _fate(store: Store, place: Place, clip: Clip) -> tuple[str, str, float]:
    """Status, reason and seconds of a clip."""
    key = place.keys.get(clip)
    entry = None if key is None else store.find(key)
    if entry is not None:
        return entry.status, entry.reason, entry.seconds if entry.status == OK else math.nan
    return *place.lost.get(clip, (OPEN, "")), math.nan


def _table(lost: list[Lost]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["modality", "name", "start", "end", "status", "reason"])
    for one in dict.fromkeys(lost):
        clip = one.clip
        name = clip.name.encode("utf-8", "backslashreplace").decode()
        writer.writerow([one.modality, name, clip.start, clip.end, one.status, one.reason])
    return stream.getvalue()
