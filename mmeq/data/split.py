"""Train, validation and test parts that never mix: stratified, seeded, whole groups in one part.

Shape suffixes: N samples, C classes, G groups, P parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmeq.data.manifest import PARTS, TRAIN, UNUSED, VALIDATION
from mmeq.errors import MmeqError

NAMED = 10
"""Classes that an error names; the others are counted."""
_PARTS_STREAM, _SUBSET_STREAM, _CARVE_STREAM = 0, 1, 2


@dataclass(frozen=True)
class Split:
    """How a dataset is cut; its options are those of every dataset file.

    Attributes:
        seed: another seed, another split.
        fractions: of the train, validation and test parts; they add up to 1.
        train_size: keep so many samples of the train part, stratified; the rest is unused and
            never moved to another part. A smaller size is a subset of a larger one's class by
            class, and validation and test parts do not depend on it. None keeps all.

    Raises:
        MmeqError: when the fractions do not add up or a number makes no sense.
    """

    seed: int = 0
    fractions: tuple[float, ...] = (0.6, 0.2, 0.2)
    train_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no dataset could be cut by."""
        object.__setattr__(self, "fractions", tuple(float(share) for share in self.fractions))
        if len(self.fractions) != len(PARTS) or not all(0 < f < 1 for f in self.fractions):
            raise MmeqError(
                f"fractions={list(self.fractions)}: expected a share between 0 and 1 for each of "
                f"{', '.join(PARTS)}"
            )
        if abs(sum(self.fractions) - 1) > 1e-6:
            raise MmeqError(
                f"fractions={list(self.fractions)} add up to {sum(self.fractions):g}, not to 1"
            )
        if self.seed < 0:
            raise MmeqError(f"split_seed={self.seed}: expected 0 or more")
        if self.train_size is not None and self.train_size < 1:
            raise MmeqError(f"train_size={self.train_size}: expected a positive number or null")

    def describe(self, grouped: bool) -> str:
        """Return the protocol in words; results under two protocols are not comparable."""
        shares = "/".join(f"{100 * share:g}" for share in self.fractions)
        kind = "grouped" if grouped else "stratified"
        size = "" if self.train_size is None else f" train_size={self.train_size}"
        return f"{kind} {shares} split_seed={self.seed}{size}"

    def assign(
        self, labels: np.ndarray, classes: Sequence[str], groups: Sequence[str] | None = None
    ) -> np.ndarray:
        """Cut a dataset.

        Without groups each class is permuted and cut by the fractions (largest remainder; of equal
        ones the train part's, then that of the part which the classes before left furthest behind
        its fraction). With groups, these are visited from large to small (ties in random order) and
        each goes to the part where it lowers Σ_pc (n_pc − d_pc)²/d_pc most, d_pc being the wanted
        number of samples of class c in part p.

        Args:
            labels: int [N].
            classes: C names.
            groups: N names; samples of one group end in one part.

        Returns:
            The part of each sample (numpy unicode [N]).

        Raises:
            MmeqError: when a part is empty, the train part lacks a class, or ``train_size`` does
                not fit.
        """
        labels = np.asarray(labels, dtype=np.int64)
        random = np.random.default_rng([self.seed, _PARTS_STREAM])
        if groups is None:
            parts = self._stratified(labels, len(classes), random)
        else:
            parts = self._grouped(labels, len(classes), groups, random)
        split: np.ndarray = np.array(PARTS)[parts].astype("<U10")
        shrink(split, labels, classes, self.train_size, self.seed)
        check_parts(split, labels, classes)
        return split

    def _stratified(
        self, labels: np.ndarray, count: int, random: np.random.Generator
    ) -> np.ndarray:
        parts = np.zeros(len(labels), dtype=np.int64)
        behind_P = np.zeros(len(PARTS))
        behind_P[PARTS.index(TRAIN)] = np.inf  # a class must not lose it to a tie
        for label in range(count):
            rows = random.permutation(np.flatnonzero(labels == label))
            sizes = apportion(len(rows), self.fractions, behind_P)
            behind_P += len(rows) * np.asarray(self.fractions) - sizes
            parts[rows] = np.repeat(np.arange(len(PARTS)), sizes)
        return parts

    def _grouped(
        self,
        labels: np.ndarray,
        count: int,
        groups: Sequence[str],
        random: np.random.Generator,
    ) -> np.ndarray:
        _, group_N = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        counts_GC = np.zeros((group_N.max(initial=-1) + 1, count))
        np.add.at(counts_GC, (group_N, labels), 1)
        wanted_PC = np.outer(self.fractions, counts_GC.sum(0)).clip(min=1e-9)
        have_PC = np.zeros_like(wanted_PC)
        part_G = np.zeros(len(counts_GC), dtype=np.int64)
        order = random.permutation(len(counts_GC))
        for group in order[np.argsort(-counts_GC.sum(1)[order], kind="stable")]:
            added_C = counts_GC[group]
            cost_P = ((2 * (have_PC - wanted_PC) + added_C) * added_C / wanted_PC).sum(1)
            part_G[group] = np.argmin(cost_P)
            have_PC[part_G[group]] += added_C
        parts_N: np.ndarray = part_G[group_N]
        return parts_N


