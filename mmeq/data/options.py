"""Options that every dataset file shares: which modalities, and how to build a full manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mmeq.data.columns import Column
from mmeq.data.manifest import Manifest
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.data.split import Split
from mmeq.errors import MmeqError, did_you_mean


def choose(dataset: str, wanted: Sequence[str] | None, available: Sequence[str]) -> tuple[str, ...]:
    """Check the option ``modalities``: any subset, in any order; None takes all.

    Raises:
        MmeqError: for an unknown, repeated or missing name.

    Examples:
        >>> choose("mfeat", ["zer", "fou"], ["fou", "fac", "zer"])
        ('zer', 'fou')
    """
    if wanted is None:
        return tuple(available)
    if isinstance(wanted, str):
        raise MmeqError(f"modalities={wanted}: expected a list, e.g. modalities=[{wanted}]")
    names = tuple(str(name) for name in wanted)
    if not names:
        raise MmeqError(f"modalities=[]: choose at least one of {', '.join(available)}")
    for name in names:
        if name not in available:
            raise MmeqError(
                f"dataset {dataset!r} has no modality {name!r}" + did_you_mean(name, available)
            )
        if names.count(name) > 1:
            raise MmeqError(f"modality {name!r} is given twice in modalities=[{', '.join(names)}]")
    return names


def complete_manifest(
    name: str,
    classes: Sequence[str],
    modalities: Sequence[Modality],
    columns: Mapping[str, Column],
    ids: list[str],
    labels: np.ndarray,
    split: Split,
    groups: list[str] | None = None,
    grouped: bool = False,
) -> Manifest:
    """Cut a dataset in which no sample lacks a modality, and return its manifest.

    Args:
        name: of the dataset.
        classes: names in the order of the labels.
        modalities: in the order of every M axis.
        columns: one a modality.
        ids: N names.
        labels: integers [N].
        split: how to cut.
        groups: N names of what belongs together.
        grouped: cut by whole groups.
    """
    protocol = split.describe(grouped)
    return Manifest(
        spec=DatasetSpec(name, protocol, tuple(classes), tuple(modalities), complete=True),
        ids=ids,
        labels=torch.from_numpy(np.asarray(labels, dtype=np.int64)),
        split=split.assign(labels, classes, groups if grouped else None),
        columns=dict(columns),
        present=torch.ones(len(ids), len(modalities), dtype=torch.bool),
        groups=groups,
        grouped=grouped,
    )


def one_of(option: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value of an option that is none of those allowed.

    Raises:
        MmeqError: names option, value and the nearest valid one.
    """
    if value not in allowed:
        hint = did_you_mean(str(value), [str(one) for one in allowed])
        raise MmeqError(f"{option}={value}: there is none such{hint}")
