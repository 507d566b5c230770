"""How costs grow: exponents fitted to 4 or 5 sizes, beside what the arithmetic says.

Cost ~ size^exponent, by least squares on logarithms. Small encoders are measured, so that what
grows is mmeq's own part. Where a fixed cost still counts the exponent is below the expected one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from coalitions import CLASSES, memory_of, seconds
from measure import Line, in_turn
from models import Batches, Shapley, build, device, epoch, moved

from mmeq.game import all_coalitions
from mmeq.game.bootstrap import bootstrap_draws, mean_statistic
from mmeq.game.measure import measure_game

Runs = dict[int, Callable[[], float]]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size, by least squares.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(set(sizes)) < 2:
        raise ValueError(f"an exponent needs two sizes, got {list(sizes)}")
    xs, ys = ([math.log(value) for value in values] for values in (sizes, costs))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return above / sum((a - x) ** 2 for a in xs)


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    grows = partial(grown, 2 if quick else 5, 4 if quick else 5)
    large = (512, 1024, 2048, 4096, 8192)
    yield grows("training step with B, MLP x 3", large, train_batch, 1, "B samples")
    yield grows(
        "training step with M, MLP, B=1024", (2, 3, 4, 6, 8), train_many, 2, "M steps, M cells each"
    )
    yield grows(
        "training step with C, MLP x 3, B=64", large, train_classes, 1, "readouts of C classes"
    )
    yield grows("coalition tree with B, M=3", large, tree_batch, 1, "B samples")
    yield grows(
        "coalition tree with its cells, M=4 to 8, one order, B=256",
        (15, 31, 63, 127, 255),
        tree_cells,
        1,
        "2^M - 1 cells",
    )
    yield grows("validation step with B, MLP x 3", large, validate_batch, 1, "B samples")
    yield grows("validation step with C, MLP x 3, B=64", large, validate_classes, 1, "logits")
    samples = (1000, 2000, 4000, 8000, 16000)
    yield grows("bootstrap of 1,000 draws with N, 7 coalitions", samples, drawn, 1, "N samples")
    yield grows("report of the game with N, M=3", samples, reported, 1, "N samples, in the draws")


def grown(
    repeats: int,
    count: int,
    name: str,
    sizes: Sequence[int],
    make: Callable[[int], Callable[[], float]],
    expected: int,
    reason: str,
) -> Line:
    """Measure the sizes in turn; the least seconds of each say what it costs."""
    chosen = list(sizes)[:count]
    found = in_turn({size: make(size) for size in chosen}, repeats)
    costs = [min(values) for values in found.values()]
    told = {"exponent": exponent(chosen, costs), "expected": expected, "reason": reason}
    return {"name": name, **told, "sizes": chosen, "repeats": repeats, "seconds": costs}


def step(batch: int, modalities: int, classes: int) -> Callable[[], float]:
    """A training step, the mean of two."""
    batches = Batches("MLP", modalities, 2, batch, classes)
    run = epoch(build("MLP", modalities, Shapley, classes), batches)
    return lambda: run() / 2


def train_batch(size: int) -> Callable[[], float]:
    """By samples a batch."""
    return step(size, 3, CLASSES)


def train_many(size: int) -> Callable[[], float]:
    """By modalities."""
    return step(1024, size, CLASSES)


def train_classes(size: int) -> Callable[[], float]:
    """By classes."""
    return step(64, 3, size)


def tree_batch(size: int) -> Callable[[], float]:
    """All coalitions under all orders, by samples a batch."""
    memory, features = memory_of(3, size)
    return seconds(lambda: memory(features, all_coalitions(3)[1:]), 3)


def tree_cells(size: int) -> Callable[[], float]:
    """All coalitions of M modalities under one order, by 2^M - 1."""
    modalities = (size + 1).bit_length() - 1
    memory, features = memory_of(modalities, 256)
    order, every = (tuple(range(modalities)),), all_coalitions(modalities)[1:]
    return seconds(lambda: memory(features, every, order), 3)


def validated(batch: int, classes: int) -> Callable[[], float]:
    """A validation step: encoders, all coalitions, and what the game keeps of them."""
    module = build("MLP", 3, Shapley, classes).eval()
    (one,) = (moved(one, device()) for one in Batches("MLP", 3, 1, batch, classes))

    def work() -> None:
        module.validation_step(one, 0)
        module.val_game.reset()

    return seconds(work, 3)


def validate_batch(size: int) -> Callable[[], float]:
    """By samples a batch."""
    return validated(size, CLASSES)


def validate_classes(size: int) -> Callable[[], float]:
    """By classes."""
    return validated(64, size)


def drawn(size: int) -> Callable[[], float]:
    """By samples."""
    hit_NS = torch.rand(size, 7, generator=torch.Generator().manual_seed(0)) < 0.7
    return seconds(lambda: bootstrap_draws(mean_statistic(hit_NS), size))


def reported(size: int) -> Callable[[], float]:
    """By samples."""
    generator = torch.Generator().manual_seed(0)
    label_N = torch.randint(CLASSES, (size,), generator=generator)
    prediction_NS = torch.randint(CLASSES, (size, 7), generator=generator)
    nll_NS = torch.rand(size, 7, generator=generator)
    prior = torch.ones(CLASSES)
    return seconds(lambda: measure_game(list("abc"), prediction_NS, nll_NS, label_N, prior))