def shrink(
    split: np.ndarray, labels: np.ndarray, classes: Sequence[str], size: int | None, seed: int
) -> None:
    """Keep so many samples of the train part, stratified, in place; the rest becomes unused.

    Args:
        split: the part of each sample [N].
        labels: int [N].
        classes: C names.
        size: of the train part; None keeps all.
        seed: of the draw; a smaller size is a subset of a larger one's, class by class.

    Raises:
        MmeqError: when the size does not fit.
    """
    if size is None:
        return
    rows = np.flatnonzero(split == TRAIN)
    if size > len(rows):
        raise MmeqError(f"train_size={size}: the train part has only {len(rows)} samples")
    if size < len(classes):
        raise MmeqError(
            f"train_size={size} is smaller than the {len(classes)} classes: each needs a sample"
        )
    available = np.bincount(labels[rows], minlength=len(classes))
    _check_classes(available, classes)
    # One for each class first, so that none is lost; the rest in proportion.
    sizes = 1 + apportion(size - len(classes), available - 1)
    random = np.random.default_rng([seed, _SUBSET_STREAM])
    for label, count in enumerate(sizes):
        mine = random.permutation(rows[labels[rows] == label])
        split[mine[count:]] = UNUSED


def carve(
    split: np.ndarray,
    labels: np.ndarray,
    share: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> None:
    """Make a validation part of a share of the train part, in place; test is never touched.

    For published protocols that have no validation part.

    Args:
        split: the part of each sample [N].
        labels: int [N].
        share: of the train part, 0 < share < 1; stratified by class.
        seed: another seed, another part.
        groups: N names; whole groups go to the validation part.

    Raises:
        MmeqError: when the share makes no sense.
    """
    if not 0 < share < 1:
        raise MmeqError(f"validation={share:g}: give a share of the train part between 0 and 1")
    rows = np.flatnonzero(split == TRAIN)
    cut = Split(seed, (1 - share - 1e-9, share, 1e-9))
    count = int(labels.max(initial=0)) + 1
    random = np.random.default_rng([seed, _CARVE_STREAM])
    if groups is None:
        parts = cut._stratified(labels[rows], count, random)
    else:
        parts = cut._grouped(labels[rows], count, [groups[row] for row in rows], random)
    split[rows[parts == PARTS.index(VALIDATION)]] = VALIDATION


def apportion(
    total: int, shares: Sequence[float] | np.ndarray, behind: np.ndarray | None = None
) -> np.ndarray:
    """Cut a whole number in proportion to shares, by largest remainder; the sum is exact.

    Args:
        total: what is cut.
        shares: of the places.
        behind: which place comes first of those with equal remainders, the largest; None: in order.

    Examples:
        >>> apportion(10, [0.6, 0.2, 0.2]).tolist()
        [6, 2, 2]
        >>> apportion(4, [0.6, 0.2, 0.2]).tolist()
        [2, 1, 1]
        >>> apportion(5, [0.8, 0.1, 0.1], np.array([0, -0.5, 0.5])).tolist()
        [4, 0, 1]
    """
    weights = np.asarray(shares, dtype=np.float64)
    if total == 0:
        return np.zeros(len(weights), dtype=np.int64)
    exact = total * weights / weights.sum()
    # A share such as 0.2·5 must not fall below 1 by rounding.
    sizes: np.ndarray = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - int(sizes.sum())
    first = np.zeros(len(weights)) if behind is None else behind.round(6)
    sizes[np.lexsort((-first, sizes - exact))[:missing]] += 1
    return sizes


def check_parts(split: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Refuse an empty part, and a train part that lacks a class.

    Raises:
        MmeqError: names the part or the classes.
    """
    for part in PARTS:
        if not (split == part).any():
            raise MmeqError(
                f"the {part} part is empty: {len(split)} samples of {len(classes)} classes are too "
                "few for these fractions"
            )
    _check_classes(np.bincount(labels[split == TRAIN], minlength=len(classes)), classes)


def _check_classes(counts: np.ndarray, classes: Sequence[str]) -> None:
    """Refuse a train part that lacks a class."""
    lost = [str(classes[label]) for label in np.flatnonzero(counts == 0).tolist()]
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        raise MmeqError(
            f"no sample of class {', '.join(map(repr, lost[:NAMED]))}{more} in the train part: try "
            "another split_seed or larger train fraction, or leave the class out"
        )
