"""Decides which modalities come from the feature cache, fills it, and puts it before the data.

Shape suffixes: N samples, B batch, H width of the features.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeq.errors import MmeqError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from mmeq.config.build import Run
    from mmeq.data.columns import Column
    from mmeq.data.datamodule import DataModule, Transform

OFF = ("off", False)
FOLDER = "mmeq-features"
"""Of the cache, beside the data that it was computed of."""


def cache_features(run: Run, *, fill: bool = True) -> dict[str, Path]:
    """Let training read the features of frozen encoders instead of encoding in every epoch.

    To be called when all weights are loaded: the features are those of the weights that are there.

    Args:
        run: built; columns of its data module are replaced.
        fill: compute what is lacking; else only a modality of which all is there is replaced.

    Returns:
        Modality → folder of its features, for those that come from the cache now.

    Raises:
        MmeqError: for a folder that cannot be written, and features that are not finite.
    """
    if run.cfg.get("cache") in OFF:
        return {}
    return cached(
        run.datamodule,
        run.module.encoders,
        lambda: cache_folder(run.cfg),
        device=run.trainer.strategy.root_device,
        precision=str(run.trainer.precision),
        fill=fill,
        blank=getattr(run.module.fusion, "wants_zero_input", False),
    )


def check_cache(value: Any) -> None:  # noqa: ANN401 - an option
    """Refuse a value of the option ``cache`` that is no folder.

    Raises:
        MmeqError: says what would be right.
    """
    if value is None or value in OFF:
        return
    if not isinstance(value, str) or not value:
        raise MmeqError(f"cache={value!r}: give a folder, off, or null for a place beside the data")
    path = Path(value).expanduser()
    if path.exists() and not path.is_dir():
        raise MmeqError(f"cache={value}: this is a file, give a folder")


def cache_folder(tree: Mapping[str, Any]) -> Path:
    """Return the folder of the cache: as given, beside the data, else that of the user.

    Args:
        tree: the configuration; of it ``cache`` and ``data_root``.
    """
    given, data_root = tree.get("cache"), tree.get("data_root")
    check_cache(given)
    if given is not None:
        return Path(given).expanduser().absolute()
    if data_root is not None:
        beside = Path(data_root).expanduser().absolute() / FOLDER
        if os.access(beside if beside.exists() else beside.parent, os.W_OK):
            return beside
    # the standard takes a relative path for none
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mmeq" / "features"


def cached(
    datamodule: DataModule,
    encoders: nn.ModuleDict,
    folder: Callable[[], Path],
    *,
    device: torch.device,
    precision: str = "32-true",
    fill: bool = True,
    blank: bool = False,
) -> dict[str, Path]:
    """Replace the columns of frozen encoders by their features, see `cache_features`.

    Args:
        datamodule: set up, with transforms.
        encoders: modality → encoder; frozen is one whose ``cache_key()`` is a dict.
        folder: gives the folder of the cache; asked if there is something to keep.
        device: where features are computed.
        precision: in which the run computes: 32-true or bf16-mixed.
        fill: compute what is lacking.
        blank: the fusion asks what encoders make of zeros in place of a sample, which features do
            not tell: nothing is cached.
    """
    import torch
    from lightning.pytorch.utilities import rank_zero_warn

    every: dict[str, Any] = dict(encoders.items())
    frozen = {
        name: encoder
        for name, encoder in every.items()
        if getattr(encoder, "cache_key", None) is not None and encoder.cache_key() is not None
    }
    if frozen and blank:
        rank_zero_warn(
            "fusion.absence=input encodes zeros anew at every step, so the features of frozen "
            f"encoders ({', '.join(frozen)}) are not cached; another fusion.absence is faster"
        )
    if not frozen or blank:
        return {}
    found, root = {}, folder()
    hashes: dict[int, bytes] = {}
    # filling shall not change what is drawn after it
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # type: ignore[operator]
        for name, encoder in frozen.items():
            about = {"precision": precision, **_about(encoder, hashes)}
            place = _cache_one(datamodule, name, encoder, about, root, device, precision, fill)
            if place is None:
                continue
            found[name] = place
            modality = datamodule.spec.modalities[datamodule.spec.names.index(name)]
            if fill and (modality.augmented or getattr(encoder, "augment", False)):
                rank_zero_warn(
                    f"modality {name!r}: its encoder is frozen and its features come from the "
                    "cache, so training sees them without augmentation; cache=off augments, and "
                    "encodes anew in every epoch"
                )
    return found


def _cache_one(
    datamodule: DataModule,
    name: str,
    encoder: Any,  # noqa: ANN401 - a frozen encoder
    about: Mapping[str, Any],
    root: Path,
    device: torch.device,
    precision: str,
    fill: bool,
) -> Path | None:
    """Replace one modality's column; return the folder of its features, None: it was left."""
    from lightning.pytorch.utilities import rank_zero_only

    from mmeq.data.feature_cache import FeatureCache, FeatureFormat
    from mmeq.data.feature_keys import sample_keys, view_of
    from mmeq.data.manifest import UNUSED
    from mmeq.data.media.progress import Progress
    from mmeq.encoders.frozen import encoded

    manifest = datamodule.manifest
    at, column = manifest.spec.names.index(name), manifest.columns[name]
    kind, present_N = manifest.spec.modalities[at].kind, manifest.present[:, at].numpy()
    wanted = (present_N & (manifest.split != UNUSED)).nonzero()[0].tolist()
    keys_N = sample_keys(column, wanted, manifest.spec.name)
    cache = FeatureCache(root, FeatureFormat(kind, {"view": view_of(column), "encoder": about}))
    features = cache.column(keys_N, present_N)
    if features is None and fill and wanted:
        transform = datamodule.transforms.get(name)
        count = len(cache.missing(keys_N))
        progress = Progress(count, f"samples encoded, modality {name!r}")
        loud = getattr(rank_zero_only, "rank", 0) in (0, None)

        def compute(rows: list[int]) -> Generator[tuple[list[int], np.ndarray], None, None]:
            progress.total = len(rows)
            loader = _loader(column, transform, rows, datamodule.batch_size, datamodule.workers)
            for some, values_BH in encoded(encoder, loader, device, precision):
                yield some, values_BH
                progress.advance(len(some))
                if loud:
                    progress.tick()

        done = cache.fill(keys_N, manifest.ids, compute)
        if loud:
            progress.close()
            sys.stderr.write(f"mmeq: {done} samples of {name!r} encoded, kept in {cache.folder}\n")
        features = cache.column(keys_N, present_N)
    if features is None:
        return None
    manifest.columns[name] = features
    return cache.folder


