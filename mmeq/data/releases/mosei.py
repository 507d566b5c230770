"""Dataset mosei: CMU-MOSEI, aligned features of face, voice and words, sentiment as class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mmeq.data.manifest import TEST, TRAIN, UNUSED, VALIDATION
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.options import one_of
from mmeq.data.releases.features import MODALITIES, counts, find_file, read_features
from mmeq.data.releases.known import compare
from mmeq.data.releases.release import finish
from mmeq.errors import MmeqError

FILES = (
    "mosei_senti_data.pkl", "mosei_raw.pkl", "aligned_50.pkl", "Processed/aligned_50.pkl",
    "unaligned_50.pkl", "Processed/unaligned_50.pkl",
)  # fmt: skip
"""Looked for in this order: MultiBench and MulT, then MMSA."""
SEVEN = (
    "strongly negative", "negative", "weakly negative", "neutral",
    "weakly positive", "positive", "strongly positive",
)  # fmt: skip
CLASSES = {
    "binary": ("negative", "positive"),
    "has0": ("negative", "non-negative"),
    "five": ("strongly negative", "negative", "neutral", "positive", "strongly positive"),
    "seven": SEVEN,
}
KNOWN = {TRAIN: 16326, VALIDATION: 1871, TEST: 4659}


class Mosei(MediaDataset):
    """Sequences of 50 words: vision (35 FACET features), audio (74 COVAREP), text (300 GloVe).

    The files are those that MultiBench and MMSA give away (its text is 768-dimensional BERT); the
    widths are taken from the file. Official parts of 16,326 / 1,871 / 4,659 segments
    [second-hand: written in released loaders]. The label is the mean of the raters' sentiment
    scores, −3 to 3. `mmeq.data.releases.features.read_features` says how sequences and gaps are
    read.

    Protocols:

    - ``binary``: score < 0 against score > 0; segments with score 0 are left out. What the field
      mostly prints as "Acc-2 (non-zero)".
    - ``has0``: score < 0 against score ≥ 0, all segments.
    - ``five``, ``seven``: the score cut to ±2 or ±3 and rounded, halves to the even number, as
      the released metrics do with numpy's ``round``.

    Segments of one video stand in one part; the groups are videos, where the ids tell them.

    Args:
        data_root: folder of the file.
        prepared: not needed, all is in memory; for the sake of the commands.
        modalities: any subset of vision, audio, text, in any order; None takes all.
        protocol: binary, has0, five or seven.
        file: relative to `data_root`; None takes the first of `FILES` that is there.
        split_seed: of the draw of `train_size`.
        train_size: so many training samples, stratified; None keeps all.
    """

    name = "mosei"
    all_kinds: ClassVar[dict[str, str]] = dict.fromkeys(MODALITIES, "sequence")

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "binary",
        file: str | None = None,
        split_seed: int = 0,
        train_size: int | None = None,
    ) -> None:
        super().__init__(data_root, prepared, modalities, {})
        one_of("protocol", protocol, tuple(CLASSES))
        self.protocol, self.file = protocol, file
        self.split_seed, self.train_size = split_seed, train_size

    def listing(self) -> Listing:
        """Read the file; segments that the protocol leaves out are unused."""
        path = find_file(self.root(), self.file, FILES, self.name)
        found = read_features(path, self.modalities)
        outside = (found.scores < -3.001) | (found.scores > 3.001)
        if outside.any():
            row = int(outside.argmax())
            raise MmeqError(
                f"{path}: sample {found.ids[row]!r} has the score {found.scores[row]:g}, expected "
                "-3 to 3: another task than sentiment?"
            )
        notes = [*compare(self.name, "segments", counts(found.split), KNOWN), *found.notes]
        labels, keep = classify(found.scores, self.protocol)
        split = np.where(keep, found.split, UNUSED)
        if not keep.all():
            notes.append(
                f"dataset 'mosei': {int((~keep).sum())} segments with score 0 are left out, as "
                f"protocol {self.protocol} says"
            )
        classes = CLASSES[self.protocol]
        size = finish(self.name, split, labels, classes, self.train_size, self.split_seed)
        return Listing(
            protocol=f"{self.protocol} official ({path.name}) split_seed={self.split_seed}{size}",
            classes=classes,
            ids=found.ids,
            labels=labels,
            split=split,
            cells=dict(found.columns),
            groups=found.groups,
            notes=notes,
            present=found.present,
        )


def classify(scores: np.ndarray, protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn scores into labels.

    Args:
        scores: float [N], −3 to 3.
        protocol: see `Mosei`.

    Returns:
        Labels int64 [N], and bool [N]: the protocol keeps the sample.

    Examples:
        >>> labels, keep = classify(np.array([-3.0, -0.5, 0.0, 0.5, 1.5, 2.6]), "seven")
        >>> labels.tolist()
        [0, 3, 3, 3, 5, 6]
        >>> classify(np.array([-1 / 3, 0.0, 2.0]), "binary")[1].tolist()
        [True, False, True]
    """
    if protocol == "binary":
        return (scores > 0).astype(np.int64), scores != 0
    keep = np.ones(len(scores), bool)
    if protocol == "has0":
        return (scores >= 0).astype(np.int64), keep
    bound = len(CLASSES[protocol]) // 2
    return np.round(scores.clip(-bound, bound)).astype(np.int64) + bound, keep
