"""Modalities that are made to be absent: gaps of an incomplete data set, and modality dropout.

Shape suffixes: N samples, M modalities, B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmeq.data.manifest import PARTS
from mmeq.errors import MmeqError
from mmeq.game.missing import rates_by_name

Rates = float | Mapping[str, Any] | None


def rates_by_part(missing: Rates, modalities: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Read the option ``missing``: a rate, modality → rate, or part → one of these.

    A rate or a mapping by modality holds for all parts; in a mapping by part, a part that is not
    named has no gaps.

    Args:
        missing: as in the configuration; None for no gaps.
        modalities: M names.

    Returns:
        train, validation and test, each to M rates.

    Raises:
        MmeqError: for an unknown name, or a rate outside 0 ≤ rate < 1.

    Examples:
        >>> rates_by_part({"train": {"text": 0.5}, "test": 0.1}, ["image", "text"])
        {'train': (0.0, 0.5), 'validation': (0.0, 0.0), 'test': (0.1, 0.1)}
    """
    none = 0.0 if missing is None else missing
    if not isinstance(none, Mapping) or not any(part in none for part in PARTS):
        return dict.fromkeys(PARTS, rates_by_name("missing", none, modalities))
    if odd := [name for name in none if name not in PARTS]:
        raise MmeqError(
            f"missing names the part(s) {', '.join(p for p in PARTS if p in none)} and also "
            f"{odd[0]!r}: give parts only, each with a rate or with {{modality: rate}}"
        )
    return {part: rates_by_name(f"missing.{part}", none.get(part, 0.0), modalities)
            for part in PARTS}  # fmt: skip


def draw_kept(
    key: str, ids: Sequence[str], names: Sequence[str], rate: Tensor, present: Tensor
) -> Tensor:
    """Take modalities away at random, at least one kept of what a sample has.

    Whether sample and modality are hit depends on ``key`` and their names alone: not on the
    order, number or batch of the samples. A sample that would lose all it has keeps one of them,
    drawn uniformly (the law of `mmeq.game.missing.pattern_weights`).

    Args:
        key: what else the draw depends on, such as seed and epoch.
        ids: N names of samples.
        names: M names of modalities.
        rate: probabilities of absence, [M] or [N, M].
        present: bool [N, M], what there is.

    Returns:
        bool [N, M], what is left.
    """
    rate_NM, here_NM = rate.double().expand(present.shape).numpy(), present.numpy()
    luck_NM = _uniform(key, ids, names)
    left_NM = here_NM & (luck_NM >= rate_NM)
    # Given that each draw is below its rate, its share of the rate is uniform, so each is the
    # largest equally often.
    share_NM = np.where(here_NM, luck_NM / np.maximum(rate_NM, 1e-300), -1.0)
    lost_N = here_NM.any(1) & ~left_NM.any(1)
    left_NM[lost_N, share_NM[lost_N].argmax(1)] = True
    return torch.from_numpy(left_NM)


def _uniform(key: str, ids: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Numbers in [0, 1) by hash, [N, M]."""
    hashes = b"".join(
        hashlib.blake2b(f"{key}|{name}|{one}".encode(), digest_size=8).digest()
        for one in ids
        for name in names
    )
    whole = np.frombuffer(hashes, dtype="<u8").reshape(len(ids), len(names))
    return (whole >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hide(raw: Any, kept_B: Tensor) -> Any:  # noqa: ANN401  by kind, see `Manifest`
    """Blank the samples of a raw batch that are not kept: zeros, empty texts.

    Args:
        raw: Tensor [B, ...], dict of such, or list of B texts or tensors.
        kept_B: bool [B].
    """
    if isinstance(raw, Tensor):
        return torch.where(kept_B.view(-1, *[1] * (raw.ndim - 1)), raw, raw.new_zeros(()))
    if isinstance(raw, Mapping):
        return {key: hide(value, kept_B) for key, value in raw.items()}
    blank = [torch.zeros_like(one) if isinstance(one, Tensor) else type(one)() for one in raw]
    chosen = zip(raw, blank, kept_B.tolist(), strict=True)
    return [one if kept else empty for one, empty, kept in chosen]


def describe(rates: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """Say where gaps were made, for the protocol; an empty string for nowhere.

    Examples:
        >>> describe({"train": (0.3, 0.3), "test": (0.0, 0.5)}, ["a", "b"])
        'made gaps: train 30 %, test b 50 %'
    """
    told = []
    for part, rate_M in rates.items():
        if len(set(rate_M)) == 1:
            told += [f"{part} {100 * rate_M[0]:g} %"] if rate_M[0] else []
        else:
            each = [f"{n} {100 * r:g} %" for n, r in zip(names, rate_M, strict=True) if r]
            told.append(f"{part} {' '.join(each)}")
    return f"made gaps: {', '.join(told)}" if told else ""
