"""Official releases: what they are known to hold, and the parts that their protocols lack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmeq.data.manifest import TEST, TRAIN, VALIDATION
from mmeq.data.media.dataset import EXAMPLES
from mmeq.data.split import Split, carve, check_parts, shrink
from mmeq.errors import MmeqError


def examples(names: Iterable[str], most: int = EXAMPLES) -> str:
    """Return the first names, and a sign where there are more.

    Examples:
        >>> examples(["a", "b", "c", "d"])
        'a, b, c …'
    """
    names = list(names)
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def compare(
    dataset: str,
    what: str,
    found: Mapping[str, int],
    known: Mapping[str, int],
    lost: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Say in which counts a copy differs from the official release.

    Args:
        dataset: its name.
        what: is counted, in the plural.
        found: name → number in this copy; a missing name is 0.
        known: name → number in the official release.
        lost: what is known to be missing by name: kind → names; told with the first examples.

    Returns:
        One note, or none where all counts are the known ones.

    Examples:
        >>> compare("toy", "clips", {"all": 3}, {"all": 4}, {"files": ["b.wav"]})
        ["dataset 'toy': 3 clips where the official release has 4; missing files: b.wav"]
        >>> compare("toy", "clips", {"a": 4, "b": 1}, {"a": 4, "b": 2})
        ["dataset 'toy': clips differ from the official release: 1 b (official: 2)"]
        >>> compare("toy", "clips", {"a": 4}, {"a": 4})
        []
    """
    wrong = [name for name in known if found.get(name, 0) != known[name]]
    if not wrong:
        return []
    if list(known) == ["all"]:
        text = f"{found.get('all', 0):,} {what} where the official release has {known['all']:,}"
    else:
        counts = [f"{found.get(name, 0):,} {name} (official: {known[name]:,})" for name in wrong]
        text = f"{what} differ from the official release: {', '.join(counts)}"
    for kind, names in (lost or {}).items():
        if names:
            text += f"; missing {kind}: {examples(names)}"
    return [f"dataset {dataset!r}: {text}"]


@dataclass(frozen=True)
class Carving:
    """Options of a published protocol that has a train and a test part alone.

    Attributes:
        validation: share of the train part that becomes the validation part; stratified.
        grouped: whole groups go to the validation part.
        seed: of both draws.
        train_size: so many training samples, stratified; None keeps all.

    Raises:
        MmeqError: when a number makes no sense.
    """

    validation: float
    grouped: bool
    seed: int
    train_size: int | None

    def __post_init__(self) -> None:
        """Refuse what could not be carved, before any data is read."""
        if not 0 < self.validation < 1:
            raise MmeqError(
                f"validation={self.validation:g}: give a share of the train part between 0 and 1"
            )
        Split(seed=self.seed, train_size=self.train_size)

    def apply(
        self,
        split: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        groups: Sequence[str] | None,
    ) -> None:
        """Make the validation part and shorten the train part, in place; test is never touched.

        Args:
            split: the part of each sample [N].
            labels: int [N].
            classes: C names.
            groups: N names, used if `grouped`.

        Raises:
            MmeqError: when a part is empty, the train part lacks a class, or `train_size` does
                not fit.
        """
        for part in (TRAIN, TEST):
            if not (split == part).any():
                raise MmeqError(f"the {part} part is empty: the release has no sample for it")
        size = int((split == TRAIN).sum())
        carve(split, labels, self.validation, self.seed, groups if self.grouped else None)
        for part, change in ((VALIDATION, "larger"), (TRAIN, "smaller")):
            if not (split == part).any():
                raise MmeqError(
                    f"validation={self.validation:g} of {size} training samples leaves none for "
                    f"{part}: give a {change} share"
                )
        shrink(split, labels, classes, self.train_size, self.seed)
        check_parts(split, labels, classes)

    def describe(self, protocol: str) -> str:
        """Return the protocol in words, with all that the parts depend on."""
        kind = "whole groups" if self.grouped else "stratified"
        size = "" if self.train_size is None else f" train_size={self.train_size}"
        return (
            f"{protocol}; validation {100 * self.validation:g} % carved from train ({kind}) "
            f"split_seed={self.seed}{size}"
        )
