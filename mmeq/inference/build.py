"""From a strategy's name and options to the strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmeq.inference.base import Strategy
from mmeq.inference.orders import Options, resolve
from mmeq.inference.per_sample import PerSample
from mmeq.inference.router import Router
from mmeq.inference.sampled import Sampled

KINDS: dict[str, type[Strategy]] = {"sampled": Sampled, "per_sample": PerSample, "router": Router}
"""Strategies that are more than the mean over a fixed set of orders."""


def build_strategy(
    inference: str, order: Sequence[int], options: Mapping[str, Any] | None = None, seed: int = 0
) -> Strategy:
    """Return the strategy of a name.

    Args:
        inference: the name, see `mmeq.inference.orders.inference_orders`.
        order: of the last training epoch, weakest modality first.
        options: see `mmeq.inference.orders.Options`.
        seed: of the run.

    Raises:
        MmeqError: unknown strategy, impossible option, hybrid with too many modalities.
    """
    kind = KINDS.get(resolve(inference, len(order)), Strategy)
    return kind(inference, order, Options(**(options or {})), seed)
