"""Dataset vggsound: VGGSound, about 200,000 ten-second clips of 309 sounds and what makes them."""

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
from mmeq.data.releases.known import Carving, compare, examples
from mmeq.data.releases.release import csv_rows, entries, finish
from mmeq.data.split import carve
from mmeq.errors import MmeqError, did_you_mean

FILE = "vggsound.csv"
SPLITS = (TRAIN, TEST)
KNOWN = {"all": 309}
FOLDERS = ("video", "videos", "")
"""Where clips are looked for, below the data root."""


class Row(NamedTuple):
    """One line of the list."""

    video: str
    start: int
    label: str
    split: str


class VggSound(MediaDataset):
    """Clips ``<youtube_id>_<start, six digits>.mp4`` and the list ``vggsound.csv``.

    The list has no header: ``youtube_id,start,label,split`` (train or test; labels may hold commas
    in quotes) [established: the authors' repository]. 309 classes, in alphabetical order. Clips lie
    in ``video/``, ``videos/`` or the data root itself: the first of these folders that is there and
    has a clip of the list.

    Videos vanish from YouTube: a release is never whole, two copies are not the same, and results
    over them are comparable only with care. Clips that the list has and the folder has not are left
    out before validation is carved, and counted in a note with each part's size.

    Validation is carved from train, stratified by class, all clips of one video in one part; the
    groups are videos. The official test part is kept as it is.

    Args:
        data_root: folder with ``vggsound.csv`` and the clips.
        prepared: see `MediaDataset`.
        modalities: any subset of audio, video, in any order; None takes both.
        protocol: official.
        validation: share of the train part.
        split_seed: of the validation part and the draw of `train_size`.
        train_size: so many training samples, stratified; None keeps all.
        audio: how sound is read; None: log spectrograms of 10 s at 16 kHz, windows of 512 that
            overlap by 353, 257×1007.
        video: how frames are read; None: 3 of 10 frames, one a second, at 224 pixels.
    """

    name = "vggsound"
    all_kinds: ClassVar[dict[str, str]] = {"audio": "audio", "video": "video"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "official",
        validation: float = 0.1,
        split_seed: int = 0,
        train_size: int | None = None,
        audio: AudioFormat | None = None,
        video: VideoFormat | None = None,
    ) -> None:
        formats: dict[str, Format] = {
            "audio": audio or AudioFormat(seconds=10.0, features="spectrogram", hop=159),
            "video": video or VideoFormat(jpeg=90),  # pixels need ten times as much
        }
        super().__init__(data_root, prepared, modalities, formats)
        one_of("protocol", protocol, ["official"])
        self.carving = Carving(validation, True, split_seed, train_size)

    def listing(self) -> Listing:
        """Read the list, and which of its clips are in the folder."""
        root = self.root(FILE)
        rows = read_rows(root / FILE)
        classes = tuple(sorted({row.label for row in rows}))
        notes = compare(self.name, "classes", {"all": len(classes)}, KNOWN)
        files = {row: f"{row.video}_{row.start:06d}.mp4" for row in rows}
        folder, here = _folder(root, set(files.values()))
        lost = [files[row] for row in rows if files[row] not in here]
        rows = [row for row in rows if files[row] in here]
        if lost:
            have = Counter(row.split for row in rows)
            notes.append(
                f"dataset 'vggsound': {len(lost):,} of {len(files):,} clips of {FILE} are not in "
                f"{folder or 'the data root'} and are left out (train {have[TRAIN]:,} and test "
                f"{have[TEST]:,} remain): {examples(lost)}"
            )
        place = {label: number for number, label in enumerate(classes)}
        labels = np.array([place[row.label] for row in rows], dtype=np.int64)
        split = np.array([row.split for row in rows], dtype="<U10")
        videos, how = [row.video for row in rows], self.carving
        carve_by_video(split, labels, videos, how.validation, how.seed)
        finish(self.name, split, labels, classes, how.train_size, how.seed)
        prefix = f"{folder}/" if folder else ""
        clips: list[Clip | None] = [
            Clip(root / folder / files[row], prefix + files[row]) for row in rows
        ]
        return Listing(
            protocol=how.describe("official"),
            classes=classes,
            ids=[f"{row.video}_{row.start:06d}" for row in rows],
            labels=labels,
            split=split,
            cells=dict.fromkeys(self.all_kinds, clips),
            groups=videos,
            notes=notes,
        )


def read_rows(path: Path) -> list[Row]:
    """Read the list.

    Raises:
        MmeqError: names file and line of what cannot be understood or occurs twice.
    """
    out, seen = list[Row](), dict[tuple[str, int], int]()
    for number, (video, start, label, split) in csv_rows(path, 4):
        where = f"{path}, line {number}"
        if not start.strip().isdecimal():
            raise MmeqError(f"{where}: the start {start!r} is no whole number of seconds")
        if split not in SPLITS:
            raise MmeqError(f"{where}: unknown split {split!r}" + did_you_mean(split, SPLITS))
        if not video or Path(video).name != video or not label.strip():
            raise MmeqError(f"{where}: {video!r} and {label!r} are no video id and label")
        key = (video, int(start))
        if key in seen:
            raise MmeqError(f"{where}: the clip {video} {start} stands in line {seen[key]} already")
        seen[key] = number
        out.append(Row(video, int(start), label.strip(), split))
    if not out:
        raise MmeqError(f"{path} lists no clip")
    return out


def carve_by_video(
    split: np.ndarray, labels: np.ndarray, videos: Sequence[str], share: float, seed: int
) -> None:
    """Carve validation from train in place, a video's clips together.

    A video counts by its first clip: nearly all have but one, and the search over groups of
    `mmeq.data.split` would take minutes and much memory for 180,000 of them.

    Args:
        split: the part of each sample [N].
        labels: int [N].
        videos: N names.
        share: of the videos of the train part.
        seed: another seed, another part.

    Raises:
        MmeqError: when that is less than one video.
    """
    train = np.flatnonzero(split == TRAIN)
    _, first, of = np.unique(np.asarray(videos)[train], return_index=True, return_inverse=True)
    parts = np.full(len(first), TRAIN, dtype="<U10")
    carve(parts, labels[train][first], share, seed)
    if not (parts == VALIDATION).any():
        raise MmeqError(f"validation={share:g} of {len(parts)} videos is none: give a larger share")
    split[train[parts[of] == VALIDATION]] = VALIDATION


def _folder(root: Path, files: set[str]) -> tuple[str, set[str]]:
    """Return the folder that has clips of the list, and which."""
    for folder in FOLDERS:
        place = root / folder
        if place.is_dir() and (here := {one.name for one in entries(place)} & files):
            return folder, here
    example = min(files)
    raise MmeqError(
        f"data_root={root}: no clip of {FILE} is in video/, videos/ or the folder itself; they are "
        f"named as {example}"
    )
