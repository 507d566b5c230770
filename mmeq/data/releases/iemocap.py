"""Dataset iemocap: 10,039 utterances of ten actors in dialog, as sound, picture and words.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmeq.data.manifest import TEST, TRAIN
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Cells, Listing, MediaDataset
from mmeq.data.media.video import VideoFormat
from mmeq.data.options import one_of
from mmeq.data.releases import iemocap_labels
from mmeq.data.releases.iemocap_labels import DIALOGS, KNOWN, Utterance
from mmeq.data.releases.known import Carving, compare
from mmeq.data.split import Split
from mmeq.errors import MmeqError

CLASSES: dict[int, dict[str, tuple[str, ...]]] = {
    4: {"neutral": ("neu",), "happy": ("hap", "exc"), "angry": ("ang",), "sad": ("sad",)},
    6: {
        "neutral": ("neu",), "happy": ("hap",), "angry": ("ang",), "sad": ("sad",),
        "excited": ("exc",), "frustrated": ("fru",),
    },
}  # fmt: skip
PROTOCOLS = ("loso", "random")
FRACTIONS = (0.6, 0.2, 0.2)
HALVES = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 1.0, 1.0)}


class Iemocap(MediaDataset):
    """The licensed ``IEMOCAP_full_release``.

    Sound is the utterance's own file under ``sentences/wav``; text its line in the transcripts;
    video its span of the dialog's video under ``dialog/avi/DivX``. That video shows both actors
    side by side: the one who wears the markers, whom the dialog's name tells (Ses01F: the woman
    of session 1), is on the left, the other on the right. The release's documents do not say so;
    three published preprocessings that crop the halves agree on it [second-hand].

    Four classes join excitement to happiness: 5,531 utterances. Six keep it apart and add
    frustration: 7,380.

    Protocols:

    - ``loso``: leave one session out; `fold` is the session that is tested on, so that no speaker
      stands in train and test. Validation is carved from the other four [ours].
    - ``random``: stratified by class, 3,318 / 1,106 / 1,107 with four classes [second-hand; the
      draw is ours]; every speaker stands in every part, which flatters.

    Args:
        data_root: folder of the release.
        prepared: folder of prepared clips; None: ``<data_root>/mmeq-prepared``.
        modalities: any of audio, video, text; None takes all.
        protocol: see above.
        fold: 1 to 5 (`loso`).
        classes: 4 or 6.
        video_crop: ``speaker`` keeps the speaker's half of the picture, ``full`` all of it.
        fractions: of train, validation and test (`random`).
        validation: share of train that becomes validation (`loso`).
        grouped: carve whole speakers (`loso`): no speaker stands in two parts then.
        split_seed: another seed, another split.
        train_size: so many training samples, stratified; None keeps all.
        audio: None: fbank 128×1024 of 10.24 s at 16 kHz, centred by −5.081 and 4.4849
            [second-hand].
        video: None: 1 frame a second, 3 of at most 10, 224 pixels [second-hand].

    Raises:
        MmeqError: for options that make no sense.
    """

    name = "iemocap"
    all_kinds: Mapping[str, str] = {"audio": "audio", "video": "video", "text": "text"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "loso",
        fold: int = 5,
        classes: int = 4,
        video_crop: str = "speaker",
        fractions: Sequence[float] = FRACTIONS,
        validation: float = 0.1,
        grouped: bool = False,
        split_seed: int = 0,
        train_size: int | None = None,
        audio: AudioFormat | None = None,
        video: VideoFormat | None = None,
    ) -> None:
        one_of("protocol", protocol, PROTOCOLS)
        one_of("fold", fold, tuple(DIALOGS))
        one_of("classes", classes, tuple(CLASSES))
        one_of("video_crop", video_crop, ("speaker", "full"))
        if grouped and protocol != "loso":
            raise MmeqError("grouped=true keeps speakers apart, which only protocol=loso does")
        super().__init__(
            data_root,
            prepared,
            modalities,
            {
                "audio": audio
                or AudioFormat(
                    rate=16000, seconds=10.24, fill="zero", cut="start", features="fbank",
                    bins=128, mean=-5.081, std=4.4849,
                ),
                "video": video or VideoFormat(),
            },
        )  # fmt: skip
        self.protocol, self.fold, self.classes = protocol, fold, CLASSES[classes]
        self.video_crop = video_crop
        self.split = Split(split_seed, tuple(fractions), train_size)
        self.carving = Carving(validation, grouped, split_seed, train_size)

    def listing(self) -> Listing:
        """Read the label files, and the transcripts if texts are wanted.

        Raises:
            MmeqError: names file and line of a label that cannot be understood, an unknown
                emotion, a repeated utterance; a session that the fold needs.
        """
        root = self.root("Session1", beneath=["IEMOCAP_full_release", "IEMOCAP"])
        every, dialogs, bare = iemocap_labels.labels(root)
        notes = compare(
            self.name,
            "labels",
            Counter(one.code for one in every),
            KNOWN,
            iemocap_labels.lost(dialogs, bare),
        )
        index = {code: k for k, codes in enumerate(self.classes.values()) for code in codes}
        kept = [one for one in every if one.code in index]
        labels = np.array([index[one.code] for one in kept], dtype=np.int64)
        classes, speakers = tuple(self.classes), [one.speaker for one in kept]
        if self.protocol == "loso":
            if self.fold not in {one.session for one in kept}:
                raise MmeqError(f"{root}: fold={self.fold} tests on Session{self.fold}: none there")
            tested = [TEST if one.session == self.fold else TRAIN for one in kept]
            split = np.array(tested, dtype="<U10")
            self.carving.apply(split, labels, classes, speakers)
            protocol = self.carving.describe(f"loso fold {self.fold} (Session{self.fold} is test)")
        else:
            split = self.split.assign(labels, classes)
            protocol = f"random {self.split.describe(False)}"
        cells: dict[str, Cells] = {}
        for modality in self.modalities:
            if modality == "text":
                cells[modality], more = iemocap_labels.texts(root, kept)
                notes += more
            else:
                make = self._sound if modality == "audio" else self._picture
                cells[modality] = [make(root, one) for one in kept]
        return Listing(
            protocol=f"{protocol}; {len(classes)} classes",
            classes=classes,
            ids=[one.name for one in kept],
            labels=labels,
            split=split,
            cells=cells,
            groups=speakers,
            grouped=self.carving.grouped,
            notes=notes,
        )

    def _sound(self, root: Path, one: Utterance) -> Clip | None:
        name = f"Session{one.session}/sentences/wav/{one.dialog}/{one.name}.wav"
        return Clip(root / name, name)

    def _picture(self, root: Path, one: Utterance) -> Clip | None:
        name = f"Session{one.session}/dialog/avi/DivX/{one.dialog}.avi"
        crop = HALVES[one.half] if self.video_crop == "speaker" else None
        return Clip(root / name, name, one.start, one.end, crop)
