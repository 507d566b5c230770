"""Training in an order that is wrong: what it costs on the test part, and how wrong it was."""

from __future__ import annotations

from statistics import mean
from typing import Any

from engine.trained import trained
from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.game import kendall_tau, next_order


class Agreement(Callback):
    """Kendall's τ between each next order and the one by exact φ of all validation samples."""

    def __init__(self) -> None:
        self.taus: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, after the scheduler has set the order."""
        module: Any = pl_module
        exact = next_order(module.report.phi, range(len(module.report.phi)))
        self.taus.append(kendall_tau(module.method.order, exact))


def measured(overrides: list[str]) -> dict[str, Any]:
    """Train once, and tell what the best epoch by validation does on the test part."""
    agreement = Agreement()
    run = trained(overrides, [agreement])
    report = run.module.test_report
    return {
        "accuracy": float(report.values["accuracy"][-1]),
        "edm": report.edm,
        "proper": report.proper_mean,
        "tau": mean(agreement.taus[:-1]),  # the last order is not trained in
    }
