"""Bench of what happens after the encoders: coalitions, strategies, exact Shapley values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from measure import ratio
from torch import Tensor

from mmeq.fusions.memory import Memory
from mmeq.game import all_coalitions, estimate, shapley_values
from mmeq.inference.base import Strategy
from mmeq.inference.build import build_strategy
from mmeq.inference.orders import inference_orders

DIM, CLASSES = 64, 6


def lines(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements."""
    yield tree_against_passes()
    yield exact_against_passes(400 if quick else 2000, 3)
    yield exact_against_shapiq(400 if quick else 2000, 3)
    for modalities in (4, 5, 6):
        for name in ("hybrid", "cyclic", "sampled"):
            yield strategy_against_one(name, modalities, 3 if quick else 5)


def strategy_against_one(name: str, modalities: int, repeats: int) -> dict[str, Any]:
    """A fused prediction from cached features: a strategy against memory_guided, with cells."""
    torch.manual_seed(0)
    memory = Memory(modalities, DIM, CLASSES, torch.full((CLASSES,), 1 / CLASSES)).eval()
    features = [torch.randn(256, DIM) for _ in range(modalities)]
    full = torch.ones(1, modalities, dtype=torch.bool)
    made, one = (build_strategy(n, range(modalities)) for n in (name, "memory_guided"))

    def answer(strategy: Strategy) -> Callable[[], float]:
        @torch.inference_mode()
        def run() -> float:
            start = time.perf_counter()
            for _ in range(3):
                strategy.answer(memory, features, full)
            return time.perf_counter() - start

        return run

    line = ratio(
        f"{name} / one order, features cached, M={modalities}", *map(answer, (made, one)), repeats
    )
    cells = {"cells": made.cells(full), "cells_one_order": one.cells(full)}
    print(f"{'':<8}cells {cells['cells']:.1f} / {cells['cells_one_order']:.0f}", flush=True)
    return {**line, **cells, **made.facts()}


def tree_against_passes() -> dict[str, Any]:
    """All 7 coalitions under all 6 orders at M=3: one walk against one fusion pass each."""
    memory = Memory(3, DIM, CLASSES, torch.full((CLASSES,), 1 / CLASSES)).eval()
    features = [torch.randn(256, DIM) for _ in range(3)]
    coalitions = torch.tensor([[bool(row >> m & 1) for m in range(3)] for row in range(1, 8)])
    orders = inference_orders("hybrid", (0, 1, 2))

    @torch.inference_mode()
    def walk() -> float:
        start = time.perf_counter()
        for _ in range(20):
            memory(features, coalitions, orders)
        return time.perf_counter() - start

    @torch.inference_mode()
    def passes() -> float:
        start = time.perf_counter()
        for _ in range(20):
            for coalition in coalitions:
                for order in orders:
                    memory(features, coalition[None], (order,))
        return time.perf_counter() - start

    return ratio("coalition tree / one fusion pass a coalition and order, M=3", walk, passes, 5)


def game_of_ten(samples: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """v(S), the accuracy of a memory over ten cached modalities, and all 2^10 coalitions."""
    torch.manual_seed(0)
    memory = Memory(10, DIM, CLASSES, torch.full((CLASSES,), 1 / CLASSES)).eval()
    label = torch.randint(CLASSES, (samples,))
    features = [torch.randn(samples, DIM) for _ in range(10)]

    @torch.inference_mode()
    def value(coalitions: Tensor) -> Tensor:
        right = torch.zeros(len(coalitions), dtype=torch.int64)
        for rows in torch.arange(samples).split(100):
            logits = memory([row[rows] for row in features], coalitions)
            right += (logits.argmax(-1) == label[rows]).sum(1)
        return right.double() / samples

    return value, all_coalitions(10)


def exact_against_passes(samples: int, repeats: int) -> dict[str, Any]:
    """Exact values at M=10 over cached features: one walk against 2^M fusion passes."""
    value, every = game_of_ten(samples)

    def walk() -> float:
        start = time.perf_counter()
        shapley_values(value(every))
        return time.perf_counter() - start

    def passes() -> float:
        start = time.perf_counter()
        shapley_values(torch.cat([value(row[None]) for row in every]))
        return time.perf_counter() - start

    name = f"exact phi, M=10, {samples} samples: one walk / 2^M fusion passes"
    return ratio(name, walk, passes, repeats)


def exact_against_shapiq(samples: int, repeats: int) -> dict[str, Any]:
    """Exact values at M=10 from the same value function: mmeq against shapiq's exact computer."""
    from shapiq.game_theory.exact import ExactComputer

    value, _ = game_of_ten(samples)

    def ours() -> float:
        start = time.perf_counter()
        estimate(value, 10, "exact")
        return time.perf_counter() - start

    def theirs() -> float:
        start = time.perf_counter()
        game = ExactComputer(
            lambda rows: value(torch.from_numpy(np.atleast_2d(rows).astype(bool))).numpy(),
            n_players=10,
        )
        game("SV", 1)
        return time.perf_counter() - start

    name = f"exact phi, M=10, {samples} samples, same value function / shapiq"
    return ratio(name, ours, theirs, repeats)
