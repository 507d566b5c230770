"""Datasets kinetics400 and kinetics_sounds: ten-second clips of 400 or 31 human actions.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmeq.data.manifest import TEST, TRAIN
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.media.video import VideoFormat
from mmeq.data.options import one_of
from mmeq.data.releases.kinetics_classes import KINETICS_400, KINETICS_SOUNDS
from mmeq.data.releases.kinetics_files import Row, find_lists, in_folders, on_disk
from mmeq.data.releases.known import Carving, compare, examples
from mmeq.errors import MmeqError, did_you_mean

PROTOCOLS = {"full": KINETICS_400, "sounds": KINETICS_SOUNDS}
LISTED = {"train": 246534, "val": 19906}
"""Rows of the lists of the common mirror."""
KNOWN_SOUNDS = {"train": 14799, "val": 2597}
"""Clips that published work on Kinetics-Sounds found [second-hand]."""


class Kinetics(MediaDataset):
    """Kinetics-400 as its mirrors have it, or the classes of it that can be heard.

    Two layouts are read. With lists, ``{train,val}.csv`` (the official archive says
    ``validate.csv``) in the data root, in ``annotations/`` or in ``kinetics400/``, with the header
    ``label,youtube_id,time_start,time_end,…``, the clips ``<youtube_id>_%06d_%06d.mp4`` lie in
    ``{train,val}/`` or in folders of classes there, also below ``videos/``; a file in
    ``replacement/replacement_for_corrupted_k400/`` takes the place of its namesake. Without lists,
    the class is the folder: ``{train,val}/<class>/*.mp4``, with spaces or underscores. Clips that
    are listed and not on disk are the rule; they are counted and left out. A clip without sound
    lacks a modality.

    The official validation part is our test part, since published figures are on it; validation is
    carved from train [ours]. The official test part is not used.

    Protocols:

    - ``full``: 400 classes.
    - ``sounds``: Kinetics-Sounds, 31 classes, about 14,799 / 2,597 clips [second-hand], see
      `mmeq.data.releases.kinetics_classes`. Other lists are in use: give theirs as `classes`.

    Args:
        data_root: folder of the clips.
        prepared: folder of prepared clips; None: ``<data_root>/mmeq-prepared``.
        modalities: any of audio, video; None takes both.
        protocol: see above.
        classes: other names among the 400; None takes the protocol's.
        validation: share of train that becomes validation.
        split_seed: another seed, another split.
        train_size: so many training samples, stratified; None keeps all.
        audio: None: fbank 128×1024 of 10.24 s at 16 kHz, centred by −4.5039 and 5.1413
            [second-hand].
        video: None: 1 frame a second, 3 of at most 10, 224 pixels [second-hand].

    Raises:
        MmeqError: for options that make no sense.
    """

    all_kinds: Mapping[str, str] = {"audio": "audio", "video": "video"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "full",
        classes: Sequence[str] | None = None,
        validation: float = 0.1,
        split_seed: int = 0,
        train_size: int | None = None,
        audio: AudioFormat | None = None,
        video: VideoFormat | None = None,
    ) -> None:
        one_of("protocol", protocol, tuple(PROTOCOLS))
        self.name = "kinetics400" if protocol == "full" else "kinetics_sounds"
        self.protocol, self.given = protocol, classes is not None
        self.classes = PROTOCOLS[protocol] if classes is None else _chosen(classes)
        super().__init__(
            data_root,
            prepared,
            modalities,
            {
                "audio": audio
                or AudioFormat(
                    rate=16000, seconds=10.24, fill="zero", cut="start", features="fbank",
                    bins=128, mean=-4.5039, std=5.1413,
                ),
                "video": video or VideoFormat(jpeg=90),  # pixels need ten times as much
            },
        )  # fmt: skip
        self.carving = Carving(validation, False, split_seed, train_size)

    def listing(self) -> Listing:
        """Read the lists and the folders.

        Raises:
            MmeqError: names a list's line that cannot be understood, a label that is none of the
                400, a clip with two labels; or says where no clips were found.
        """
        root = self.root()
        lists = find_lists(root)
        rows, notes = on_disk(root, lists, self.name) if lists else in_folders(root, self.name)
        index = {label: k for k, label in enumerate(self.classes)}
        kept = [row for row in rows if row.label in index]
        if not kept:
            raise MmeqError(
                f"{root}: no clip of {self.name}'s classes in {{train,val}}/ or "
                f"{{train,val}}/<class>/ ({len(rows)} clips of other classes)"
            )
        notes += self._compared(lists, kept)
        labels = np.array([index[row.label] for row in kept], dtype=np.int64)
        split = np.array([TRAIN if row.part == "train" else TEST for row in kept], dtype="<U10")
        self._check_classes(root, labels[split == TRAIN])
        self.carving.apply(split, labels, self.classes, None)
        what = f"{self.protocol}, {len(self.classes)} {'given ' if self.given else ''}classes"
        clips: list[Clip | None] = [Clip(row.path, row.name) for row in kept]
        return Listing(
            protocol=self.carving.describe(f"{what}, official validation part is test"),
            classes=self.classes,
            ids=[row.id for row in kept],
            labels=labels,
            split=split,
            cells={modality: list(clips) for modality in self.modalities},
            groups=[row.video for row in kept],
            notes=notes,
        )

    def _compared(self, lists: dict[str, Path], kept: Sequence[Row]) -> list[str]:
        """What differs from the known counts."""
        counts = {part: sum(row.part == part for row in kept) for part in LISTED}
        notes = []
        if self.protocol == "sounds" and not self.given:
            notes += compare(self.name, "clips (known second-hand)", counts, KNOWN_SOUNDS)
        elif not self.given and not lists:
            notes += compare(self.name, "clips", counts, LISTED)
        return notes

    def _check_classes(self, root: Path, train: np.ndarray) -> None:
        """Refuse classes that nothing can be learnt of: a part of the release has few of the 400.

        Args:
            root: folder of the release.
            train: labels of the train part; none is told elsewhere.
        """
        seen = set(train.tolist())
        gone = [label for k, label in enumerate(self.classes) if k not in seen]
        if seen and gone:
            raise MmeqError(
                f"{root}: {len(gone)} of {len(self.classes)} classes have no clip in train/: "
                f"{examples(gone)}; dataset.classes=[…] names those to train on"
            )


def _chosen(classes: Sequence[str]) -> tuple[str, ...]:
    """Check the option `classes`."""
    if isinstance(classes, str):
        raise MmeqError(f"classes={classes}: expected a list of names")
    names = tuple(str(name) for name in classes)
    for name in names:
        if name not in KINETICS_400:
            raise MmeqError(
                f"classes: {name!r} is no class of Kinetics-400" + did_you_mean(name, KINETICS_400)
            )
        if names.count(name) > 1:
            raise MmeqError(f"classes: {name!r} is given twice")
    if len(names) < 2:
        raise MmeqError(f"classes={list(names)}: give at least two")
    return names
