"""The Lightning data module: a manifest, whole batches by index, standardisation, transforms.

Shape suffixes: N samples, M modalities, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.data import Dataset as TorchDataset

from mmeq.data.columns import SequenceColumn, Statistics, VectorColumn
from mmeq.data.features import FeatureColumn
from mmeq.data.leakage import check_classes, check_leakage
from mmeq.data.manifest import PARTS, TRAIN, Manifest
from mmeq.data.media.column import MediaColumn
from mmeq.data.missing import Rates, describe, draw_kept, hide, rates_by_part
from mmeq.data.sampler import EpochBatches, EvaluationSampler, TrainSampler, batch_generator
from mmeq.data.spec import DatasetSpec
from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.missing import rates_by_name

Transform = Callable[[Any, bool, torch.Generator], Any]


class Dataset(Protocol):
    """A dataset file's class: cheap to make, read by `load`."""

    def load(self) -> Manifest:
        """Read the data."""


class Batches(TorchDataset[dict[str, Any]]):
    """Gives whole batches of a manifest's rows; see `DataModule` for their form."""

    def __init__(
        self,
        manifest: Manifest,
        transforms: Mapping[str, Transform],
        training: bool,
        seed: int,
        dropout: tuple[float, ...] = (),
    ) -> None:
        self.manifest, self.transforms = manifest, dict(transforms)
        self.training, self.seed = training, seed
        self.dropout_M = torch.tensor(dropout) if training and any(dropout) else None

    def __len__(self) -> int:
        """N."""
        return len(self.manifest)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """A batch of one."""
        return self.__getitems__([row])

    def __getitems__(self, batch: list[int] | tuple[int, list[int]]) -> dict[str, Any]:
        """A batch by its rows, or by (epoch, rows) as the training sampler gives it."""
        epoch, rows = batch if isinstance(batch, tuple) else (0, batch)
        manifest, rows_B = self.manifest, torch.tensor(rows, dtype=torch.int64)
        ids, names = [manifest.ids[row] for row in rows], manifest.spec.names
        present = manifest.present[rows_B]
        if self.dropout_M is not None:
            key = f"dropout|{self.seed}|{epoch}"
            present = draw_kept(key, ids, names, self.dropout_M, present)
        inputs = {}
        for m, (modality, column) in enumerate(manifest.columns.items()):
            if isinstance(column, MediaColumn):
                generator = batch_generator(self.seed, epoch, rows, f"{modality}|media")
                raw = column.view(rows_B, present[:, m], self.training, generator)
            else:
                raw = column.batch(rows_B)
                if self.dropout_M is not None:
                    raw = hide(raw, present[:, m])
            if modality in self.transforms and not isinstance(column, FeatureColumn):
                generator = batch_generator(self.seed, epoch, rows, modality)
                raw = self.transforms[modality](raw, self.training, generator)
            inputs[modality] = raw
        return {
            "inputs": inputs,
            "present": present,
            "label": manifest.labels[rows_B],
            "index": rows_B,
            "id": ids,
        }


