"""What is in a dataset as plain data: counts, gaps, lengths, groups, duplicates, what misleads.

Shape suffixes: N samples, M modalities, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmeq.data.columns import Column, SequenceColumn, TextColumn
from mmeq.data.leakage import check_classes, check_leakage
from mmeq.data.manifest import PARTS, UNUSED, Manifest
from mmeq.data.media.column import MediaColumn
from mmeq.errors import MmeqError

QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
EXAMPLES = 3
"""Sets of identical samples that are named, and names of each."""
OPENED = 500
"""Image files of a modality whose size is read."""
_SIZES_STREAM = 1


@dataclass(frozen=True)
class Measure:
    """Lengths of one modality's samples.

    Attributes:
        modality: its name.
        what: seconds, words, characters, steps, width or height.
        values: float64 [n] of the used samples that have the modality, unknown ones left out.
        of: so many samples have the modality; more than n where lengths are unknown or drawn.
        in_batch: so much of each stands in a batch, in the same unit; None: all.
    """

    modality: str
    what: str
    values: np.ndarray
    of: int
    in_batch: float | None = None

    def summary(self) -> dict[str, Any]:
        """Plain types: the quantiles by name."""
        quantiles = np.quantile(self.values, list(QUANTILES.values()))
        return {
            "modality": self.modality,
            "what": self.what,
            "known": len(self.values),
            "of": self.of,
            "in_batch": self.in_batch,
            **dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
        }


def examine(manifest: Manifest, measures: Sequence[Measure]) -> dict[str, Any]:
    """Return all numbers of ``inspect.json`` but the drawn samples.

    Args:
        manifest: checked, as a dataset's ``load`` returns it.
        measures: of `measure`.

    Returns:
        Plain types: dataset, samples, parts, modalities, patterns, classes, balance, groups,
        lengths, duplicates, notes and warnings.
    """
    parts = _parts(manifest)
    try:
        torn = check_leakage(manifest)
    except MmeqError as error:  # the rest is worth seeing all the more
        torn = [str(error)]
    return {
        "dataset": manifest.spec.as_dict(),
        "samples": len(manifest),
        "parts": {part: len(manifest.rows(part)) for part in parts},
        "modalities": _modalities(manifest, parts),
        "patterns": _patterns(manifest),
        "classes": _classes(manifest, parts),
        "balance": _balance(manifest),
        "groups": _groups(manifest, parts),
        "lengths": [measure.summary() for measure in measures],
        "duplicates": _duplicates(manifest),
        "notes": list(manifest.notes),
        "warnings": [*torn, *check_classes(manifest)],
    }


def _parts(manifest: Manifest) -> list[str]:
    """The three parts, and the samples that none of them uses where there are any."""
    return [*PARTS, *([UNUSED] if (manifest.split == UNUSED).any() else [])]


def _modalities(manifest: Manifest, parts: list[str]) -> list[dict[str, Any]]:
    out = []
    for m, modality in enumerate(manifest.spec.modalities):
        here = {part: int(manifest.present[manifest.rows(part), m].sum()) for part in parts}
        gone = {part: len(manifest.rows(part)) - count for part, count in here.items()}
        out.append(
            {
                "name": modality.name,
                "kind": modality.kind,
                "shape": list(modality.shape),
                "augmented": modality.augmented,
                "present": here,
                "missing": gone,
            }
        )
    return out


def _patterns(manifest: Manifest) -> dict[str, int]:
    """Samples by the modalities that they have, the most frequent first."""
    names = manifest.spec.names
    found = Counter(
        "+".join(name for name, here in zip(names, row, strict=True) if here)
        for row in manifest.present.tolist()
    )
    return dict(found.most_common())


def _classes(manifest: Manifest, parts: list[str]) -> list[dict[str, Any]]:
    labels, classes = manifest.labels.numpy(), manifest.spec.classes
    counts = {
        part: np.bincount(labels[manifest.split == part], minlength=len(classes)) for part in parts
    }
    return [
        {
            "name": str(name),
            **{part: int(counts[part][k]) for part in parts},
            "total": int(sum(count[k] for count in counts.values())),
        }
        for k, name in enumerate(classes)
    ]


def _balance(manifest: Manifest) -> dict[str, Any]:
    """The largest and the smallest class of each part that has samples, and their ratio."""
    out = {}
    for part in PARTS:
        labels = manifest.labels[manifest.rows(part)].numpy()
        if not len(labels):
            continue
        count_C = np.bincount(labels, minlength=len(manifest.spec.classes))
        most = int(count_C.argmax())
        least = int(np.where(count_C > 0, count_C, len(labels) + 1).argmin())
        out[part] = {
            "largest": str(manifest.spec.classes[most]),
            "smallest": str(manifest.spec.classes[least]),
            "ratio": float(count_C[most] / count_C[least]),
            "largest_share": float(count_C[most] / len(labels)),
            "empty": int((count_C == 0).sum()),
        }
    return out


def _groups(manifest: Manifest, parts: list[str]) -> dict[str, Any] | None:
    if manifest.groups is None:
        return None
    groups = np.asarray(manifest.groups, dtype=object)
    seen = {part: set(groups[manifest.split == part].tolist()) for part in parts}
    name, size = Counter(manifest.groups).most_common(1)[0]
    inside = [seen[part] for part in PARTS]
    return {
        "count": len(set(manifest.groups)),
        "parts": {part: len(names) for part, names in seen.items()},
        "in_several_parts": sum(sum(g in part for part in inside) > 1 for g in set.union(*inside)),
        "largest": str(name),
        "largest_size": size,
        "promised_whole": manifest.grouped,
    }


def _duplicates(manifest: Manifest) -> dict[str, Any]:
    """Samples with the same content as another one: in all modalities, and in each alone."""
    ids = np.asarray(manifest.ids, dtype=object)
    whole = _same(list(enumerate(manifest.digests())))
    alone = {}
    for m, (name, column) in enumerate(manifest.columns.items()):
        rows = manifest.present[:, m].nonzero().flatten().tolist()
        alone[name] = sum(map(len, _same([(row, column.content(row)) for row in rows])))
    return {
        "samples": sum(map(len, whole)),
        "sets": len(whole),
        "examples": [ids[rows[:EXAMPLES]].tolist() for rows in whole[:EXAMPLES]],
        "modalities": alone,
    }


def _same(keys: Sequence[tuple[int, Hashable]]) -> list[list[int]]:
    """Sets of at least two rows that have one key, the largest first."""
    found: dict[Hashable, list[int]] = {}
    for row, key in keys:
        found.setdefault(key, []).append(row)
    return sorted((rows for rows in found.values() if len(rows) > 1), key=len, reverse=True)


def measure(manifest: Manifest, seed: int = 0) -> list[Measure]:
    """Measure what has a length: seconds, words and characters, steps, width and height.

    Args:
        manifest: any.
        seed: of the draw of image files that are opened for their size.
    """
    used_N = manifest.split != UNUSED
    out = []
    for m, modality in enumerate(manifest.spec.modalities):
        column = manifest.columns[modality.name]
        rows = np.flatnonzero(used_N & manifest.present[:, m].numpy())
        limit = getattr(getattr(column, "format", None), "seconds", None)
        for what, values in _measured(column, modality.kind, rows, seed).items():
            known = values[np.isfinite(values)]
            if len(known):
                most = float(limit) if what == "seconds" and limit is not None else None
                out.append(Measure(modality.name, what, known, len(rows), most))
    return out


def _measured(column: Column, kind: str, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    if isinstance(column, TextColumn):
        texts = [column.texts[row] for row in rows]
        return {
            "words": np.asarray([len(text.split()) for text in texts], dtype=float),
            "characters": np.asarray([len(text) for text in texts], dtype=float),
        }
    if isinstance(column, SequenceColumn):
        return {"steps": column.length.numpy()[rows].astype(float)}
    if isinstance(column, MediaColumn):
        if kind == "image":
            drawn = np.random.default_rng([seed, _SIZES_STREAM]).permutation(rows)[:OPENED]
            sizes = np.asarray([_size(column, row) for row in drawn], dtype=float).reshape(-1, 2)
            return {"width": sizes[:, 0], "height": sizes[:, 1]}
        known = column.seconds or [float("nan")] * len(column)
        return {"seconds": np.asarray(known, dtype=float)[rows]}
    return {}


def _size(column: MediaColumn, row: int) -> tuple[float, float]:
    """Width and height of an image file, from its header; NaN where it has none."""
    from PIL import Image

    clip = column.clips[row]
    try:
        with Image.open(clip.path if clip is not None else "") as image:
            return float(image.width), float(image.height)
    except (OSError, ValueError):
        return float("nan"), float("nan")
