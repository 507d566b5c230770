"""The manifest: every sample of a dataset, its part, its group, and one column a modality.

Shape suffixes: N samples, M modalities, B batch, F features, T time, H height, W width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmeq.data.columns import Column
from mmeq.data.spec import UNUSED as UNUSED
from mmeq.data.spec import DatasetSpec
from mmeq.errors import MmeqError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class Manifest:
    """Every sample of a dataset.

    Attributes:
        spec: what the dataset is made of.
        ids: N names, unique.
        labels: int64 [N], positions in ``spec.classes``.
        split: N of train, validation, test and unused (numpy unicode).
        columns: modality → column; its raw batch is by kind: vector float32 [B, F]; sequence
            ``{"values": float32 [B, T, F], "length": int64 [B]}``; image uint8 [B, 3, H, W];
            text list[str]; audio float32 [B, samples] or [B, F, T]; video uint8 [B, T, 3, H, W]
            (flow: 2 channels).
        present: bool [N, M] in the order of ``spec.modalities``.
        groups: N names of what belongs together (a person, a scene), or None.
        grouped: the protocol promises that no group has samples in two parts.
        notes: what the user shall know of the data: files that are missing, broken, not prepared.
    """

    spec: DatasetSpec
    ids: list[str]
    labels: Tensor
    split: np.ndarray
    columns: dict[str, Column]
    present: Tensor
    groups: list[str] | None = None
    grouped: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.ids)

    def rows(self, part: str) -> Tensor:
        """Return the rows int64 of one part, ascending."""
        return torch.from_numpy(np.flatnonzero(self.split == part))

    def check(self) -> None:
        """Compare the parts of the manifest with each other, and its numbers with sense.

        Raises:
            MmeqError: names the sample and modality that hold NaN or an infinity, a repeated id,
                a column of the wrong length, a label outside the classes, or a sample with no
                modality at all.
        """
        name, count, classes = self.spec.name, len(self), len(self.spec.classes)
        lengths = {"labels": len(self.labels), "split": len(self.split)}
        lengths |= {modality: len(column) for modality, column in self.columns.items()}
        lengths |= {} if self.groups is None else {"groups": len(self.groups)}
        for what, length in lengths.items():
            if length != count:
                raise MmeqError(f"dataset {name!r}: {what} has {length} rows for {count} samples")
        if tuple(self.columns) != self.spec.names:
            raise MmeqError(
                f"dataset {name!r}: columns {list(self.columns)}, expected {list(self.spec.names)}"
            )
        if tuple(self.present.shape) != (count, len(self.spec.names)):
            raise MmeqError(f"dataset {name!r}: present has shape {tuple(self.present.shape)}")
        if len(set(self.ids)) != count:
            repeated = next(one for one in self.ids if self.ids.count(one) > 1)
            raise MmeqError(f"dataset {name!r}: the id {repeated!r} occurs more than once")
        wrong = (self.labels < 0) | (self.labels >= classes)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise MmeqError(
                f"dataset {name!r}: sample {self.ids[row]!r} has the label "
                f"{int(self.labels[row])}, expected 0 to {classes - 1}"
            )
        if self.spec.complete != bool(self.present.all()):
            raise MmeqError(
                f"dataset {name!r}: spec.complete={self.spec.complete}, present differs"
            )
        empty = ~self.present.any(1)
        if empty.any():
            one = self.ids[int(empty.nonzero()[0])]
            raise MmeqError(f"dataset {name!r}: sample {one!r} has no modality at all")
        for m, (modality, column) in enumerate(self.columns.items()):
            bad = ~column.finite() & self.present[:, m]
            if bad.any():
                rows = bad.nonzero().flatten().tolist()
                more = f" (and {len(rows) - 1} more samples)" if len(rows) > 1 else ""
                raise MmeqError(
                    f"dataset {name!r}: sample {self.ids[rows[0]]!r} holds NaN or an infinity in "
                    f"modality {modality!r}{more}"
                )

    def fingerprints(self) -> dict[str, str]:
        """Return part → one hash over its samples' ids and labels, whatever their order."""
        labels = self.labels.tolist()
        out = {}
        for part in PARTS:
            digest = hashlib.blake2b(digest_size=16)
            for one in sorted((self.ids[row], labels[row]) for row in self.rows(part).tolist()):
                digest.update(f"{one!r}\n".encode("utf-8", "surrogatepass"))
            out[part] = digest.hexdigest()
        return out

    def digests(self) -> list[bytes]:
        """Return one hash a sample over its content in all present modalities."""
        out = []
        for row, here in enumerate(self.present.tolist()):
            digest = hashlib.blake2b(digest_size=16)
            for column, present in zip(self.columns.values(), here, strict=True):
                item = column.content(row) if present else b""
                digest.update(b"%d:%d:" % (present, len(item)) + item)
            out.append(digest.digest())
        return out
