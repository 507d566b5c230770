"""Dataset mfeat: six views of handwritten digits (UCI Multiple Features), 1,994 samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mmeq.data import store
from mmeq.data.columns import VectorColumn
from mmeq.data.manifest import Manifest
from mmeq.data.options import choose, complete_manifest
from mmeq.data.spec import Modality
from mmeq.data.split import Split

VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")
CLASSES = tuple("0123456789")


class Mfeat:
    """Six feature sets of the same digits.

    Fourier coefficients (fou 76), profile correlations (fac 216), Karhunen-Loève coefficients
    (kar 64), pixel means (pix 240), Zernike moments (zer 47), morphology (mor 6). All six together
    saturate; fou, zer and mor are the default.

    Args:
        modalities: any subset of the six, in any order; None takes all.
        split_seed: another seed, another split.
        fractions: of train, validation and test.
        train_size: so many training samples, stratified; None keeps all.
    """

    def __init__(
        self,
        modalities: Sequence[str] | None = ("fou", "zer", "mor"),
        split_seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.2, 0.2),
        train_size: int | None = None,
    ) -> None:
        self.modalities = choose("mfeat", modalities, VIEWS)
        self.split = Split(split_seed, tuple(fractions), train_size)

    def load(self) -> Manifest:
        """Read the bundled file."""
        arrays = store.read("mfeat")
        columns = {
            name: VectorColumn(torch.from_numpy(arrays[name].astype(np.float32)))
            for name in self.modalities
        }
        return complete_manifest(
            "mfeat",
            CLASSES,
            [Modality(name, "vector", (arrays[name].shape[1],)) for name in self.modalities],
            columns,
            [f"mfeat-{row:04d}" for row in arrays["rows"].tolist()],
            arrays["labels"],
            self.split,
        )
