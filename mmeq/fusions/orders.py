"""Which orders a prediction averages over: the inference strategies of the memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

from mmeq.errors import MmeqError, did_you_mean

Inference = Literal["auto", "hybrid", "cyclic", "memory_guided"]
Orders = tuple[tuple[int, ...], ...]
HYBRID_LIMIT = 6


def inference_orders(inference: Inference, order: Sequence[int]) -> Orders:
    """Return the orders over which the memory's representation is averaged at inference.

    - ``hybrid``: all M! orders [paper]; they share prefixes, so M=3 costs 15 cells, M=4 64.
    - ``cyclic``: the M rotations of the training order [ours].
    - ``memory_guided``: the training order alone, one pass [second-hand].
    - ``auto``: hybrid up to M=4, memory_guided beyond [ours].

    Args:
        inference: the strategy.
        order: the order of the last training epoch, weakest modality first.

    Raises:
        MmeqError: unknown strategy, or hybrid with more modalities than M! allows.

    Examples:
        >>> inference_orders("cyclic", (2, 0, 1))
        ((2, 0, 1), (0, 1, 2), (1, 2, 0))
    """
    if inference not in get_args(Inference):
        raise MmeqError(
            f"inference={inference!r} is unknown" + did_you_mean(inference, get_args(Inference))
        )
    order, count = tuple(order), len(order)
    if inference == "auto":
        inference = "hybrid" if count <= 4 else "memory_guided"
    if inference == "hybrid":
        if count > HYBRID_LIMIT:
            raise MmeqError(
                f"inference=hybrid averages over all orders: {count} modalities have too many; "
                "use inference=cyclic or inference=memory_guided"
            )
        return tuple(itertools.permutations(range(count)))
    if inference == "cyclic":
        return tuple(order[k:] + order[:k] for k in range(count))
    return (order,)
