"""Warns, with advice, when a run shows one of the failures that balanced training is known for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.text import Text

from mmeq.callbacks.terminal import emit
from mmeq.errors import MmeqError
from mmeq.files import plain

# Shape suffixes: M modalities, E epochs.

Line = Mapping[str, Any]
"""What is kept of an epoch: see `Monitor.line`."""

NOISE = 2.0
"""A gap below so many standard errors is within noise."""
EDM_LOW = 20.0
"""EDM in percent that nobody needs to lower: with two modalities, shares of 60 and 40."""
SWING, STILL = 0.1, 0.02
"""A loss swings or rises when it moves by so much of its level, and of where it started."""


class Monitor(Callback):
    """Look at the epochs so far and say once, when it is certain, what goes wrong and what to do.

    Signatures [paper: named as failures; the rules are ours]: an order that flips every epoch
    (`order_flips`), an EDM that does not fall (`edm_stuck`), a loss that oscillates
    (`loss_oscillates`) or rises (`loss_rises`). A loss that is not finite is `LossGuard`'s.
    What was said stands in ``results.json`` under ``warnings``.

    Args:
        flips: epochs in a row that must change the order, 3 or more.
        patience: epochs over which EDM must fall, 4 or more.
        window: epochs over which a loss is judged, 6 or more.
    """

    def __init__(self, flips: int = 5, patience: int = 10, window: int = 8) -> None:
        """Start with no epoch seen."""
        for option, value, least in (
            ("flips", flips, 3),
            ("patience", patience, 4),
            ("window", window, 6),
        ):
            if value < least:
                raise MmeqError(f"callbacks.monitor.{option}={value}: give {least} or more")
        self.flips, self.patience, self.window = flips, patience, window
        self.lines: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, after validation and before the epoch's checkpoint is written."""
        module: Any = pl_module
        if module.report is None:
            return
        self.lines.append(self.line(trainer.current_epoch, module))
        options = {name for name in ("hysteresis", "ema") if hasattr(module.method, name)}
        said = {warning["signature"] for warning in self.warnings}
        found = {
            "order flips": order_flips(self.lines, self.flips, options),
            "EDM does not fall": edm_stuck(self.lines, self.patience),
            "loss oscillates": loss_oscillates(self.lines, self.window),
            "loss rises": loss_rises(self.lines, self.window),
        }
        for signature, text in found.items():
            if text is None or signature in said:
                continue
            warning = {"signature": signature, "epoch": trainer.current_epoch, "text": text}
            self.warnings.append(warning)
            if trainer.is_global_zero:
                emit(Text("warning: ", style="bold yellow").append(text, style="not bold default"))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the warnings for the results; also of a resumed run with no epoch left."""
        module: Any = pl_module
        module.findings["warnings"] = list(self.warnings)

    @staticmethod
    def line(epoch: int, module: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return what is kept of an epoch, in plain types: it is checkpointed."""
        report = module.report
        scores = module.method.describe().get("scores")
        return plain(
            {
                "epoch": epoch,
                "order": tuple(module.order),
                "next_order": tuple(module.method.order),
                "names": report.modalities,
                "scores": report.phi if scores is None else list(scores.values()),
                "phi": report.phi,
                "phi_se": report.phi_se,
                "gap_se": report.gap_se,
                "edm": {"value": report.edm, "low": report.edm_low, "high": report.edm_high},
                "losses": module.train_losses,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Into the checkpoint: what a resumed run must know."""
        return {"lines": list(self.lines), "warnings": list(self.warnings)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.lines, self.warnings = list(state_dict["lines"]), list(state_dict["warnings"])


def order_flips(
    lines: Sequence[Line], epochs: int = 5, options: set[str] | frozenset[str] = frozenset()
) -> str | None:
    """Warn when each of the last epochs changed the order and some pair went back and forth.

    Only changes that follow the scores, up or down, count: an order drawn at random is left alone.
    The pair is within noise when its mean gap in φ is below `NOISE` mean standard errors of it.

    Args:
        lines: all epochs so far.
        epochs: how many must have changed the order.
        options: options that the method has and that would calm it.
    """
    recent = lines[-epochs:]
    directions = set().union(*map(_direction, recent))
    if len(recent) < epochs or len(directions) != 1 or not all(map(_direction, recent)):
        return None
    count = len(recent[0]["order"])
    flips = {
        pair: sum(_before(line["order"], pair) != _before(line["next_order"], pair)
                  for line in recent)
        for pair in combinations(range(count), 2)
    }  # fmt: skip
    # each epoch's change is made of swaps: when all pairs moved once only, the order settles
    back_and_forth = {pair: flipped for pair, flipped in flips.items() if flipped >= 3}
    if not back_and_forth:
        return None
    i, j = max(back_and_forth, key=lambda pair: back_and_forth[pair])
    names = recent[0]["names"]
    gap = _mean([abs(line["phi"][i] - line["phi"][j]) for line in recent])
    se = _mean([line["gap_se"][i][j] for line in recent])
    head = (
        f"the order changed in each of the last {epochs} epochs; {names[i]} and {names[j]} swapped "
        f"{back_and_forth[i, j]} times. Their gap in φ is {gap:.3g} on average, with a standard "
        f"error of {se:.3g}: "
    )
    calm = " or ".join(
        text
        for option, text in (
            ("hysteresis", "method.hysteresis=1 (swap only beyond the noise)"),
            ("ema", "method.ema=0.7 (average over epochs)"),
        )
        if option in options
    )
    if gap < NOISE * se:
        return (
            f"{head}within noise, so the order between them is a coin toss and says nothing. "
            + (f"Give {calm}, or method.order=fixed" if calm else "More validation data would help")
        )
    return (
        f"{head}beyond noise, so each epoch really turns them round: steps overshoot. Lower "
        "optim.optimizer.lr" + (f", or give {calm}" if calm else "")
    )


def _before(order: Sequence[int], pair: tuple[int, int]) -> bool:
    return list(order).index(pair[0]) < list(order).index(pair[1])


def _direction(line: Line) -> set[bool]:
    """Whether pairs were swapped to ascend in the scores or to descend; empty for no change."""
    now, after, scores = line["order"], line["next_order"], line["scores"]
    swapped = [
        pair
        for pair in combinations(range(len(now)), 2)
        if _before(now, pair) != _before(after, pair)
    ]
    return {(scores[i] <= scores[j]) == _before(after, (i, j)) for i, j in swapped}


def edm_stuck(lines: Sequence[Line], epochs: int = 10) -> str | None:
    """Warn when EDM stays where it is, well above zero and above what noise alone would give.

    Compared are the means of the first and of the last third of the epochs: a fall below 5 % of
    the level counts as none. Noise alone gives about 100 Σ_m 0.8 se(φ_m) / Σ_m φ_m percent; in
    every epoch EDM's interval must lie above that.

    Args:
        lines: all epochs so far.
        epochs: over which it must fall.
    """
    recent = lines[-epochs:]
    values = [line["edm"]["value"] for line in recent]
    if len(recent) < epochs or any(value is None for value in values):
        return None
    third = max(1, epochs // 3)
    start, end, level = _mean(values[:third]), _mean(values[-third:]), _mean(values)
    floors = [_noise_edm(line) for line in recent]
    low = [line["edm"]["low"] for line in recent]
    above = level > max(EDM_LOW, NOISE * _mean(floors))
    above = above and all(a is not None and a > b for a, b in zip(low, floors, strict=True))
    if not above or start - end > 0.05 * level:
        return None
    phi = recent[-1]["phi"]
    weakest = recent[-1]["names"][min(range(len(phi)), key=lambda m: phi[m])]
    return (
        f"EDM does not fall: {start:.1f} % → {end:.1f} % over the last {epochs} epochs, where "
        f"noise alone would give about {_mean(floors):.1f} %. {weakest} contributes least. It may "
        f"simply know less: train it alone (method=unimodal method.modality={weakest}) and "
        "compare; callbacks=probe tells whether its encoder was held back. Else steps that the "
        "modality must answer alone balance most: method=shapley method.supervise=unimodal, with "
        "a larger method.weight"
    )


def _noise_edm(line: Line) -> float:
    total = sum(max(value, 0.0) for value in line["phi"])
    return 100 * 0.8 * sum(line["phi_se"]) / total if total > 0 else math.inf


def loss_oscillates(lines: Sequence[Line], epochs: int = 8) -> str | None:
    """Warn when a training loss goes up and down by large steps without getting anywhere.

    At least three of four successive changes turn round; the mean change is over `SWING` of the
    level and over `STILL` of the first loss, and larger than the trend over the window.

    Args:
        lines: all epochs so far.
        epochs: to judge by.
    """
    found = []
    for name, (first, recent) in _series(lines, epochs).items():
        steps = [b - a for a, b in pairwise(recent)]
        turns = sum(a * b < 0 for a, b in pairwise(steps))
        size, level = _mean([abs(step) for step in steps]), _mean(recent)
        half = len(recent) // 2
        trend = abs(_mean(recent[-half:]) - _mean(recent[:half]))
        large = size > SWING * level and size > STILL * first and size > trend
        if large and turns >= 0.75 * (len(steps) - 1):
            found.append(f"{name} (by {size:.3g} around {level:.3g})")
    if not found:
        return None
    return (
        f"the loss oscillates over the last {epochs} epochs: {', '.join(found)}. Lower "
        "optim.optimizer.lr, set optim.clip_norm=1, or take a larger batch_size"
    )


def loss_rises(lines: Sequence[Line], epochs: int = 8) -> str | None:
    """Warn when a training loss has been rising: in three of four steps, and over all by much.

    Args:
        lines: all epochs so far.
        epochs: to judge by.
    """
    found = []
    for name, (first, recent) in _series(lines, epochs).items():
        up = sum(b > a for a, b in pairwise(recent))
        half = len(recent) // 2
        gain = _mean(recent[-half:]) - _mean(recent[:half])
        large = gain > SWING * _mean(recent[:half]) and gain > STILL * first
        if large and up >= 0.75 * (len(recent) - 1):
            found.append(f"{name} ({recent[0]:.3g} → {recent[-1]:.3g})")
    if not found:
        return None
    return (
        f"the training loss rises over the last {epochs} epochs: {', '.join(found)}. Lower "
        "optim.optimizer.lr; if other losses fall meanwhile, modalities work against each other: "
        "give it more weight, or method.alternate=batch"
    )


def _series(lines: Sequence[Line], epochs: int) -> dict[str, tuple[float, list[float]]]:
    """Each loss's first finite value and its values in the last epochs, where it is there in all.

    A loss that some epochs lack (one modality an epoch) is judged by the epochs that have it.
    """
    found = {}
    for name in dict.fromkeys(name for line in lines for name in line["losses"]):
        values = [line["losses"].get(name) for line in lines]
        there = [value for value in values if value is not None]
        if len(there) >= epochs:
            found[name] = (abs(there[0]), there[-epochs:])
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
