"""Dataset brca: three omics of 769 breast tumours (TCGA), their PAM50 subtype as class."""

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

MODALITIES = ("rna", "mirna", "methylation")
# The package codes subtypes as 0..4 without names; these follow from the marker genes (code 1 is
# low in ESR1 and high in KRT5, code 2 high in ERBB2, 4 higher in MKI67 than 3) and the counts.
CLASSES = ("normal-like", "basal-like", "HER2-enriched", "luminal A", "luminal B")


class Brca:
    """RNA, miRNA and methylation, the 400 most variable features of each.

    PAM50 is defined from expression, so RNA dominates by construction. One patient, one sample.

    Args:
        modalities: any subset of rna, mirna, methylation, in any order; None takes all.
        split_seed: another seed, another split; results vary over splits, so report several.
        fractions: of train, validation and test.
        train_size: so many training samples, stratified; None keeps all.
    """

    def __init__(
        self,
        modalities: Sequence[str] | None = None,
        split_seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.2, 0.2),
        train_size: int | None = None,
    ) -> None:
        self.modalities = choose("brca", modalities, MODALITIES)
        self.split = Split(split_seed, tuple(fractions), train_size)

    def load(self) -> Manifest:
        """Read the bundled file."""
        arrays = store.read("brca")
        columns = {
            name: VectorColumn(torch.from_numpy(arrays[name].astype(np.float32)))
            for name in self.modalities
        }
        return complete_manifest(
            "brca",
            CLASSES,
            [Modality(name, "vector", (arrays[name].shape[1],)) for name in self.modalities],
            columns,
            store.unpack_texts(arrays["ids"]),
            arrays["labels"],
            self.split,
        )
