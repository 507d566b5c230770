"""Samplers whose order depends on (seed, epoch) only, so that a resumed run equals the other.

Shape suffixes: B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

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

    So W ranks with a batch of B see, step by step, what one process with a batch of W·B does.

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
        rank, world = self.place()
        if len(self.rows) < world:
            raise MmeqError(f"{len(self.rows)} training samples are too few for {world} processes")
        return len(self.rows[rank::world])

    def __iter__(self) -> Iterator[int]:
        """Rows of this rank in this epoch."""
        rank, world = self.place()
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        yield from order[rank::world].tolist()


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
    know travels with the rows. A last batch of which a rank would have less than two samples is
    left out of a training epoch, on all ranks: batch statistics of one sample do not exist, and
    another permutation brings those samples back. Else it may be uneven by one sample.
    """

    def __init__(self, sampler: TrainSampler, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.train_sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:  # type: ignore[override]
        """Batches of this rank in this epoch."""
        for rows in islice(super().__iter__(), len(self)):
            yield self.train_sampler.epoch, rows

    def __len__(self) -> int:
        """Batches of an epoch, the same number on all ranks."""
        world, needed = self.train_sampler.place()[1], min(2, self.batch_size)
        len(self.train_sampler)  # enough for all ranks
        full, tail = divmod(len(self.train_sampler.rows), world * self.batch_size)
        last = tail >= world * (needed if full else 1)
        return full + (last and not self.drop_last)


def batch_generator(seed: int, epoch: int, rows: Sequence[int], modality: str) -> torch.Generator:
    """Return the randomness of one modality of one batch: a function of its arguments only."""
    text = f"{seed}|{epoch}|{modality}|".encode() + np.asarray(rows, dtype="<i8").tobytes()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
