"""Bootstrap over samples: draws of any statistic, percentile intervals and standard errors.

Legend: R draws, r draws of one chunk, N samples, K columns, S coalitions, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.values import f1_from_counts

CHUNK = 2**20
"""Counts held at a time: memory stays flat however many samples and draws there are."""
KEPT = 2**26
"""Counts kept for the next call, at a byte each: every epoch resamples the same part alike."""


def check_draws(draws: int, level: float) -> None:
    """Refuse a number of draws or a level that gives no interval.

    Args:
        draws: number of resamples R, at least 2.
        level: coverage of the intervals, between 0 and 1.

    Raises:
        MmeqError: otherwise.
    """
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 2:
        raise MmeqError(f"draws must be a whole number of at least 2, got {draws!r}")
    if not 0 < level < 1:
        raise MmeqError(f"level must be between 0 and 1, got {level!r}")


def resample_counts(samples: int, draws: int, seed: int) -> Iterator[Tensor]:
    """How often each sample is drawn, in chunks of resamples with replacement.

    Drawn on the CPU from a generator of its own, so it depends on the arguments alone; what was
    drawn last is kept where it is small.

    Args:
        samples: number of samples N.
        draws: number of resamples R.
        seed: seed of the generator.

    Returns:
        An iterator over float64 [r, N]; each row adds up to N.

    Raises:
        MmeqError: if there is no sample.
    """
    if samples < 1:
        raise MmeqError("a bootstrap needs at least one sample")
    if draws * samples <= KEPT:
        kept_RN = _kept_counts(samples, draws, seed)
        size = max(1, CHUNK // samples)
        chunks: Iterator[Tensor] = (
            kept_RN[start : start + size] for start in range(0, draws, size)
        )
    else:
        chunks = _drawn_counts(samples, draws, seed)
    return (counts_rN.double() for counts_rN in chunks)


@lru_cache(maxsize=2)  # the validation part, and the test part
@torch.inference_mode(False)
def _kept_counts(samples: int, draws: int, seed: int) -> Tensor:
    """All draws, uint8 [R, N]: that a sample counts 256 times has a probability of 1/256!."""
    return torch.cat([counts_rN.byte() for counts_rN in _drawn_counts(samples, draws, seed)])


def _drawn_counts(samples: int, draws: int, seed: int) -> Iterator[Tensor]:
    """Draw chunk by chunk: integer [r, N]."""
    generator = torch.Generator().manual_seed(seed)
    size = max(1, CHUNK // samples)
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        picked_rN = torch.randint(samples, (rows, samples), generator=generator)
        picked_rN += torch.arange(rows)[:, None] * samples
        counts = torch.bincount(picked_rN.view(-1), minlength=rows * samples)
        yield counts.view(rows, samples)


def bootstrap_draws(
    statistic: Callable[[Tensor], Tensor], samples: int, draws: int = 1000, seed: int = 0
) -> Tensor:
    """Draws of a statistic that is a function of how often each sample counts.

    Args:
        statistic: from counts [r, N] to [r, K].
        samples: number of samples N.
        draws: number of resamples R.
        seed: seed of the resampling; equal seeds and N resample alike.

    Returns:
        [R, K].

    Raises:
        MmeqError: if there is no sample, or fewer than 2 draws.
    """
    check_draws(draws, 0.5)
    return torch.cat([statistic(counts) for counts in resample_counts(samples, draws, seed)])


def mean_statistic(column_NK: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the statistic "mean of each column" (accuracy, nll): one matrix product a chunk.

    Args:
        column_NK: real [N, K].
    """
    # float64 on purpose: it is exempt from autocast and from reduced matmul precision.
    column_NK = column_NK.double()
    return lambda counts_rN: counts_rN @ column_NK / len(column_NK)


def f1_statistic(
    prediction_NS: Tensor, label_N: Tensor, classes: int
) -> Callable[[Tensor], Tensor]:
    """Return the statistic "macro-F1 of each coalition" (see `values.macro_f1`).

    Args:
        prediction_NS: integer [N, S], in 0..C-1.
        label_N: integer [N], in 0..C-1.
        classes: number of classes C.
    """
    actual_NC = torch.nn.functional.one_hot(label_N, classes).double()

    def statistic(counts_rN: Tensor) -> Tensor:
        actual_rC = counts_rN @ actual_NC
        columns = []
        for prediction_N in prediction_NS.long().unbind(1):
            predicted_NC = torch.nn.functional.one_hot(prediction_N, classes).double()
            both_NK = torch.cat([predicted_NC * actual_NC, predicted_NC], 1)
            hit_rC, predicted_rC = (counts_rN @ both_NK).tensor_split(2, 1)
            columns.append(f1_from_counts(hit_rC, predicted_rC, actual_rC))
        return torch.stack(columns, 1)

    return statistic


def percentile_interval(draws_RK: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Percentile interval of each column, by linear interpolation between ordered draws.

    NaN draws (an undefined EDM) are left out; a column of NaN alone has a NaN interval.

    Args:
        draws_RK: real [R, ...].
        level: coverage, between 0 and 1.

    Returns:
        Lower and upper end, each [...].

    Raises:
        MmeqError: if level is not between 0 and 1, or there are fewer than 2 draws.
    """
    check_draws(len(draws_RK), level)
    ordered = draws_RK.sort(0).values  # NaN goes last
    last = (~ordered.isnan()).sum(0, keepdim=True).clamp(min=1) - 1
    ends = []
    for q in ((1 - level) / 2, (1 + level) / 2):
        place = q * last.double()
        below = place.floor().long()
        low = ordered.gather(0, below)
        high = ordered.gather(0, torch.minimum(below + 1, last))
        ends.append(torch.lerp(low, high, (place - below).to(low.dtype)).squeeze(0))
    return ends[0], ends[1]


def gap_error(draws_RM: Tensor) -> Tensor:
    """Bootstrap standard error of the difference of each two columns.

    Args:
        draws_RM: real [R, M].

    Returns:
        [M, M], symmetric, 0 on the diagonal; in the unit of the draws.
    """
    return standard_error(draws_RM[:, :, None] - draws_RM[:, None, :])


def standard_error(draws_RK: Tensor) -> Tensor:
    """Bootstrap standard error of each column: the standard deviation of its draws.

    Args:
        draws_RK: real [R, ...].

    Returns:
        [...], in the unit of the draws.
    """
    return draws_RK.std(0)
