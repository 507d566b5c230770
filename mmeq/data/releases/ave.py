"""Dataset ave: Audio-Visual Events, 4,143 events in 10-second videos, 28 classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from mmeq.data.manifest import TEST, TRAIN, VALIDATION
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.media.formats import Format
from mmeq.data.media.video import VideoFormat
from mmeq.data.options import one_of
from mmeq.data.releases.known import compare, examples
from mmeq.data.releases.release import finish, text_lines
from mmeq.errors import MmeqError, did_you_mean

CLASSES = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane",
    "Race car, auto racing", "Female speech, woman speaking", "Helicopter", "Violin, fiddle",
    "Flute", "Ukulele", "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar",
    "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat",
    "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip
"""In the order of the released loaders [second-hand]."""
FILES = {TRAIN: "trainSet.txt", VALIDATION: "valSet.txt", TEST: "testSet.txt"}
HEADER = "Category&VideoID&Quality&StartTime&EndTime"
KNOWN = {TRAIN: 3339, VALIDATION: 402, TEST: 402}
SECONDS = 10.0
SPANS = ("clip", "event")


class Event(NamedTuple):
    """One line of a label file."""

    label: str
    video: str
    start: float
    end: float


class Ave(MediaDataset):
    """Videos ``AVE/<VideoID>.mp4`` with sound, and the official lists of train, validation, test.

    Each line of ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt`` (with or without the header
    of ``Annotations.txt``) is ``Category&VideoID&Quality&StartTime&EndTime``, whole seconds 0 to
    10. 3,339 / 402 / 402 events. One video may hold several events, hence fewer than 4,143 files;
    groups are videos, and the official parts are not promised to keep them apart.

    The released classification loaders that work from the mp4 take the whole 10 seconds whatever
    the event's times [seen in several; second-hand]: the default. ``span=event`` cuts the event
    out, so that two events of one video differ in their content. An event whose end is not after
    its start (``VWi2ENBuTbw`` in the official file says 0 to 0) takes the whole video, with a note.

    Args:
        data_root: folder with the lists and ``AVE/``, or the one above it (``AVE_Dataset``).
        prepared: see `MediaDataset`.
        modalities: any subset of audio, video, in any order; None takes both.
        protocol: official, the lists of the release.
        span: clip, the whole video; event, from the start to the end of the event.
        split_seed: of the draw of `train_size`.
        train_size: so many training samples, stratified; None keeps all.
        audio: how sound is read; None: log spectrograms of 10 s at 16 kHz, windows of 512 that
            overlap by 353, 257×1007 (the 257×1004 of the released features, of which the last
            are not padded).
        video: how frames are read; None: 3 of 10 frames, one a second, at 224 pixels.
    """

    name = "ave"
    all_kinds: ClassVar[dict[str, str]] = {"audio": "audio", "video": "video"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "official",
        span: str = "clip",
        split_seed: int = 0,
        train_size: int | None = None,
        audio: AudioFormat | None = None,
        video: VideoFormat | None = None,
    ) -> None:
        formats: dict[str, Format] = {
            "audio": audio or AudioFormat(seconds=10.0, features="spectrogram", hop=159),
            "video": video or VideoFormat(),
        }
        super().__init__(data_root, prepared, modalities, formats)
        one_of("protocol", protocol, ["official"])
        one_of("span", span, SPANS)
        self.span, self.split_seed, self.train_size = span, split_seed, train_size

    def listing(self) -> Listing:
        """Read the three lists."""
        root = self.root("AVE", *FILES.values(), beneath=["AVE_Dataset"])
        events: list[Event] = []
        split: list[str] = []
        for part, file in FILES.items():
            found = read_events(root / file)
            events += found
            split += [part] * len(found)
        counts = dict(Counter(split))
        notes = compare(self.name, "events", counts, KNOWN)
        notes += _against_annotations(root / "Annotations.txt", events)
        ids, repeated = _ids(events)
        if repeated:
            notes.append(f"{len(repeated)} events are listed more than once: {examples(repeated)}")
        flat = [one.video for one in events if not one.end > one.start]
        if flat:
            notes.append(
                f"{len(flat)} events have no length and stand for the whole video: {examples(flat)}"
            )
        labels = np.array([CLASSES.index(one.label) for one in events], dtype=np.int64)
        parts = np.array(split, dtype="<U10")
        size = finish(self.name, parts, labels, CLASSES, self.train_size, self.split_seed)
        clips: list[Clip | None] = [self._clip(root, one) for one in events]
        return Listing(
            protocol=f"official lists, span={self.span} split_seed={self.split_seed}{size}",
            classes=CLASSES,
            ids=ids,
            labels=labels,
            split=parts,
            cells=dict.fromkeys(self.all_kinds, clips),
            groups=[one.video for one in events],
            notes=notes,
        )

    def _clip(self, root: Path, event: Event) -> Clip:
        path = root / "AVE" / f"{event.video}.mp4"
        whole = self.span == "clip" or not event.end > event.start
        name = f"AVE/{event.video}.mp4"
        return Clip(path, name) if whole else Clip(path, name, event.start, event.end)


def read_events(path: Path) -> list[Event]:
    """Read one list of events.

    Raises:
        MmeqError: names file and line of what cannot be understood, and the nearest class.
    """
    out = []
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip() or (number == 1 and line.startswith("Category&VideoID&")):
            continue
        where = f"{path}, line {number}"
        cells = [cell.strip() for cell in line.split("&")]
        if len(cells) != 5:
            raise MmeqError(f"{where}: {line!r} is not {HEADER}")
        label, video, _, start, end = cells
        if label not in CLASSES:
            raise MmeqError(f"{where}: unknown class {label!r}" + did_you_mean(label, CLASSES))
        try:
            times = float(start), float(end)
        except ValueError:
            raise MmeqError(f"{where}: the times {start!r} and {end!r} are no numbers") from None
        if not (0 <= times[0] <= times[1] <= SECONDS):
            raise MmeqError(f"{where}: the times {start} to {end} are not within 0 to 10 s")
        if not video or Path(video).name != video:
            raise MmeqError(f"{where}: {video!r} is no video id")
        out.append(Event(label, video, *times))
    return out


def _ids(events: Sequence[Event]) -> tuple[list[str], list[str]]:
    """Return names that tell events of one video apart, and those that occur again."""
    seen, ids, repeated = Counter[str](), list[str](), list[str]()
    for one in events:
        name = f"{one.video}_{one.start:g}_{one.end:g}_{one.label}"
        seen[name] += 1
        if seen[name] > 1:
            repeated.append(name)
        ids.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return ids, repeated


def _against_annotations(path: Path, events: Sequence[Event]) -> list[str]:
    """Return a note when the parts together are not what the whole list has."""
    if not path.is_file():
        return []
    whole, parts = Counter(read_events(path)), Counter(events)
    lost, more = list((whole - parts).elements()), list((parts - whole).elements())
    if not lost and not more:
        return []
    shown = examples([f"{one.video} {one.label}" for one in [*lost, *more]])
    return [
        f"{path.name} lists {len(lost)} events that no part has, and the parts {len(more)} that it "
        f"has not: {shown}"
    ]
