"""A column of features of a frozen encoder, given from mapped memory; see `feature_cache`.

Shape suffixes: N samples, B batch, H width of the features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmeq.data.media.shards import map_shard
from mmeq.errors import MmeqError

ABSENT, UNUSED = -1, -2


@dataclass(frozen=True, eq=False)
class FeatureColumn:
    """Features of one modality in mapped shards; a batch is a copy out of them.

    Attributes:
        shards: their files.
        shard: int32 [N], position in `shards`.
        row: int32 [N], within the shard; `ABSENT` where the sample lacks the modality, `UNUSED`
            where no part of the data has the sample, so that nothing was computed.
        width: H.
    """

    shards: tuple[Path, ...]
    shard: np.ndarray
    row: np.ndarray
    width: int
    _maps: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """N."""
        return len(self.row)

    def batch(self, rows_B: Tensor) -> dict[str, Tensor]:
        """``{"features": float32 [B, H]}``, zeros where absent.

        Raises:
            MmeqError: for an unused sample, and for a cache that was taken away.
        """
        rows = rows_B.numpy()
        shard_B, row_B = self.shard[rows], self.row[rows]
        if (row_B == UNUSED).any():
            raise MmeqError("no features were computed of samples that no part of the data has")
        first = int(shard_B[0]) if len(rows) else 0
        if (shard_B == first).all() and (row_B >= 0).all():
            return {"features": torch.from_numpy(self._mapped(first)[row_B])}
        out_BH = np.zeros((len(rows), self.width), dtype=np.float32)
        # one by one: cheaper than to sort a batch by the shards, of which there are many
        for out_H, number, row in zip(out_BH, shard_B.tolist(), row_B.tolist(), strict=True):
            if row >= 0:
                out_H[:] = self._mapped(number)[row]
        return {"features": torch.from_numpy(out_BH)}

    def finite(self) -> Tensor:
        """They are: others are refused when they are computed."""
        return torch.ones(len(self), dtype=torch.bool)

    def masked(self, present_N: Tensor) -> FeatureColumn:
        """Zeros where absent."""
        return replace(self, row=np.where(present_N.numpy(), self.row, ABSENT))

    def take(self, rows: Tensor) -> FeatureColumn:
        """These rows alone."""
        kept = rows.numpy()
        return replace(self, shard=self.shard[kept], row=self.row[kept])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (H,)."""
        return (self.width,)

    def content(self, row: int) -> bytes:
        """The features' bytes."""
        return self.batch(torch.tensor([row]))["features"].numpy().tobytes()

    def _mapped(self, number: int) -> np.ndarray:
        """Float32 [n, H] of a shard."""
        found = self._maps.get(number)
        if found is None:
            found = self._maps[number] = _features_of(self.shards[number], self.width)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is mapped: another process maps the files itself."""
        return {**self.__dict__, "_maps": {}}


def width_of(path: Path) -> int:
    """H of a shard's features."""
    return int(_map(path).shapes[0].as_py()[0])


def _features_of(path: Path, width: int) -> np.ndarray:
    """Float32 [n, H], a view into the mapped file."""
    mapped = _map(path)
    size = 4 * width
    count = len(mapped.offsets) - 1
    if not np.array_equal(mapped.offsets, np.arange(count + 1, dtype=np.int64) * size):
        raise MmeqError(f"{path} holds features of another width than {width}: remove the file")
    view: np.ndarray = mapped.data[: count * size].view("<f4").reshape(count, width)
    return view


def _map(path: Path) -> Any:  # noqa: ANN401 - shards.Mapped
    try:
        return map_shard(path)
    except MmeqError as error:
        raise MmeqError(
            f"{path} can no longer be read: start the run again, it computes the features anew"
        ) from error
