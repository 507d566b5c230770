"""Inference strategies over features that were encoded once, against the mean over all orders.

Shape suffixes: N samples, D width, M modalities, C classes, K orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.config import Run
from mmeq.fusions.base import Fusion
from mmeq.inference.base import Strategy
from mmeq.inference.build import build_strategy
from mmeq.inference.orders import antithetic_orders

CHUNK = 128
"""Samples answered at a time: all orders of six modalities have 1,956 states each."""
OTHER_SEED = 10_000
"""Added to the seed for the orders of the reference, so that it holds none on purpose."""


class Fixed(Strategy):
    """The mean over given orders."""

    def __init__(self, orders: Sequence[tuple[int, ...]]) -> None:
        super().__init__("memory_guided", range(len(orders[0])))
        self.orders = tuple(orders)


def strategies(order: Sequence[int], seed: int, options: Mapping[str, Any]) -> dict[str, Strategy]:
    """All that are compared, by name; the reference first.

    Args:
        order: of the last training epoch, weakest modality first.
        seed: of the run; it draws the sampled orders.
        options: ``orders``, ``certainty``, ``hybrid`` and ``reference``, see sweep.yaml.
    """
    count = len(order)
    if count <= options["hybrid"]:
        found = {"reference": build_strategy("hybrid", order)}
    else:
        drawn = antithetic_orders(count, options["reference"], seed + OTHER_SEED)
        found = {"reference": Fixed(drawn)}
    for name in ("memory_guided", "cyclic", "per_sample"):
        found[name] = build_strategy(name, order, seed=seed)
    for size in options["orders"]:
        if size < 4:
            found[f"sampled {size}"] = Fixed(antithetic_orders(count, size, seed))
            continue
        for name, certainty in (("sampled", None), ("adaptive", options["certainty"])):
            given = {"orders": size, "certainty": certainty}
            found[f"{name} {size}"] = build_strategy("sampled", order, given, seed)
    return found


@torch.inference_mode()
def encoded(run: Run, loader: Iterable[Any]) -> tuple[list[Tensor], Tensor]:
    """Features M × [N, D] and labels [N]."""
    rows, labels = [], []
    for batch in loader:
        rows.append(run.module.encode(batch).rows)
        labels.append(batch["label"])
    return [torch.cat(part) for part in zip(*rows, strict=True)], torch.cat(labels)


@torch.inference_mode()
def predicted(strategy: Strategy, fusion: Fusion, features: Sequence[Tensor]) -> Tensor:
    """Classes [N] of complete samples."""
    full_1M = torch.ones(1, len(features), dtype=torch.bool)
    parts = zip(*(feature.split(CHUNK) for feature in features), strict=True)
    return torch.cat([strategy.answer(fusion, part, full_1M)[0].argmax(-1) for part in parts])


def measured(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy, agreement with the reference, mean orders and cells a sample, of each strategy."""
    module = run.module
    features, label_N = encoded(run, run.datamodule.test_dataloader())
    full_1M = torch.ones(1, len(features), dtype=torch.bool)
    found, reference_N = {}, None
    for name, strategy in strategies(module.order, module.seed, options).items():
        class_N = predicted(strategy, module.fusion, features)
        reference_N = class_N if reference_N is None else reference_N
        orders = strategy.facts().get("orders", len(strategy.orders))
        found[name] = [
            round(float((class_N == label_N).double().mean()), 6),
            round(float((class_N == reference_N).double().mean()), 6),
            round(float(orders), 3),
            round(strategy.cells(full_1M), 3),
        ]
    return {"n": len(label_N), "strategies": found}