def _loader(
    column: Column, transform: Transform | None, rows: list[int], batch_size: int, workers: int
) -> Any:  # noqa: ANN401 - a DataLoader
    """Batches (rows, inputs of the encoder) as an evaluated part has them."""
    import torch
    from torch.utils.data import DataLoader

    return DataLoader(
        _Looked(column, transform),  # type: ignore[arg-type]
        batch_sampler=[rows[k : k + batch_size] for k in range(0, len(rows), batch_size)],
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )


class _Looked:
    """A column's rows through an encoder's transform, without augmentation."""

    def __init__(self, column: Column, transform: Transform | None) -> None:
        self.column, self.transform = column, transform

    def __len__(self) -> int:
        return len(self.column)

    def __getitems__(self, rows: list[int]) -> tuple[list[int], Any]:
        import torch

        raw = self.column.batch(torch.tensor(rows, dtype=torch.int64))
        if self.transform is not None:
            raw = self.transform(raw, False, torch.Generator())
        return rows, raw


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - DataLoader's hook
    return batch


def _about(encoder: Any, hashes: dict[int, bytes]) -> dict[str, Any]:  # noqa: ANN401
    """Return what features depend on beside the sample: the encoder says it, its weights prove it.

    Args:
        encoder: a frozen one.
        hashes: of tensors that were met before (encoders may share a body); added to.
    """
    from mmeq.encoders.frozen import weights_digest

    name = f"{type(encoder).__module__}.{type(encoder).__qualname__}"
    weights = weights_digest(encoder, hashes)
    return {"class": name, "key": encoder.cache_key(), "weights": weights}
