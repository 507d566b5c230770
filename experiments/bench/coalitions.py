"""What happens after the encoders: the coalition tree, exact values, bootstrap, strategies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from measure import Line, in_turn, line, now, ratio
from models import BATCHES, Batches, Memory, Plain, build, device, validation
from torch import Tensor

from mmeq.fusions.base import Fusion
from mmeq.game import all_coalitions, estimate, shapley_values
from mmeq.game.bootstrap import bootstrap_draws, mean_statistic
from mmeq.inference.base import Strategy
from mmeq.inference.build import build_strategy
from mmeq.inference.orders import inference_orders
from mmeq.methods.joint import Joint

DIM, CLASSES, BATCH = 64, 6, 256
SAMPLED = 64
"""Single passes that stand for 2^M: as many coalitions, drawn without replacement."""
DRAWS, SAMPLES = 1000, 2000


def lines(quick: bool) -> Iterator[Line]:
    """All measurements."""
    repeats = 3 if quick else 5
    for modalities in range(2, 7):
        yield tree_against_passes(modalities, repeats)
    for modalities in (10,) if quick else (10, 12):
        yield exact_against_passes(modalities, 200 if quick else 2000, repeats)
    yield exact_against_shapiq(200 if quick else 2000, 3)
    yield bootstrap_against_pass(repeats)
    for modalities in (4,) if quick else (4, 5, 6):
        for name in ("hybrid", "cyclic", "sampled"):
            yield strategy_against_one(name, modalities, repeats)


def memory_of(modalities: int, samples: int) -> tuple[Fusion, list[Tensor]]:
    """A memory, and features that the encoders gave."""
    torch.manual_seed(0)
    where = device()
    memory: Fusion = (
        Memory(modalities, DIM, CLASSES, torch.full((CLASSES,), 1 / CLASSES)).eval().to(where)
    )
    return memory, [torch.randn(samples, DIM, device=where) for _ in range(modalities)]


def seconds(work: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """A function that does the work so often and gives its seconds for one."""
    where = device()

    @torch.inference_mode()
    def run() -> float:
        start = now(where)
        for _ in range(times):
            work()
        return (now(where) - start) / times

    return run


def tree_against_passes(modalities: int, repeats: int) -> Line:
    """All coalitions under the default orders: one walk against one fusion pass each."""
    memory, features = memory_of(modalities, BATCH)
    coalitions = all_coalitions(modalities)[1:]
    orders = inference_orders("auto", range(modalities))

    def passes() -> None:
        for coalition in coalitions:
            for order in orders:
                memory(features, coalition[None], (order,))

    walk = seconds(lambda: memory(features, coalitions, orders), 5)
    count = len(coalitions) * len(orders)
    told = f"{len(orders)} order{'s' if len(orders) > 1 else ''}"
    name = f"coalition tree / one fusion pass a coalition and order, M={modalities}, {told}"
    return ratio(name, walk, seconds(passes), repeats, passes=count)


def game(modalities: int, samples: int) -> Callable[[Tensor], Tensor]:
    """v(S), the accuracy of a memory over cached modalities."""
    memory, features = memory_of(modalities, samples)
    label = torch.randint(CLASSES, (samples,)).to(device())

    @torch.inference_mode()
    def value(coalitions: Tensor) -> Tensor:
        right = torch.zeros(len(coalitions), dtype=torch.int64, device=label.device)
        for rows in torch.arange(samples).split(100):
            rows = rows.to(label.device)
            logits = memory([row[rows] for row in features], coalitions)
            right += (logits.argmax(-1) == label[rows]).sum(1)
        return right.double().cpu() / samples

    return value


def exact_against_passes(modalities: int, samples: int, repeats: int) -> Line:
    """Exact values over cached features: one walk against 2^M fusion passes, some measured."""
    value, every = game(modalities, samples), all_coalitions(modalities)
    some = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:SAMPLED]

    def walk() -> float:
        start = time.perf_counter()
        shapley_values(value(every))
        return time.perf_counter() - start

    def passes() -> float:
        start = time.perf_counter()
        for row in every[some]:
            value(row[None])
        return (time.perf_counter() - start) * len(every) / len(some)

    name = (
        f"exact phi, M={modalities}, {samples} samples: one walk / {len(every)} fusion passes "
        f"({len(some)} measured, scaled)"
    )
    return ratio(name, walk, passes, repeats)


def exact_against_shapiq(samples: int, repeats: int) -> Line:
    """Exact values at M=10 from the same value function: mmeq against shapiq's exact computer."""
    from shapiq.game_theory.exact import ExactComputer

    value = game(10, samples)

    def ours() -> float:
        start = time.perf_counter()
        estimate(value, 10, "exact")
        return time.perf_counter() - start

    def theirs() -> float:
        start = time.perf_counter()
        computer = ExactComputer(
            lambda rows: value(torch.from_numpy(np.atleast_2d(rows).astype(bool))).numpy(),
            n_players=10,
        )
        computer("SV", 1)
        return time.perf_counter() - start

    name = f"exact phi, M=10, {samples} samples, same value function / shapiq"
    return ratio(name, ours, theirs, repeats)


def bootstrap_against_pass(repeats: int) -> Line:
    """Draws of the accuracies of 7 coalitions against a validation pass of their encoders."""
    hit_NS = torch.rand(SAMPLES, 7, generator=torch.Generator().manual_seed(0)) < 0.7
    batches = Batches("ResNet-18", 3, 1)
    plain = validation(build("ResNet-18", 3, Joint, of=Plain), batches)

    def draw() -> float:
        start = time.perf_counter()
        bootstrap_draws(mean_statistic(hit_NS), SAMPLES, DRAWS)
        return time.perf_counter() - start

    found = in_turn({"draw": draw, "plain": plain}, repeats)
    scaled = [one * SAMPLES / BATCHES["ResNet-18"] for one in found["plain"]]
    name = (
        f"bootstrap, {DRAWS} draws of 7 coalitions, N={SAMPLES} / plain validation, ResNet-18 x 3 "
        f"({BATCHES['ResNet-18']} samples measured, scaled)"
    )
    return line(name, found["draw"], scaled)


def strategy_against_one(name: str, modalities: int, repeats: int) -> Line:
    """A fused prediction from cached features: a strategy against memory_guided, with cells."""
    memory, features = memory_of(modalities, BATCH)
    full = torch.ones(1, modalities, dtype=torch.bool)
    made, one = (build_strategy(n, range(modalities)) for n in (name, "memory_guided"))

    def answer(strategy: Strategy) -> Callable[[], float]:
        return seconds(lambda: strategy.answer(memory, features, full), 3)

    told = f"{name} / one order, features cached, M={modalities}"
    found = ratio(told, answer(made), answer(one), repeats)
    return {**found, "cells": [made.cells(full), one.cells(full)], **made.facts()}
