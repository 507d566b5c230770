"""Pickled word-aligned features of vision, audio and text, as MMSA and MultiBench give them away.

Shape suffixes: N samples, T time, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmeq.data.columns import SequenceColumn
from mmeq.data.manifest import TEST, TRAIN, VALIDATION
from mmeq.data.releases.known import examples
from mmeq.data.releases.padding import chunks, column, known_lengths, spans
from mmeq.data.releases.pickles import load_pickle
from mmeq.errors import MmeqError, did_you_mean

MODALITIES = ("vision", "audio", "text")
PARTS = {"train": TRAIN, "valid": VALIDATION, "test": TEST}
"""Key of the file → part of the manifest."""


@dataclass
class Features:
    """What a file of features holds, in the order train, validation, test.

    Attributes:
        scores: float64 [N], the label as the file has it.
        ids: N names, unique.
        groups: N names of videos, or None when the ids do not tell.
        split: numpy unicode [N].
        columns: modality → sequences, padding last.
        present: modality → bool [N]; False where a sample is zeros all through.
        notes: numbers that were not finite, samples without a modality, ids that were repeated.
    """

    scores: np.ndarray
    ids: list[str]
    groups: list[str] | None
    split: np.ndarray
    columns: dict[str, SequenceColumn] = field(default_factory=dict)
    present: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def counts(split: np.ndarray) -> dict[str, int]:
    """Return part → how many samples it has."""
    return {part: int((split == part).sum()) for part in PARTS.values()}


def find_file(root: Path, file: str | None, names: Sequence[str], dataset: str) -> Path:
    """Return the file of features: `file` (relative to the root or not), else the first of `names`.

    Raises:
        MmeqError: when there is none; says what was looked for.
    """
    if file is not None:
        path = root / file
        if not path.is_file():
            near = did_you_mean(file, [one.name for one in root.glob("*.pkl")])
            raise MmeqError(f"file={file}: there is no file {path}{near}")
        return path
    for name in names:
        if (root / name).is_file():
            return root / name
    raise MmeqError(
        f"data_root={root} is no release of {dataset}: it has none of {', '.join(names)}; give "
        "dataset.file=<name> for another"
    )


def read_features(path: Path, modalities: Sequence[str]) -> Features:
    """Read a file of features.

    The layout is a dict of ``train``, ``valid``, ``test``, each a dict of ``vision``, ``audio``,
    ``text`` (float [N, T, F]), ``labels`` (MultiBench, [N, 1, 1] or [N, 1]) or
    ``regression_labels`` (MMSA, [N]), and ``id``.

    Where a sample begins and ends [established from the released loaders]:

    - MMSA's files pad at the end. ``audio_lengths`` and ``vision_lengths`` are taken where the file
      has them (the unaligned one). ``text_bert`` [N, 3, T] has the mask of the tokens in its second
      row: it gives the length of text, and of all three where they share T.
    - MultiBench's files pad in front, since its loader cuts off what comes before the first word.
      Without lengths and mask, zeros at both ends are cut off: in all modalities at once where they
      share T (a step counts when any has something in it), else in each by itself.

    Numbers that are not finite become 0, as in the released loaders (MMSA, MulT and MultiBench do
    so with the −inf that COVAREP gives in audio) [NaN and the other modalities: ours]; a note
    counts them. A sample whose modality is zeros all through lacks it (no face was seen, no word
    has a vector); MultiBench leaves out those without text.

    Args:
        path: of the file.
        modalities: which ones to keep; all three are looked at.

    Raises:
        MmeqError: names the file, and the part and key that is missing or has another shape.
    """
    data = load_pickle(path)
    parts = {key: _part(path, data, key) for key in PARTS}
    del data
    scores = [_scores(path, key, part) for key, part in parts.items()]
    sizes = [len(one) for one in scores]
    raw = [_ids(path, key, part, n) for (key, part), n in zip(parts.items(), sizes, strict=True)]
    ids, groups, repeated = _names([one for rows in raw for one in rows])
    out = Features(
        np.concatenate(scores), ids, groups, np.repeat(list(PARTS.values()), sizes).astype("<U10")
    )
    bad = ~np.isfinite(out.scores)
    if bad.any():
        raise MmeqError(f"{path}: the label of sample {ids[int(bad.argmax())]!r} is no number")
    if repeated:
        out.notes.append(
            f"{path.name}: {len(repeated)} ids occur more than once and are numbered: "
            f"{examples(repeated)}"
        )
    lengths = known_lengths(path, parts, sizes)
    values = {name: _stack(path, parts, name, sizes, out.notes) for name in MODALITIES}
    found = spans(values, lengths)
    for name in modalities:
        start_N, length_N = found[name]
        out.columns[name], out.present[name] = column(values.pop(name), start_N, length_N)
        out.notes += lacking(name, out.present[name], ids)
    return out


def _part(path: Path, data: Any, key: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(data, Mapping):
        raise MmeqError(f"{path} holds a {type(data).__name__}, expected a dict of {list(PARTS)}")
    part = data.get(key, data.get("dev") if key == "valid" else None)
    if not isinstance(part, Mapping):
        raise MmeqError(f"{path} has no part {key!r} (it has {list(map(str, data))})")
    return dict(part)


def _scores(path: Path, key: str, part: Mapping[str, Any]) -> np.ndarray:
    for name in ("regression_labels", "labels"):
        if name in part:
            try:
                values = np.asarray(part[name], dtype=np.float64)
            except (ValueError, TypeError) as error:
                raise MmeqError(f"{path}: {key!r} has {name!r} that are no numbers") from error
            if values.ndim < 1 or values.size != len(values):
                raise MmeqError(
                    f"{path}: {name!r} of {key!r} has shape {values.shape}, expected one score a "
                    "sample"
                )
            return values.reshape(-1)
    raise MmeqError(f"{path}: {key!r} has neither 'regression_labels' nor 'labels'")


def _ids(path: Path, key: str, part: Mapping[str, Any], count: int) -> list[Any]:
    if "id" not in part:
        raise MmeqError(f"{path}: {key!r} has no 'id' (it has {list(map(str, part))})")
    if len(part["id"]) != count:
        raise MmeqError(f"{path}: {key!r} has {len(part['id'])} ids for {count} labels")
    return list(part["id"])


def _names(rows: list[Any]) -> tuple[list[str], list[str] | None, list[str]]:
    """Return unique names, the videos they belong to, and the names that were repeated.

    Ids are ``video$_$clip`` (MMSA), ``video[clip]`` or [video, start, end] (MultiBench, MulT), or
    a number (UR-FUNNY), which tells no video.
    """
    names, groups, seen, repeated = list[str](), list[str | None](), dict[str, int](), list[str]()
    for row in rows:
        cells = [
            one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
            for one in np.asarray(row, dtype=object).reshape(-1).tolist()
        ]
        name = "_".join(cells)
        video: str | None = cells[0]
        if len(cells) == 1:
            mark = next((mark for mark in ("$_$", "[") if mark in name), None)
            video = None if mark is None else name.split(mark)[0]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            repeated += [name] if seen[name] == 2 else []
            name = f"{name}#{seen[name]}"
        names.append(name)
        groups.append(video)
    known = [video for video in groups if video is not None]
    return names, known if len(known) == len(names) else None, repeated


def _stack(
    path: Path,
    parts: Mapping[str, dict[str, Any]],
    name: str,
    sizes: Sequence[int],
    notes: list[str],
) -> np.ndarray:
    """Take a modality out of the parts: float32 [N, T, F], finite."""
    arrays = []
    for (key, part), count in zip(parts.items(), sizes, strict=True):
        if name not in part:
            raise MmeqError(f"{path}: {key!r} has no {name!r} (it has {list(map(str, part))})")
        try:
            array = np.asarray(part.pop(name))
        except ValueError as error:
            raise MmeqError(f"{path}: {name!r} of {key!r} has rows of several lengths") from error
        if array.ndim != 3 or array.dtype.hasobject or len(array) != count:
            raise MmeqError(
                f"{path}: {name!r} of {key!r} has shape {array.shape} and type {array.dtype}, "
                f"expected numbers [{count}, T, F]"
            )
        arrays.append(array)
    widths = {array.shape[2] for array in arrays}
    if len(widths) > 1:
        raise MmeqError(f"{path}: {name!r} has {sorted(widths)} features in different parts")
    steps = max(array.shape[1] for array in arrays)
    out = np.zeros((sum(sizes), steps, widths.pop()), np.float32)
    first = 0
    while arrays:
        array = arrays.pop(0)
        out[first : first + len(array), : array.shape[1]] = array
        first += len(array)
    numbers = samples = 0
    for rows in chunks(len(out)):
        bad = ~np.isfinite(out[rows])
        numbers, samples = numbers + int(bad.sum()), samples + int(bad.any((1, 2)).sum())
        out[rows][bad] = 0
    notes += not_finite(name, numbers, samples)
    return out


def not_finite(name: str, numbers: int, samples: int) -> list[str]:
    """Say how many numbers of a modality were replaced."""
    if not numbers:
        return []
    return [
        f"modality {name!r}: {numbers:,} numbers in {samples:,} samples are NaN or infinite and "
        "were set to 0, as the released loaders do"
    ]


def lacking(name: str, present_N: np.ndarray, ids: Sequence[str]) -> list[str]:
    """Say which samples have zeros in place of a modality."""
    absent = np.flatnonzero(~present_N).tolist()
    if not absent:
        return []
    return [
        f"modality {name!r}: {len(absent)} samples are zeros all through and lack it: "
        f"{examples(ids[row] for row in absent)}"
    ]