class DataModule(LightningDataModule):
    """Serves a dataset's parts as batches.

    A batch is ``{"inputs": {modality: Tensor | dict}, "present": bool [B, M], "label": int64 [B],
    "index": int64 [B] (row of the manifest), "id": list[str]}``. Vectors and sequences are
    standardised by the training part. Inputs of an absent modality are zeros.

    Everything random depends on (seed, epoch, rows of the batch) alone: a resumed run, or one with
    another number of workers, sees the same batches.

    Args:
        dataset: a dataset file's object.
        batch_size: of one process.
        workers: processes that prepare batches; 0 prepares them in the main process.
        seed: of order and augmentation.
        transforms: modality → ``(raw, training, generator) → Tensor | dict``, given by encoders;
            may be set later (attribute ``transforms``), but before the first loader is made.
        missing: modalities that the data shall lack: a rate, modality → rate, or part → one of
            these. Drawn once for each sample by (seed, id), so the gaps are the same in all
            epochs and in a resumed run, as in an incomplete data set; at least one is kept.
        modality_dropout: modalities that training shall not see, a rate or modality → rate; drawn
            by (seed, epoch, id), anew in each epoch; at least one is kept.

    Attributes:
        statistics: modality → mean and scale that its columns were standardised by.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        transforms: Mapping[str, Transform] | None = None,
        missing: Rates = None,
        modality_dropout: float | Mapping[str, float] = 0.0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise MmeqError(f"batch_size={batch_size}: expected 1 or more")
        if workers < 0:
            raise MmeqError(f"workers={workers}: expected 0 or more")
        if seed < 0:
            raise MmeqError(f"seed={seed}: expected 0 or more")
        self.dataset, self.batch_size, self.workers, self.seed = dataset, batch_size, workers, seed
        self.transforms: dict[str, Transform] = dict(transforms or {})
        self.missing, self.modality_dropout = missing, modality_dropout
        self._dropout: tuple[float, ...] = ()
        self.statistics: dict[str, Statistics] = {}
        self._manifest: Manifest | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read and check the data, once.

        Raises:
            MmeqError: for data that no training should see: NaN or infinite values, a torn group
                under a grouped protocol, a modality that no training sample has, an inconsistent
                manifest.
        """
        if self._manifest is not None:
            return
        manifest = self.dataset.load()
        manifest.check()
        for warning in [*manifest.notes, *check_leakage(manifest), *check_classes(manifest)]:
            rank_zero_warn(warning)
        names = manifest.spec.names
        self._dropout = rates_by_name("modality_dropout", self.modality_dropout, names)
        manifest = with_gaps(manifest, self.missing, self.seed)
        train_N = torch.zeros(len(manifest), dtype=torch.bool)
        train_N[manifest.rows(TRAIN)] = True
        for m, (modality, column) in enumerate(manifest.columns.items()):
            present_N = manifest.present[:, m]
            fit_N = train_N & present_N
            if not fit_N.any():
                raise MmeqError(f"modality {modality!r} is absent from the whole train part")
            if isinstance(column, VectorColumn | SequenceColumn):
                self.statistics[modality] = column.statistics(fit_N)
                column = column.scaled(self.statistics[modality])
            manifest.columns[modality] = column if present_N.all() else column.masked(present_N)
        self._manifest = manifest

    def hide(self, kept_NM: Tensor, split: str | None = None) -> None:
        """Take modalities away from samples, for loaders made from now on.

        What was learnt from the train part (statistics, class frequencies) stays.

        Args:
            kept_NM: bool [N, M] or [M]; false hides a modality of a sample.
            split: the part whose samples lose them; None: all.

        Raises:
            MmeqError: when a sample would keep nothing.
        """
        manifest = self.manifest
        other_N = torch.from_numpy(manifest.split != split) & (split is not None)
        present = manifest.present & (kept_NM | other_N[:, None])
        empty_N = ~present.any(1)
        if empty_N.any():
            raise MmeqError(
                f"{int(empty_N.sum())} samples would be left with no modality, such as "
                f"{manifest.ids[int(empty_N.nonzero()[0])]!r}: hide fewer modalities"
            )
        columns = {
            name: column.masked(present[:, m])
            for m, (name, column) in enumerate(manifest.columns.items())
        }
        spec = replace(manifest.spec, complete=bool(present.all()))
        self._manifest = replace(manifest, spec=spec, present=present, columns=columns)

    @property
    def manifest(self) -> Manifest:
        """Every sample, with standardised columns."""
        if self._manifest is None:
            raise RuntimeError("call setup() first")
        return self._manifest

    @property
    def spec(self) -> DatasetSpec:
        """What the dataset is made of; with modality dropout it is not complete."""
        spec = self.manifest.spec
        return replace(spec, complete=False) if any(self._dropout) else spec

    @property
    def class_frequencies(self) -> Tensor:
        """Shares float32 [C] of the classes among the training labels; they sum to 1."""
        labels = self.manifest.labels[self.manifest.rows(TRAIN)]
        return torch.bincount(labels, minlength=len(self.spec.classes)) / len(labels)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled batches of the train part."""
        sampler = TrainSampler(self.manifest.rows(TRAIN).numpy(), self.seed)
        if self.trainer is not None:  # workers of a resumed run fetch before Lightning says it
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)
        return self._loader(EpochBatches(sampler, self.batch_size), training=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation part in order."""
        return self.loader("validation")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test part in order."""
        return self.loader("test")

    def loader(
        self, split: str, whole: bool = False, share: float = 1.0, draw: Sequence[int] = (0,)
    ) -> DataLoader[dict[str, Any]]:
        """Return any part (train too) in order, without augmentation.

        Args:
            split: train, validation or test.
            whole: give every process the whole part, not its share of it.
            share: of the part's samples, 0 < share ≤ 1, at least one.
            draw: seeds of the draw of that share.
        """
        if split not in PARTS:
            raise MmeqError(f"no part {split!r}" + did_you_mean(split, PARTS))
        place = {"rank": 0, "world": 1} if whole else {}
        rows = self.manifest.rows(split).numpy()
        if share < 1:
            size = max(1, round(share * len(rows)))
            rows = np.sort(np.random.default_rng(list(draw)).choice(rows, size, replace=False))
        sampler = EvaluationSampler(rows, **place)
        return self._loader(BatchSampler(sampler, self.batch_size, False), training=False)

    def loader_of(self, manifest: Manifest) -> DataLoader[dict[str, Any]]:
        """Return every sample of another manifest in order, treated as an evaluated part is.

        Args:
            manifest: of the same modalities, standardised by this module's `statistics`.
        """
        sampler = EvaluationSampler(np.arange(len(manifest)))
        batches = BatchSampler(sampler, self.batch_size, False)
        return self._loader(batches, training=False, manifest=manifest)

    def _loader(
        self, batches: BatchSampler, training: bool, manifest: Manifest | None = None
    ) -> DataLoader[dict[str, Any]]:
        unknown = [name for name in self.transforms if name not in self.spec.names]
        if unknown:
            raise MmeqError(
                f"a transform for the unknown modality {unknown[0]!r}"
                + did_you_mean(unknown[0], self.spec.names)
            )
        return DataLoader(
            Batches(
                self.manifest if manifest is None else manifest,
                self.transforms,
                training,
                self.seed,
                self._dropout,
            ),
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            # without one of its own, a loader draws from the model's randomness, and a resumed
            # run makes another number of loaders than an uninterrupted one
            generator=torch.Generator(),
        )


def with_gaps(manifest: Manifest, missing: Rates, seed: int) -> Manifest:
    """Return the manifest with modalities taken from its samples; the protocol says so.

    Args:
        manifest: any.
        missing: see `DataModule`.
        seed: of the draws.
    """
    names = manifest.spec.names
    rates = rates_by_part(missing, names)
    if not any(map(any, rates.values())):
        return manifest
    rate_NM = torch.zeros(manifest.present.shape, dtype=torch.float64)
    for part, rate_M in rates.items():
        rate_NM[manifest.rows(part)] = torch.tensor(rate_M, dtype=torch.float64)
    present = draw_kept(f"missing|{seed}", manifest.ids, names, rate_NM, manifest.present)
    protocol = f"{manifest.spec.protocol}; {describe(rates, names)}, seed {seed}"
    spec = replace(manifest.spec, protocol=protocol, complete=bool(present.all()))
    return replace(manifest, spec=spec, present=present)


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - DataLoader's hook
    """Batches come whole: nothing to collate."""
    return batch
