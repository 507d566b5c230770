"""Samplers whose order depends on (seed, epoch) only, so that a resumed run equals the other.

Shape suffixes: B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import distributed
from torch.utils.data import BatchSampler, Sampler

from mmeq.errors import MmeqError


class _Ranked(Sampler[int]):
    """Rows, and the place of this process among the others."""

    def __init__(
        self, rows: Sequence[int] | np.ndarray, rank: int | None = None, world: int | None = None
    ) -> None:
        self.rows = np.asarray(rows, dtype=np.int64)
        self._rank, self._world = rank, world

    def place(self) -> tuple[int, int]:
        """(rank, processes): as given, else asked of torch.distributed at each use.

        The process group may come up after the sampler was made.
        """
        if self._rank is not None and self._world is not None:
            return self._rank, self._world
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1


class TrainSampler(_Ranked):
    """A permutation by (seed, epoch); rank r takes the places r, r + W, … of it.

    The tail that does not divide by the number W of processes is dropped, so that every rank makes
    the same number of steps.

    Args:
        rows: of the manifest.
        seed: of the run.
        rank: of this process; asked of torch.distributed when None.
        world: number of processes; likewise.
    """

    def __init__(
        self,
        rows: Sequence[int] | np.ndarray,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        super().__init__(rows, rank, world)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of this rank in an epoch."""
        world = self.place()[1]
        if len(self.rows) < world:
            raise MmeqError(f"{len(self.rows)} training samples are too few for {world} processes")
        return len(self.rows) // world

    def __iter__(self) -> Iterator[int]:
        """Rows of this rank in this epoch."""
        rank, world = self.place()
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        yield from order[rank::world][: len(self)].tolist()


class EvaluationSampler(_Ranked):
    """The rows in order; rank r takes the places r, r + W, … with no row repeated or left out."""

    def __len__(self) -> int:
        """Samples of this rank."""
        rank, world = self.place()
        return len(self.rows[rank::world])

    def __iter__(self) -> Iterator[int]:
        """Rows of this rank."""
        rank, world = self.place()
        yield from self.rows[rank::world].tolist()


class EpochBatches(BatchSampler):
    """Batches that carry their epoch: ``(epoch, rows)``.

    Persistent workers keep their copy of the dataset over all epochs, so what augmentation must
    know travels with the rows. A last batch of one sample is left out of a training epoch: batch
    statistics of one sample do not exist, and another permutation brings that sample back.
    """

    def __init__(self, sampler: TrainSampler, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.train_sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:  # type: ignore[override]
        """Batches of this rank in this epoch."""
        epoch = self.train_sampler.epoch
        for rows in super().__iter__():
            if not self._lone(len(rows)):
                yield epoch, rows

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        tail = len(self.train_sampler) % self.batch_size
        return super().__len__() - (self._lone(tail) and not self.drop_last)

    def _lone(self, size: int) -> bool:
        """Tell whether a batch of this size is a tail of one sample that others precede."""
        return size == 1 < self.batch_size and len(self.train_sampler) > 1


def batch_generator(seed: int, epoch: int, rows: Sequence[int], modality: str) -> torch.Generator:
    """Return the randomness of one modality of one batch: a function of its arguments only."""
    text = f"{seed}|{epoch}|{modality}|".encode() + np.asarray(rows, dtype="<i8").tobytes()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
