"""What a model answers to test samples with all modalities: confusion, calibration and ECE.

Legend: N samples, S coalitions, M modalities, C classes, K bins.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmeq.errors import MmeqError

PREDICTIONS = Path("predictions") / "test.npz"
BINS = 10
CHUNK = 1 << 24
"""Bytes of logits that are read at a time: those of all coalitions may be large."""
Bin = tuple[int, float | None, float | None]
"""Count, mean confidence, accuracy; None for both where the count is 0."""


@dataclass(frozen=True)
class Answers:
    """Predictions with all modalities, of the samples whose label is known.

    Attributes:
        labels_N: classes, int.
        logits_NC: float.
        classes: their names.
    """

    labels_N: np.ndarray
    logits_NC: np.ndarray
    classes: tuple[str, ...]


def read_answers(folder: Path) -> Answers | None:
    """Read a run's answers; None where it has kept none.

    Args:
        folder: the run folder.

    Raises:
        MmeqError: for a file that is damaged.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            labels_N, coalitions_SM, classes = (
                _array(archive, name) for name in ("labels", "coalitions", "classes")
            )
            logits_NC = _plane(archive, int(coalitions_SM.sum(1).argmax()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MmeqError(f"{path} is damaged: {error}") from error
    known_N = labels_N >= 0
    return Answers(labels_N[known_N], logits_NC[known_N], tuple(map(str, classes)))


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _plane(archive: zipfile.ZipFile, coalition: int) -> np.ndarray:
    """Return the logits of one coalition, [N, C], without all others in memory."""
    with archive.open("logits.npy") as stream:
        np.lib.format.read_magic(stream)
        shape, column_major, dtype = np.lib.format.read_array_header_1_0(stream)
        if column_major or len(shape) != 3:
            raise ValueError(f"its logits of shape {shape} are none of mmeq's")
        samples, coalitions, classes = shape
        size = coalitions * classes * dtype.itemsize
        parts, step = [np.empty((0, classes), dtype)], max(1, CHUNK // max(size, 1))
        for start in range(0, samples, step):
            rows = min(step, samples - start)
            part_NSC = np.frombuffer(stream.read(rows * size), dtype)
            parts.append(part_NSC.reshape(rows, coalitions, classes)[:, coalition].copy())
    return np.concatenate(parts)


def calibration(answers: Answers) -> list[Bin]:
    """Sort samples by the confidence of the answer into bins of equal width.

    Confidence is the largest softmax probability; bin k of K is (k/K, (k+1)/K].

    Returns:
        For each of 10 bins: samples, mean confidence, accuracy.

    Examples:
        >>> two = Answers(np.array([0, 1]), np.array([[0.0, 9.0], [0.0, 9.0]]), ("a", "b"))
        >>> calibration(two)[-1][0], calibration(two)[-1][2]
        (2, 0.5)
    """
    logits_NC = answers.logits_NC.astype(np.float64)
    odds_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
    confidence_N = odds_NC.max(1) / odds_NC.sum(1)
    right_N = logits_NC.argmax(1) == answers.labels_N
    place_N = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    bins: list[Bin] = []
    for place in range(BINS):
        here_N = place_N == place
        if not here_N.any():
            bins.append((0, None, None))
            continue
        means = (float(confidence_N[here_N].mean()), float(right_N[here_N].mean()))
        bins.append((int(here_N.sum()), *means))
    return bins


def ece(bins: Sequence[Any]) -> float | None:
    r"""Expected calibration error: :math:`\sum_k \frac{n_k}{n} |\mathrm{acc}_k - \mathrm{conf}_k|`.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, with 10 bins.

    Args:
        bins: of `calibration`.

    Returns:
        From 0, which is calibrated, to 1; None over no sample.

    Examples:
        >>> round(ece([(1, 0.9, 1.0), (3, 0.5, 0.5)]), 9)
        0.025
    """
    total = sum(count for count, _, _ in bins)
    if not total:
        return None
    gaps = [count * abs(accuracy - confidence) for count, confidence, accuracy in bins if count]
    return float(sum(gaps) / total)


def confusion(answers: Answers) -> list[list[int]]:
    """Count samples by true class (rows) and answered class (columns), [C, C]."""
    count = answers.logits_NC.shape[1]
    pairs_N = answers.labels_N * count + answers.logits_NC.argmax(1)
    counts = np.bincount(pairs_N, minlength=count * count).reshape(count, count)
    return [[int(value) for value in row] for row in counts]
