"""Compares all inference strategies at the test, with the any-order oracle and its control.

Shape suffixes: N samples, B batch, C classes, K orders, M modalities.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmeq.callbacks.drawing import draw_figures
from mmeq.callbacks.predictions import _gather
from mmeq.callbacks.record import fusion_name
from mmeq.callbacks.router import keep, learnt, needs_router
from mmeq.files import plain
from mmeq.fusions.orders import Orders
from mmeq.game.coalitions import all_coalitions
from mmeq.inference.base import Strategy
from mmeq.inference.build import build_strategy
from mmeq.inference.oracle import unlockable
from mmeq.inference.orders import HYBRID_LIMIT, Inference, antithetic_orders, inference_orders

EVERY, DRAWN = 5, 64
"""All orders are tried up to 5 modalities, 64 of them beyond."""
GAME = 10
"""Most modalities for which the cells of all coalitions are counted."""


def studied_orders(count: int, seed: int) -> Orders:
    """Return the orders that the oracle may choose from."""
    if count <= EVERY:
        return inference_orders("hybrid", range(count))
    return antithetic_orders(count, DRAWN, seed)


class OrderStudy(Callback):
    """Answer every test sample by every strategy, from features that were encoded once.

    Writes ``strategies`` into the module's findings, and so into ``results.json``: for each
    strategy its accuracy, the part of the gap between hybrid and the any-order oracle that it
    closes (as it is, and of what chance does not explain, see `mmeq.inference.oracle`), the cells
    that a prediction and that all coalitions cost, and the mean number of orders; the router's
    cross-fitted validation accuracy; oracle, control, gap and excess. All with 95 % intervals.
    Prints a table and draws ``figures/strategies.png``.

    The router is fitted on the validation part and kept in the tested checkpoint, so that
    `mmeq.eval` can use it. A fusion without an order answers alike under every strategy: the
    finding says so, and nothing is compared.

    Args:
        run_dir: the run folder.
        draws: bootstrap resamples.
    """

    def __init__(self, run_dir: str | Path, draws: int = 1000) -> None:
        """Remember where to draw."""
        self.run_dir, self.draws = Path(run_dir), draws
        self.strategies: dict[str, Strategy] = {}
        self._orders: Orders = ()
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Build the strategies for the tested weights, and fit the router."""
        module: Any = pl_module
        self._batches, self.strategies = [], {}
        if not (module.fusion.ordered and module.method.uses_fusion):
            return
        own, count = module.strategy, len(module.spec.names)
        self._orders = studied_orders(count, own.seed)
        for name in get_args(Inference)[1:]:
            if name == "hybrid" and count > HYBRID_LIMIT:
                continue
            made = build_strategy(name, module.order, asdict(own.options), own.seed)
            if made.learns and own.name == name:
                made.load_state(own.state())
            if needs_router(module, made):
                state = learnt(module, trainer.datamodule, made)
                made.load_state(state)
                keep(trainer, state)
            self.strategies[name] = made

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's hook
        batch: Any,  # noqa: ANN401 - Lightning's hook
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note who is right: every order by itself, every strategy."""
        if not self.strategies:
            return
        module: Any = pl_module
        features, label_B = outputs["features"], batch["label"]
        full_1M = torch.ones(1, len(module.spec.names), dtype=torch.bool)
        seen = (features.rows, full_1M)
        logits_K1BC = module.fusion.per_order(*seen, self._orders, features.present_BM)
        right = [logits_K1BC[:, 0].argmax(-1) == label_B]
        for strategy in self.strategies.values():
            logits_1BC = strategy.answer(module.fusion, *seen, features.present_BM, features.ids)
            right.append(logits_1BC.argmax(-1) == label_B)
        self._batches.append((torch.cat(right).T.cpu(), batch["index"].cpu(), label_B.cpu()))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the ranks and measure."""
        module: Any = pl_module
        if not self.strategies:
            fusion = fusion_name(module)
            note = f"fusion {fusion} has no order of modalities: all strategies coincide"
            module.findings["strategies"] = {"note": note}
            return
        facts = {name: strategy.facts() for name, strategy in self.strategies.items()}
        parts = _gather(self._batches, trainer)
        self._batches = []
        if parts is None:
            return
        batches = [batch for part in parts for batch in part]
        right_NX, index_N = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
        _, first_N = _first(index_N)
        right_NX = right_NX[first_N]
        module.findings["strategies"] = self.measured(right_NX, facts, len(module.spec.names))

    def measured(self, right_NX: Tensor, facts: dict[str, Any], count: int) -> dict[str, Any]:
        """Return the finding.

        Args:
            right_NX: bool, the orders' columns, then the strategies'.
            facts: what the strategies counted.
            count: M.
        """
        right_NK, chosen_NX = right_NX.split([len(self._orders), len(self.strategies)], 1)
        columns = dict(zip(self.strategies, chosen_NX.unbind(1), strict=True))
        reference = "hybrid" if "hybrid" in columns else "sampled"
        found = asdict(unlockable(right_NK, columns, reference, self.draws))
        full_1M = torch.ones(1, count, dtype=torch.bool)
        table = {}
        for name, strategy in self.strategies.items():
            table[name] = {
                "accuracy": found["accuracy"][name],
                "closed": found["closed"][name],
                "closed_excess": found["closed_excess"][name],
                "orders": facts[name].get("orders", len(strategy.orders)),
                "cells": strategy.cells(full_1M),
                **{k: v for k, v in facts[name].items() if k == "error"},
            }
            if count <= GAME:
                table[name]["cells_game"] = strategy.cells(all_coalitions(count)[1:])
            if (state := strategy.state()) is not None:
                table[name]["validation"] = state["validation"]
        each_K = right_NK.double().mean(0)
        return plain(
            {
                "samples": len(right_NX),
                "reference": reference,
                "strategies": table,
                **{key: found[key] for key in ("oracle", "control", "gap", "excess")},
                "orders": {
                    "tried": len(self._orders),
                    "mean": each_K.mean(),
                    "worst": each_K.min(),
                    "best": each_K.max(),
                },
            }
        )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table and draw the figure."""
        module: Any = pl_module
        if not trainer.is_global_zero:
            return
        from mmeq.callbacks import plot_orders
        from mmeq.callbacks.terminal import emit

        entry = module.findings["strategies"]
        emit(*plot_orders.strategy_lines(entry))
        if "note" not in entry:
            drawn = {"strategies": lambda: plot_orders.plot_strategies(entry)}
            draw_figures(trainer, self.run_dir, drawn)


def _first(index_N: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct indices, ascending, and where each comes first."""
    ordered_N, place_N = index_N.sort(stable=True)
    new_N = torch.ones_like(ordered_N, dtype=torch.bool)
    new_N[1:] = ordered_N[1:] != ordered_N[:-1]
    return ordered_N[new_N], place_N[new_N]
