"""Dataset cremad: 7,442 clips of 91 actors, an emotion spoken before a camera, 6 classes.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmeq.data.manifest import TEST, TRAIN, UNUSED
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Cells, Listing, MediaDataset
from mmeq.data.media.video import VideoFormat
from mmeq.data.options import one_of
from mmeq.data.releases import cremad_names as names
from mmeq.data.releases.cremad_names import CLASSES
from mmeq.data.releases.known import Carving, compare, examples
from mmeq.data.split import Split
from mmeq.errors import MmeqError

KNOWN = {"all": 7442}
KNOWN_OGM = {"train": 6698, "test": 744}
PROTOCOLS = ("speaker_independent", "ogm", "random")
AUDIO = {"wav": "AudioWAV", "mp3": "AudioMP3"}
FRACTIONS = (0.6923, 0.0989, 0.2088)
"""63, 9 and 19 of the 91 actors."""


class CremaD(MediaDataset):
    """The CREMA-D repository as cloned: ``AudioWAV``, ``AudioMP3``, ``VideoFlash``.

    The class of a clip is the emotion that the actor was asked for, as its file name
    ``<actor>_<sentence>_<emotion>_<level>`` says, not what raters heard. ``SentenceFilenames.csv``
    lists the release where it lies beside the folders; else the files found do. The one sound file
    with a shortened name (``1040_ITH_SAD_X``) is that of ``1040_ITH_SAD_XX``.

    Protocols:

    - ``speaker_independent``: whole actors in each part, drawn by the seed. The published parts
      have about 5,144 / 738 / 1,556 clips [second-hand]; the fractions are those of 63, 9 and 19
      actors, the draw is ours.
    - ``ogm``: the lists that came with OGM-GE's code [second-hand]: 6,698 to train on, 744 to
      test; all actors stand in both. Validation is carved from train [ours].
    - ``random``: stratified by class without regard to actors [ours]; flatters as `ogm` does.

    Args:
        data_root: folder of the release.
        prepared: folder of prepared clips; None: ``<data_root>/mmeq-prepared``.
        modalities: any of audio, video; None takes both.
        protocol: see above.
        train_list: path of the `ogm` protocol's train list, rows ``name,EMO`` without extension;
            a relative one begins at `data_root`, so that a run can be reopened from anywhere.
        test_list: the same of its test list.
        audio_files: ``wav`` or ``mp3``.
        fractions: of train, validation and test (`speaker_independent`, `random`).
        validation: share of train that becomes validation (`ogm`).
        grouped: carve whole actors (`ogm`).
        split_seed: another seed, another split.
        train_size: so many training samples, stratified; None keeps all.
        audio: None: 22,050 Hz, 3 s repeated or cut, log spectrogram 257×188 [second-hand].
        video: None: 1 frame a second, 3 of them, 224 pixels [second-hand].

    Raises:
        MmeqError: for options that make no sense.
    """

    name = "cremad"
    all_kinds: Mapping[str, str] = {"audio": "audio", "video": "video"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "speaker_independent",
        train_list: str | None = None,
        test_list: str | None = None,
        audio_files: str = "wav",
        fractions: Sequence[float] = FRACTIONS,
        validation: float = 0.1,
        grouped: bool = False,
        split_seed: int = 0,
        train_size: int | None = None,
        audio: AudioFormat | None = None,
        video: VideoFormat | None = None,
    ) -> None:
        one_of("protocol", protocol, PROTOCOLS)
        one_of("audio_files", audio_files, tuple(AUDIO))
        given = train_list is not None and test_list is not None
        if protocol == "ogm" and not given:
            raise MmeqError("protocol=ogm needs the paths of its lists: train_list and test_list")
        if protocol != "ogm" and (train_list is not None or test_list is not None):
            raise MmeqError(f"train_list and test_list are for protocol=ogm, not {protocol}")
        if grouped and protocol == "random":
            raise MmeqError("grouped=true keeps actors apart, which protocol=random does not do")
        super().__init__(
            data_root,
            prepared,
            modalities,
            {
                "audio": audio or AudioFormat(rate=22050, features="spectrogram"),
                "video": video or VideoFormat(),
            },
        )
        self.protocol = protocol
        self.lists = {TRAIN: train_list, TEST: test_list}
        self.folders = {"audio": AUDIO[audio_files], "video": "VideoFlash"}
        self.split = Split(split_seed, tuple(fractions), train_size)
        self.carving = Carving(validation, grouped, split_seed, train_size)

    def listing(self) -> Listing:
        """Read the release's list of clips, or its folders.

        Raises:
            MmeqError: names a file name with an unknown code, a repeated name, a list that cannot
                be understood (with its line), or files that are mere Git LFS pointers.
        """
        folders = [self.folders[modality] for modality in self.modalities]
        root = self.root(*folders, beneath=["CREMA-D", "CREMAD"])
        found = {folder: names.files(root / folder) for folder in folders}
        here = {name for files in found.values() for name in files if names.is_name(name)}
        table = root / "SentenceFilenames.csv"
        listed = names.table(table) if table.is_file() else None
        ids = sorted(here) if listed is None else listed
        if not ids:
            raise MmeqError(f"{root}: no clip in {', '.join(folders)}")
        notes = names.strange(found, set(ids))
        parts = {name: names.parse(name) for name in ids}
        labels = np.array([CLASSES.index(parts[name][2]) for name in ids], dtype=np.int64)
        groups = [parts[name][0] for name in ids]
        count = {"all": len(here & set(ids))}
        notes += compare(self.name, "clips", count, KNOWN, names.lost(here, listed))
        if self.protocol == "ogm":
            split, more = self._given(ids)
            notes += more
            self.carving.apply(split, labels, CLASSES, groups)
            protocol = self.carving.describe("ogm (given lists, all actors in both)")
        else:
            alone = self.protocol == "speaker_independent"
            split = self.split.assign(labels, CLASSES, groups if alone else None)
            protocol = f"{self.protocol} {self.split.describe(alone)}"
        cells: dict[str, Cells] = {}
        for modality in self.modalities:
            clips = [names.clip(root, self.folders[modality], found, name) for name in ids]
            names.refuse_pointer(clips)
            cells[modality] = list[Clip | None](clips)
        return Listing(
            protocol=protocol,
            classes=CLASSES,
            ids=ids,
            labels=labels,
            split=split,
            cells=cells,
            groups=groups,
            grouped=self.protocol == "speaker_independent",
            notes=notes,
        )

    def _given(self, ids: list[str]) -> tuple[np.ndarray, list[str]]:
        """Return the part of each sample by the user's lists, and notes."""
        part_of: dict[str, str] = {}
        for part, given in self.lists.items():
            path = (self.data_root or Path()) / str(given)
            for line, name, label in names.rows(path, part):
                if name in part_of:
                    raise MmeqError(f"{path}, line {line}: {name} is listed a second time")
                if label != names.parse(name, f"{path}, line {line}: ")[2]:
                    raise MmeqError(
                        f"{path}, line {line}: {name} has the label {label}, its name says "
                        f"{names.parse(name)[2]}"
                    )
                part_of[name] = part
        unknown = sorted(part_of.keys() - set(ids))
        notes = compare(self.name, "lists of protocol ogm", Counter(part_of.values()), KNOWN_OGM)
        if unknown:
            notes.append(
                f"dataset {self.name!r}: {len(unknown)} clips of the lists are not in the release: "
                f"{examples(unknown)}"
            )
        split = np.array([part_of.get(name, UNUSED) for name in ids], dtype="<U10")
        return split, notes
