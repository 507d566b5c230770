"""Hands each validation's game to the method, which sets the order of the next epoch."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.errors import MmeqError
from mmeq.game.certainty import check_subset, stratified_subset, subset_size
from mmeq.game.order import kendall_tau, next_order
from mmeq.game.report import GameReport


class ShapleyScheduler(Callback):
    """Measure on the validation set, reorder for the next epoch.

    The method holds the rule and its state (`Method.on_report`), so that they are checkpointed with
    it; this callback only says when: after the module has its report, before the checkpoint is
    written, so that a resumed run starts with the same order as an uninterrupted one.

    Lightning calls a callback's ``on_validation_epoch_end`` *before* the module's, where the report
    is made; hence ``on_validation_end``.

    With `subset` the method sees the game over some of the validation samples only, the same ones
    in every epoch and on every rank, drawn by the run's seed and stratified by class. What that
    costs is told beside it: ``subset`` in the history has the certainty of the ranking by φ on
    these samples (see `mmeq.game.certainty`), to be compared with ``certainty`` on all, and
    Kendall's τ between both rankings. The report itself stays that of all samples.

    Args:
        subset: share (0 < subset ≤ 1) or number (2 or more) of the validation samples that the
            order is set by; None for all.

    Attributes:
        kendall_tau: rank correlation of the order used and the next one; 1 no change, −1 reversed.
    """

    def __init__(self, subset: float | int | None = None) -> None:
        """Start without a measurement."""
        try:
            check_subset(subset)
        except MmeqError as error:
            raise MmeqError(f"callbacks.scheduler.{error}") from error
        self.subset = subset
        self.kendall_tau: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a subset that the validation part cannot give, before an epoch is trained."""
        data: Any = getattr(trainer, "datamodule", None)
        if data is not None and self.subset is not None:
            self._size(len(data.manifest.rows("validation")))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the method choose the next order, at the end of a training epoch only."""
        module: Any = pl_module
        # A stand-alone trainer.validate measures a model; it must not move its order.
        if trainer.sanity_checking or trainer.state.fn != "fit" or module.report is None:
            return
        report = module.report
        if self.subset is not None:
            report = self._part(module)
            module.epoch_findings["subset"] = cost(report, module.report)
        module.method.on_report(report, trainer.current_epoch)
        used, following = tuple(module.order), tuple(module.method.order)
        self.kendall_tau = float(kendall_tau(used, following))

    def _part(self, module: Any) -> GameReport:  # noqa: ANN401
        game = module.val_game
        size = self._size(len(game.labels))
        return game.replay(stratified_subset(game.labels, size, module.seed))

    def _size(self, samples: int) -> int:
        try:
            return subset_size(samples, self.subset)
        except MmeqError as error:
            raise MmeqError(f"callbacks.scheduler.{error}") from error


def cost(part: GameReport, whole: GameReport) -> dict[str, Any]:
    """Say what ranking by a part of the samples costs.

    Args:
        part: report over the subset.
        whole: report over all samples.

    Returns:
        ``samples``, the ``certainty`` of order and weakest on the subset, and ``kendall_tau``
        between the rankings by φ of both.
    """
    start = range(len(part.phi))
    ranks = (next_order(report.phi, start) for report in (part, whole))
    return {
        "samples": part.samples,
        "certainty": {"order": part.order_certainty, "weakest": part.weakest_certainty},
        "kendall_tau": kendall_tau(*ranks),
    }
