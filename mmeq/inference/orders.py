"""The orders that each inference strategy looks at, and the strategies' options; no torch here."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mmeq.errors import MmeqError, did_you_mean
from mmeq.fusions.orders import Orders

Inference = Literal["auto", "hybrid", "cyclic", "sampled", "memory_guided", "per_sample", "router"]
HYBRID_LIMIT = 6
EVERY_LIMIT = 4
"""Most modalities for which ``auto`` and the per-sample strategies take all orders."""


@dataclass(frozen=True)
class Options:
    """How the strategies work, ``strategy.*`` in a configuration.

    Args:
        orders: of ``sampled``: most orders a sample, drawn in pairs.
        certainty: of ``sampled``: a sample stops when its margin exceeds so many standard errors;
            null: never.
        confidence: of ``per_sample``: ``entropy`` or ``probability``.
        temperature: of ``per_sample``: difference of confidence that weighs e times as much.

    Raises:
        MmeqError: for a number that makes no strategy.
    """

    orders: int = 16
    certainty: float | None = 2.0
    confidence: Literal["entropy", "probability"] = "entropy"
    temperature: float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.orders < 4 or self.orders % 2:
            raise MmeqError(
                f"strategy.orders={self.orders}: orders are drawn in pairs, and an error needs two "
                "of them: give an even number of 4 or more"
            )
        if self.certainty is not None and not self.certainty > 0:
            raise MmeqError(
                f"strategy.certainty={self.certainty}: give a positive number of standard errors, "
                "or null to draw all orders for every sample"
            )
        known = ("entropy", "probability")
        if self.confidence not in known:
            raise MmeqError(
                f"strategy.confidence={self.confidence!r} is unknown"
                + did_you_mean(self.confidence, known)
            )
        if not self.temperature > 0:
            raise MmeqError(f"strategy.temperature={self.temperature}: give a positive number")


DEFAULT = Options()


def resolve(inference: str, count: int) -> str:
    """Return the name of the strategy that ``auto`` stands for; other names are checked only.

    ``auto``: hybrid up to M=4, memory_guided beyond [ours].

    Args:
        inference: the option.
        count: number of modalities M.

    Raises:
        MmeqError: unknown strategy, or hybrid with more modalities than M! allows.

    Examples:
        >>> resolve("auto", 3), resolve("auto", 5), resolve("cyclic", 5)
        ('hybrid', 'memory_guided', 'cyclic')
    """
    if inference not in get_args(Inference):
        raise MmeqError(
            f"inference={inference!r} is unknown" + did_you_mean(inference, get_args(Inference))
        )
    if inference == "auto":
        return "hybrid" if count <= EVERY_LIMIT else "memory_guided"
    if inference == "hybrid" and count > HYBRID_LIMIT:
        raise MmeqError(
            f"inference=hybrid walks all {count}! orders of {count} modalities: give sampled, "
            f"cyclic or memory_guided, or auto (hybrid is for {HYBRID_LIMIT} modalities at most)"
        )
    return inference


def inference_orders(
    inference: str, order: Sequence[int], options: Options = DEFAULT, seed: int = 0
) -> Orders:
    """Return the orders that a strategy looks at.

    - ``hybrid``: all M! orders [paper]; they share prefixes, so M=3 costs 15 cells, M=4 64.
    - ``cyclic``: the M rotations of the training order [ours].
    - ``sampled``: K orders in antithetic pairs, the seed's; all M! where K reaches them [ours].
    - ``memory_guided``: the training order alone, one pass [second-hand].
    - ``per_sample``, ``router``: all orders up to M=4, beyond it the rotations of the training
      order and their reverses, in which each modality stands at each place twice [ours].
    - ``auto``: see `resolve`.

    Args:
        inference: the strategy.
        order: the order of the last training epoch, weakest modality first.
        options: of the strategies.
        seed: of the run.

    Raises:
        MmeqError: unknown strategy, or hybrid with more modalities than M! allows.

    Examples:
        >>> inference_orders("cyclic", (2, 0, 1))
        ((2, 0, 1), (0, 1, 2), (1, 2, 0))
        >>> len(inference_orders("sampled", range(5))), len(inference_orders("router", range(5)))
        (16, 10)
    """
    order, count = tuple(order), len(order)
    inference = resolve(inference, count)
    if inference == "memory_guided":
        return (order,)
    if inference == "sampled":
        return antithetic_orders(count, options.orders, seed)
    rotations = tuple(order[k:] + order[:k] for k in range(count))
    if inference == "cyclic":
        return rotations
    if inference == "hybrid" or count <= EVERY_LIMIT:
        return tuple(itertools.permutations(range(count)))
    return (*rotations, *(rotation[::-1] for rotation in rotations))


def antithetic_orders(count: int, orders: int, seed: int) -> Orders:
    """Draw orders without replacement, each followed by its reverse; all M! if that is fewer.

    A modality that comes early in one comes late in the other, so that the mean over a pair
    varies less than over two independent orders.

    Args:
        count: number of modalities M.
        orders: how many, even.
        seed: equal seeds draw alike.

    Examples:
        >>> antithetic_orders(4, 4, seed=0)[1] == antithetic_orders(4, 4, seed=0)[0][::-1]
        True
    """
    if count < 2:
        return (tuple(range(count)),)
    drawn: dict[tuple[int, ...], None] = {}
    generator = random.Random(seed)
    if orders >= math.factorial(count):
        rest = itertools.permutations(range(count))
        drawn = dict.fromkeys(each for each in rest if each < each[::-1])
    while len(drawn) < min(orders, math.factorial(count)) // 2:
        each = tuple(generator.sample(range(count), count))
        if each[::-1] not in drawn:
            drawn[each] = None
    return tuple(itertools.chain.from_iterable((each, each[::-1]) for each in drawn))
