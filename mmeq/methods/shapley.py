"""Shapley-guided alternating training (Modality Equilibrium Matters, arXiv 2506.00030)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.coalitions import MAX_MODALITIES
from mmeq.game.order import next_order, random_order
from mmeq.game.report import GameReport
from mmeq.methods.base import Batch, Loop, Method
from mmeq.methods.steps import Supervise, capacity_share, targets

Order = Literal["shapley", "unimodal", "banzhaf", "random", "fixed", "strong_first"]


class Shapley(Method):
    """Alternate over modalities, weakest first, the order set by validation Shapley values.

    For each m of the order π: loss of h_m with its graph and the others detached; step θ_m, memory
    and head [paper]. Next epoch's π ascends in φ [paper]. All encoders are run once a batch
    [ours]. The loss of m = π_k [ours, the paper does not print it]:
    final: CE(all); sequential: CE({π_1..π_k}); unimodal: CE(all) + λ CE({m});
    prefixes: mean over j ≥ k of CE({π_1..π_j}). Encoders with parameters in common are run
    once more each but the first, since every step moves them.

    Args:
        modalities: names.
        seed: of the run, for ``order=random``.
        supervise: the loss of a step, see above.
        weight: λ of ``supervise=unimodal``.
        weigh: ``capacity``: λ_m = λ a_m / max a, a_m = max(v({m}) − v(∅), 0) on the last validation
            [ours], so that a modality which tells nothing alone is not made to; ``equal``: λ.
        order: what sorts the modalities. ``shapley``, ``banzhaf``, ``unimodal`` (value of {m})
            ascend; ``strong_first`` descends in φ; ``random`` draws each epoch; ``fixed`` keeps
            the order of ``dataset.modalities``.
        alternate: ``batch``: every modality in every batch; ``epoch``: one modality an epoch, the
            order set anew after each round of M epochs.
        refresh: encode m again after its step, so that later steps see the new features.
        pace: of memory and head, stepped with every modality: ``batch``: their learning rate is
            divided by the steps in a batch [ours]; ``step``: the full rate each time [paper].
        ema: share of the past in the running mean of the scores, 0 ≤ ema < 1.
        hysteresis: neighbours swap only if their gap exceeds this many standard errors of it.
        warmup: epochs that keep the first order.
    """

    partial_updates = True
    min_modalities = 2
    shares = True

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        supervise: Supervise = "unimodal",
        weight: float = 1.0,
        order: Order = "shapley",
        alternate: Literal["batch", "epoch"] = "batch",
        refresh: bool = False,
        pace: Literal["batch", "step"] = "step",
        weigh: Literal["capacity", "equal"] = "equal",
        ema: float = 0.0,
        hysteresis: float = 0.0,
        warmup: int = 0,
    ) -> None:
        super().__init__(modalities, seed)
        for option, value, known in (
            ("supervise", supervise, get_args(Supervise)),
            ("order", order, get_args(Order)),
            ("alternate", alternate, ("batch", "epoch")),
            ("pace", pace, ("batch", "step")),
            ("weigh", weigh, ("capacity", "equal")),
        ):
            if value not in known:
                raise MmeqError(f"method.{option}={value!r} is unknown{did_you_mean(value, known)}")
        if order == "banzhaf" and (count := len(self.modalities)) > MAX_MODALITIES:
            raise MmeqError(
                f"method.order=banzhaf: {count} modalities are too many to enumerate, and only "
                "their Shapley values are estimated; use method.order=shapley"
            )
        if not 0 <= ema < 1:
            raise MmeqError(f"method.ema={ema}: must be at least 0 and below 1")
        for option, number in (("weight", weight), ("hysteresis", hysteresis), ("warmup", warmup)):
            if not number >= 0:  # NaN neither
                raise MmeqError(f"method.{option}={number}: must be 0 or more")
        self.supervise, self.weight, self.rule = supervise, weight, order
        self.alternate, self.refresh, self.pace = alternate, refresh, pace
        self.ema, self.hysteresis, self.warmup = ema, hysteresis, warmup
        self.weigh, self.share = weigh, [1.0] * len(self.modalities)
        self.scores: list[float] | None = None
        self.on_report_order(epoch=-1)

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step a modality, in order; or of this epoch's modality alone."""
        turns = list(enumerate(self.order))
        if self.alternate == "epoch":
            turns = [turns[loop.epoch % len(turns)]]
        first = turns[:1] if loop.shared else turns  # a step spoils the graphs of what is shared
        features = loop.encode(batch, [m for _, m in first])
        rate = 1 / len(turns) if self.pace == "batch" else 1.0
        losses = {}
        for turn, (place, m) in enumerate(turns):
            if loop.shared and turn:
                features = loop.reencode(batch, features, m, graph=True)
            coalitions_SM, weight_S = self.targets(place, features.rows[m].device)
            logits_SBC = loop.fuse(features.only(m), coalitions_SM, (self.order,))
            loss = loop.loss(logits_SBC, batch["label"]) @ weight_S
            loop.update(loss, [m], fusion_rate=rate)
            losses[f"step/{self.modalities[m]}"] = loss.detach()
            if self.refresh:
                features = loop.reencode(batch, features, m)
        return losses

    def targets(self, place: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Coalitions [S, M] that the step at this place of the order is judged by, weights [S]."""
        weight = self.weight * self.share[self.order[place]]
        return targets(self.supervise, weight, self.order, place, torch.device(device))

    def on_report(self, report: GameReport, epoch: int) -> None:
        """Set the next epoch's order from the validation's values."""
        score, gap_se = {
            "unimodal": (report.alone, report.alone_gap_se),
            "banzhaf": (report.banzhaf, report.banzhaf_gap_se),
        }.get(self.rule, (report.phi, report.gap_se))
        fresh = [float(value) for value in score]
        if self.weigh == "capacity":
            self.share = capacity_share(report)
        past = self.scores or fresh
        self.scores = [self.ema * p + (1 - self.ema) * f for p, f in zip(past, fresh, strict=True)]
        if epoch + 1 < self.warmup or (
            self.alternate == "epoch" and (epoch + 1) % len(self.modalities)
        ):
            return
        self.on_report_order(epoch, gap_se)

    def on_report_order(self, epoch: int, gap_se: Tensor | None = None) -> None:
        """Apply the rule to the running scores."""
        if self.rule == "random":
            self.order = random_order(len(self.modalities), self.seed * 1_000_003 + epoch + 1)
        elif self.rule != "fixed" and self.scores is not None:
            sign = -1.0 if self.rule == "strong_first" else 1.0
            scores = torch.tensor(self.scores, dtype=torch.float64) * sign
            self.order = next_order(scores, self.order, gap_se, self.hysteresis)

    def describe(self) -> dict[str, Any]:
        """The running scores that the order follows, and λ_m / λ."""
        if self.scores is None:
            return {}
        told = {"scores": self.scores, "share": self.share}
        return {name: dict(zip(self.modalities, of, strict=True)) for name, of in told.items()}

    def state(self) -> dict[str, Any]:
        """Order, running scores and shares."""
        return {**super().state(), "scores": self.scores, "share": self.share}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.scores = state["scores"]
        self.share = state.get("share", self.share)  # runs of earlier versions have none
