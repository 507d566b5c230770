"""Where padded sequences begin and end; the padding is moved behind them.

Shape suffixes: N samples, T time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmeq.data.columns import SequenceColumn
from mmeq.errors import MmeqError

CHUNK = 1024


def known_lengths(
    path: Path, parts: Mapping[str, dict[str, Any]], counts: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return modality → lengths int [N], of those that the file itself gives.

    Args:
        path: of the file, for errors.
        parts: train, validation, test as read.
        counts: samples of each.

    Returns:
        Also ``mask``: lengths by the mask of the tokens, and ``steps``: how many that mask has.

    Raises:
        MmeqError: names what has another shape.
    """
    out = {}
    keys = {"audio": "audio_lengths", "vision": "vision_lengths", "mask": "text_bert"}
    for name, key in keys.items():
        if not all(key in part for part in parts.values()):
            continue
        cells = []
        for part, count in zip(parts.values(), counts, strict=True):
            one = np.asarray(part[key])
            shape = one.shape[:2] if name == "mask" else one.shape
            if shape != ((count, 3) if name == "mask" else (count,)) or one.dtype.hasobject:
                raise MmeqError(f"{path}: {key!r} has shape {one.shape} for {count} samples")
            cells.append(one[:, 1].sum(1) if name == "mask" else one)
        out[name] = np.concatenate(cells).astype(np.int64)
        if name == "mask":
            out["steps"] = np.array(np.asarray(parts["train"][key]).shape[2])
    return out


def spans(
    values: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return modality → first step and number of steps, int64 [N] each.

    Args:
        values: modality → [N, T, F].
        lengths: modality → int [N] where the lengths are known and the padding stands behind;
            ``mask`` are those of the tokens, for what has as many steps as ``steps`` says. What is
            left is cut where zeros begin and end, together with what has the same T.
    """
    out, open_names = {}, []
    for name, array in values.items():
        own = lengths.get(name)
        if own is None and "mask" in lengths and array.shape[1] == int(lengths["steps"]):
            own = lengths["mask"]
        if own is None:
            open_names.append(name)
        else:
            out[name] = (np.zeros_like(own), own.clip(0, array.shape[1]))
    filled = {name: _filled(values[name]) for name in open_names}
    for name in open_names:
        together = [
            filled[other] for other in open_names if filled[other].shape == filled[name].shape
        ]
        here_NT = np.logical_or.reduce(together)
        first, last = here_NT.argmax(1), here_NT.shape[1] - here_NT[:, ::-1].argmax(1)
        out[name] = (first, np.where(here_NT.any(1), last - first, 0))
    return out


def _filled(values: np.ndarray) -> np.ndarray:
    """Bool [N, T]: the step is not all zeros."""
    out = np.empty(values.shape[:2], bool)
    for rows in chunks(len(values)):
        out[rows] = values[rows].any(2)
    return out


def column(
    values: np.ndarray, start_N: np.ndarray, length_N: np.ndarray
) -> tuple[SequenceColumn, np.ndarray]:
    """Move each sample to the front, zeros behind it (in place); also bool [N]: it has anything.

    Args:
        values: float32 [N, T, F].
        start_N: first step.
        length_N: steps.
    """
    steps = np.arange(values.shape[1])
    present = np.empty(len(values), bool)
    for rows in chunks(len(values)):
        place = np.minimum(steps + start_N[rows, None], values.shape[1] - 1)
        moved = np.take_along_axis(values[rows], place[:, :, None], 1)
        moved[steps >= length_N[rows, None]] = 0
        values[rows] = moved
        present[rows] = moved.any((1, 2))
    length = torch.from_numpy(np.where(present, length_N, 0).astype(np.int64))
    return SequenceColumn(torch.from_numpy(values), length), present


def chunks(count: int) -> list[slice]:
    """Cut rows, so that no second copy of all is made."""
    return [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]
