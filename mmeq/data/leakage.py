"""Parts that mislead: torn groups, samples that occur in two parts, classes that one lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from mmeq.data.manifest import PARTS, Manifest
from mmeq.errors import MmeqError

NAMED = 10
"""Absent classes that are named; the others are counted."""


def check_leakage(manifest: Manifest) -> list[str]:
    """Look for what lets a test set flatter a model.

    Two samples are identical when all their modalities are, byte for byte.

    Returns:
        Warnings with counts; empty when nothing was found.

    Raises:
        MmeqError: when the protocol promises whole groups and one is in two parts.
    """
    name, found = manifest.spec.name, []
    if manifest.groups is not None:
        torn = _shared(manifest, manifest.groups)
        if torn and manifest.grouped:
            raise MmeqError(
                f"dataset {name!r}: the protocol {manifest.spec.protocol!r} promises whole groups, "
                f"yet {_words(torn, 'groups')}"
            )
        if torn:
            found.append(
                f"dataset {name!r}: {_words(torn, 'groups')}; the parts share near duplicates, "
                "results will flatter"
            )
    same = _shared(manifest, manifest.digests())
    if same:
        found.append(
            f"dataset {name!r}: {_words(same, 'distinct samples')} with identical content in all "
            f"modalities ({', '.join(manifest.spec.names)})"
        )
    return found


def _shared(manifest: Manifest, keys: Sequence[Any]) -> dict[tuple[str, str], list[Any]]:
    """Return the keys that two parts have in common, for each pair of parts."""
    parts: dict[str, set[Any]] = defaultdict(set)
    for part, key in zip(manifest.split.tolist(), keys, strict=True):
        parts[part].add(key)
    pairs = {pair: sorted(parts[pair[0]] & parts[pair[1]]) for pair in combinations(PARTS, 2)}
    return {pair: common for pair, common in pairs.items() if common}


def _words(shared: dict[tuple[str, str], list[Any]], what: str) -> str:
    """Say how many keys each pair of parts shares, with an example where it can be read."""
    out = []
    for (one, other), common in shared.items():
        example = f" (e.g. {common[0]!r})" if isinstance(common[0], str) else ""
        out.append(f"{len(common)} {what} in both {one} and {other}{example}")
    return ", ".join(out)


def check_classes(manifest: Manifest) -> list[str]:
    """Name the classes that a part has no sample of: nothing can be said about them there."""
    found = []
    for part in PARTS:
        seen = set(manifest.labels[manifest.rows(part)].tolist())
        absent = [c for k, c in enumerate(manifest.spec.classes) if k not in seen]
        if absent:
            more = f" and {len(absent) - NAMED} more classes" if len(absent) > NAMED else ""
            found.append(
                f"dataset {manifest.spec.name!r}: the {part} part has no sample of "
                f"{', '.join(map(str, absent[:NAMED]))}{more}; enlarge it "
                "(dataset.fractions or validation, where it has them) or choose another split_seed"
            )
    return found
