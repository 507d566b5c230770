"""Dataset ur_funny: UR-FUNNY, aligned features of face, voice and words; is the last line a joke?

Shape suffixes: N samples, T time, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from mmeq.data.columns import SequenceColumn
from mmeq.data.manifest import TEST, TRAIN, VALIDATION
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.options import one_of
from mmeq.data.releases.features import (
    MODALITIES,
    Features,
    counts,
    find_file,
    lacking,
    not_finite,
    read_features,
)
from mmeq.data.releases.known import compare
from mmeq.data.releases.pickles import load_pickle
from mmeq.data.releases.release import finish
from mmeq.errors import MmeqError

FILES = ("humor.pkl",)
FOLDS, HUMOR, WORDS = "data_folds.pkl", "humor_label_sdk.pkl", "word_embedding_list.pkl"
SPOKEN = ("language_sdk.pkl", "word_embedding_indexes_sdk.pkl")
"""Version 2, version 1."""
SEEN = {"vision": "openface_features_sdk.pkl", "audio": "covarep_features_sdk.pkl"}
PARTS = {"train": TRAIN, "dev": VALIDATION, "test": TEST}
CLASSES = ("not humorous", "humorous")
KNOWN = (
    {TRAIN: 10598, VALIDATION: 2626, TEST: 3290},
    {TRAIN: 7614, VALIDATION: 980, TEST: 994},
)
"""Version 1 (16,514) and version 2 (9,588)."""
PROTOCOLS = ("punchline", "context")


class UrFunny(MediaDataset):
    """Two forms of the release are read.

    - The pickles of the authors: ``data_folds``, ``language_sdk`` (version 1:
      ``word_embedding_indexes_sdk``), ``word_embedding_list``, ``openface_features_sdk``,
      ``covarep_features_sdk``, ``humor_label_sdk``. Per word: 371 OpenFace features (version 1:
      75), 81 COVAREP, 300 GloVe. Protocol ``punchline`` reads the last sentence, ``context`` the
      sentences before it too; the last `steps` words are kept.
    - ``humor.pkl`` of MultiBench: sequences made already (its authors say neither of which
      version nor whether with the context [not established]), see
      `mmeq.data.releases.features.read_features`. The protocol that is printed says "as in
      humor.pkl"; ``context`` is refused.

    Parts of 10,598 / 2,626 / 3,290 samples (version 1; the sum of 16,514 is in the authors'
    notebook, the parts are [second-hand]) or 7,614 / 980 / 994 (version 2 [second-hand]). The ids
    do not tell the talk, so there are no groups; the authors' folds are said to keep speakers
    apart. Numbers that are not finite become 0 and are counted in a note.

    Args:
        data_root: folder of the files.
        prepared: not needed, all is in memory; for the sake of the commands.
        modalities: any subset of vision, audio, text, in any order; None takes all.
        protocol: punchline or context.
        file: in MultiBench's form, relative to `data_root`; None takes ``humor.pkl``, and the
            authors' pickles where that is not there.
        steps: words kept of a sample of the authors' pickles.
        split_seed: of the draw of `train_size`.
        train_size: so many training samples, stratified; None keeps all.
    """

    name = "ur_funny"
    all_kinds: ClassVar[dict[str, str]] = dict.fromkeys(MODALITIES, "sequence")

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "punchline",
        file: str | None = None,
        steps: int = 50,
        split_seed: int = 0,
        train_size: int | None = None,
    ) -> None:
        super().__init__(data_root, prepared, modalities, {})
        one_of("protocol", protocol, PROTOCOLS)
        if steps < 1:
            raise MmeqError(f"steps={steps}: expected 1 or more")
        self.protocol, self.file, self.steps = protocol, file, steps
        self.split_seed, self.train_size = split_seed, train_size

    def listing(self) -> Listing:
        """Read the file or files."""
        root = self.root()
        if self.file is None and not (root / FILES[0]).is_file() and (root / FOLDS).is_file():
            context = self.protocol == "context"
            found = read_original(root, self.modalities, context, self.steps)
            words, path = f"{self.protocol}, last {self.steps} words", root / HUMOR
        else:
            path = find_file(root, self.file, (*FILES, FOLDS), self.name)
            if self.protocol != PROTOCOLS[0]:
                raise MmeqError(
                    f"protocol={self.protocol} needs the authors' pickles ({FOLDS} and others); "
                    f"{path.name} holds sequences made already"
                )
            found = read_features(path, self.modalities)
            words = f"as in {path.name}"
        odd = np.flatnonzero(~np.isin(found.scores, (0, 1)))
        if len(odd):
            raise MmeqError(
                f"{path}: sample {found.ids[odd[0]]!r} has the label {found.scores[odd[0]]:g}, "
                "expected 0 or 1"
            )
        here, notes = counts(found.split), list(found.notes)
        if here not in KNOWN:
            notes[:0] = compare(self.name, "samples", here, KNOWN[sum(here.values()) < 13000])
        labels = found.scores.astype(np.int64)
        size = finish(self.name, found.split, labels, CLASSES, self.train_size, self.split_seed)
        return Listing(
            protocol=f"official folds, {words}, split_seed={self.split_seed}{size}",
            classes=CLASSES,
            ids=found.ids,
            labels=labels,
            split=found.split,
            cells=dict(found.columns),
            groups=found.groups,
            notes=notes,
            present=found.present,
        )


def read_original(root: Path, modalities: Sequence[str], context: bool, steps: int) -> Features:
    """Read the authors' pickles.

    Args:
        root: folder of the files.
        modalities: which ones to read.
        context: the sentences before the last one too.
        steps: words kept of a sample, the last ones.

    Raises:
        MmeqError: names the file and the sample that it lacks.
    """
    folds = load_pickle(root / FOLDS)
    humor = load_pickle(root / HUMOR)
    keys, split = list[Any](), list[str]()
    for fold, part in PARTS.items():
        if not isinstance(folds, Mapping) or fold not in folds:
            raise MmeqError(f"{root / FOLDS} has no list {fold!r}")
        keys += list(folds[fold])
        split += [part] * len(folds[fold])
    ids = [str(key) for key in keys]
    if len(set(ids)) != len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise MmeqError(f"{root / FOLDS}: the id {twice} stands in the folds twice")
    scores = np.array([float(_entry(root / HUMOR, humor, key)) for key in keys])
    out = Features(scores, ids, None, np.array(split, dtype="<U10"))
    for name in modalities:
        path, sequences = _sequences(root, name, keys, context, steps)
        out.columns[name], out.present[name] = _padded(path, name, sequences, steps, ids, out.notes)
    return out


def _sequences(
    root: Path, name: str, keys: Sequence[Any], context: bool, steps: int
) -> tuple[Path, Iterator[np.ndarray]]:
    """Return the file of a modality, and float32 [T, F] of each sample."""
    if name == "text":
        path = next((root / one for one in SPOKEN if (root / one).is_file()), root / SPOKEN[0])
        word, vectors = "embedding_indexes", np.asarray(load_pickle(root / WORDS), np.float32)
    else:
        path, word, vectors = root / SEEN[name], "features", None
    data = load_pickle(path)

    def sequences() -> Iterator[np.ndarray]:
        for key in keys:
            entry = _entry(path, data, key)
            try:
                said = list(entry[f"context_{word}"]) if context else []
                rows = [row for line in [*said, entry[f"punchline_{word}"]] for row in line]
                if vectors is None:
                    yield np.asarray(rows[-steps:], np.float32)
                else:
                    yield vectors[np.asarray(rows[-steps:], np.int64).reshape(-1)]
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise MmeqError(f"{path}: sample {key} cannot be read: {error!r}") from error

    return path, sequences()


def _entry(path: Path, data: Any, key: Any) -> Any:  # noqa: ANN401 - as pickled
    if not isinstance(data, Mapping) or key not in data:
        raise MmeqError(f"{path} has no sample {key}, which {FOLDS} lists")
    return data[key]


def _padded(
    path: Path,
    name: str,
    sequences: Iterator[np.ndarray],
    steps: int,
    ids: Sequence[str],
    notes: list[str],
) -> tuple[SequenceColumn, np.ndarray]:
    """Pad behind; numbers that are not finite become 0."""
    values: np.ndarray | None = None
    length = np.zeros(len(ids), np.int64)
    numbers = samples = 0
    for row, one in enumerate(sequences):
        if not one.size:
            continue
        if values is None and one.ndim == 2:
            values = np.zeros((len(ids), steps, one.shape[1]), np.float32)
        if values is None or one.ndim != 2 or one.shape[1] != values.shape[2]:
            raise MmeqError(f"{path}: sample {ids[row]} has features of shape {one.shape}")
        bad = ~np.isfinite(one)
        numbers, samples = numbers + int(bad.sum()), samples + bool(bad.any())
        values[row, : len(one)] = np.where(bad, 0, one)
        length[row] = len(one) if values[row].any() else 0
    if values is None:
        raise MmeqError(f"{path} has no features at all")
    notes += not_finite(name, numbers, samples) + lacking(name, length > 0, ids)
    return SequenceColumn(torch.from_numpy(values), torch.from_numpy(length)), length > 0
