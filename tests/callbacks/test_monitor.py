"""The monitor's signatures on made-up histories, silent on healthy ones; and in real runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmeq.callbacks.monitor import (
    Monitor,
    edm_stuck,
    loss_oscillates,
    loss_rises,
    order_flips,
)
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.errors import MmeqError
from tests.callbacks.tiny import Stop, Tiny, batches, run, trainer

NAMES = ["a", "b", "c"]


def line(epoch: int = 0, **changes: Any) -> dict[str, Any]:
    """A healthy epoch: a stable order, a small EDM."""
    entry = {
        "epoch": epoch,
        "names": NAMES,
        "order": [0, 1, 2],
        "next_order": [0, 1, 2],
        "phi": [0.2, 0.25, 0.3],
        "phi_se": [0.01, 0.01, 0.01],
        "gap_se": [[0.0 if i == j else 0.015 for j in range(3)] for i in range(3)],
        "edm": {"value": 5.0, "low": 3.0, "high": 8.0},
        "losses": {"step/a": 1.0 * 0.8**epoch},
    }
    entry |= changes
    entry.setdefault("scores", entry["phi"])
    return entry


def flipping(phis: list[list[float]]) -> list[dict[str, Any]]:
    """Epochs whose next order ascends in φ."""
    order, lines = [0, 1, 2], []
    for epoch, phi in enumerate(phis):
        following = sorted(range(3), key=lambda m: phi[m])
        lines.append(line(epoch, order=order, next_order=following, phi=phi))
        order = following
    return lines


LOW, HIGH = [0.205, 0.2, 0.3], [0.2, 0.205, 0.3]


def test_flips_within_noise() -> None:
    lines = flipping([LOW, HIGH] * 3)
    text = order_flips(lines, 5, {"hysteresis", "ema"})
    assert text is not None
    assert "a and b swapped 5 times" in text
    assert "within noise" in text
    for advice in ("method.hysteresis=1", "method.ema=0.7", "method.order=fixed"):
        assert advice in text
    assert "hysteresis" not in order_flips(lines, 5)


def test_flips_beyond_noise() -> None:
    text = order_flips(flipping([[0.4, 0.2, 0.5], [0.2, 0.4, 0.5]] * 3), 5, {"ema"})
    assert text is not None
    assert "beyond noise" in text
    assert "optim.optimizer.lr" in text


def test_no_flip_alarm_on_healthy_orders() -> None:
    assert order_flips([line(epoch) for epoch in range(20)]) is None
    assert order_flips(flipping([LOW, HIGH] * 2)) is None  # too early
    steady = flipping([LOW, HIGH, LOW, LOW, HIGH, LOW])
    assert order_flips(steady) is None  # one quiet epoch
    settling = flipping([[0.3, 0.2, 0.1], [0.2, 0.1, 0.3], [0.1, 0.2, 0.3]])
    assert order_flips(settling, epochs=3) is None  # moves, but not back and forth


def test_a_drawn_order_is_left_alone() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        orders = [generator.permutation(3).tolist() for _ in range(13)]
        lines = [
            line(epoch, order=orders[epoch], next_order=orders[epoch + 1]) for epoch in range(12)
        ]
        assert all(order_flips(lines[:k]) is None for k in range(13))


def test_descending_orders_count_too() -> None:
    lines = flipping([LOW, HIGH] * 3)
    for entry in lines:
        entry["scores"] = [-score for score in entry["scores"]]
    assert order_flips(lines) is not None


def edms(values: list[float | None], **changes: Any) -> list[dict[str, Any]]:
    """Epochs with these EDMs."""
    found = []
    for epoch, value in enumerate(values):
        low = None if value is None else 0.7 * value
        found.append(line(epoch, edm={"value": value, "low": low, "high": 60.0}, **changes))
    return found


def test_edm_that_stays() -> None:
    generator = np.random.default_rng(1)
    text = edm_stuck(edms([40 + generator.normal() for _ in range(12)]))
    assert text is not None
    assert "a contributes least" in text
    assert "method.modality=a" in text
    assert edm_stuck(edms([30.0 + epoch for epoch in range(12)])) is not None  # even rises


@pytest.mark.parametrize(
    "values",
    [
        [60 * 0.93**epoch for epoch in range(12)],  # falls
        [40.0 - 0.5 * epoch for epoch in range(12)],  # falls slowly
        [15.0] * 12,  # low
        [40.0] * 9,  # too early
        [40.0] * 6 + [None] + [40.0] * 5,  # undefined within
    ],
)
def test_no_edm_alarm(values: list[float | None]) -> None:
    assert edm_stuck(edms(values)) is None


def test_no_edm_alarm_within_noise() -> None:
    assert edm_stuck(edms([30.0] * 12, phi_se=[0.08, 0.08, 0.08])) is None
    stuck = edms([30.0] * 12)
    stuck[-1]["edm"]["low"] = 2.0
    assert edm_stuck(stuck) is None


def losses(values: list[float | None], name: str = "step/a") -> list[dict[str, Any]]:
    """Epochs with these losses."""
    return [
        line(epoch, losses={} if value is None else {name: value})
        for epoch, value in enumerate(values)
    ]


def test_loss_that_oscillates() -> None:
    text = loss_oscillates(losses([1.0, 0.5, 1.1, 0.4, 1.0, 0.5, 1.2, 0.5, 1.0]))
    assert text is not None
    assert "step/a" in text
    assert "optim.optimizer.lr" in text


def test_loss_that_rises() -> None:
    text = loss_rises(losses([1.0, 0.6] + [0.5 * 1.1**epoch for epoch in range(8)]))
    assert text is not None
    assert "step/a (0.5 → 0.974)" in text


def healthy() -> list[list[float | None]]:
    """Losses as they fall in good runs: fast, slow, with noise, to almost nothing, with a bump."""
    generator = np.random.default_rng(2)
    epochs = np.arange(40)
    return [
        (2.0 * 0.9**epochs).tolist(),
        (1.5 / (1 + epochs)).tolist(),
        (2.0 * 0.95**epochs * (1 + 0.05 * generator.normal(size=40))).tolist(),
        (0.3 + 0.01 * generator.normal(size=40)).tolist(),
        (2.0 * 0.6**epochs * (1 + 0.5 * generator.normal(size=40)).clip(0.2)).tolist(),
        [2.0 * 0.9**e if e != 20 else 1.5 for e in epochs.tolist()],
        [1.0 * 0.9**e if e % 3 == 0 else None for e in epochs.tolist()],
    ]


@pytest.mark.parametrize("values", healthy())
def test_no_alarm_on_healthy_losses(values: list[float | None]) -> None:
    lines = losses(values)
    for seen in range(1, len(lines) + 1):
        assert loss_oscillates(lines[:seen]) is None
        assert loss_rises(lines[:seen]) is None


def test_random_walks_around_a_level_are_no_alarm_when_small() -> None:
    """A loss at its plateau with 3 % noise, many times."""
    generator = np.random.default_rng(3)
    for _ in range(200):
        lines = losses((0.5 + 0.015 * generator.normal(size=20)).tolist())
        assert loss_oscillates(lines) is None
        assert loss_rises(lines) is None


class Wild(Tiny):
    """Sums up losses that swing, whatever happens."""

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self.train_losses = {"final": 1.0 + 0.6 * (-1) ** self.current_epoch}


def test_a_run_warns_once_and_records_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    module = Wild()
    run(tmp_path, [ShapleyScheduler(), Monitor(window=6)], module, epochs=10)
    out = capsys.readouterr().out
    assert out.count("the loss oscillates") == 1
    assert max(map(len, out.splitlines())) <= 100
    found = [w for w in module.findings["warnings"] if w["signature"] == "loss oscillates"]
    assert len(found) == 1
    assert found[0]["epoch"] == 5


def test_a_healthy_run_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    module = Tiny()
    run(tmp_path, [ShapleyScheduler(), Monitor()], module, epochs=12)
    assert not [w for w in module.findings["warnings"] if w["signature"].startswith("loss")]
    assert "oscillates" not in capsys.readouterr().out


def test_a_resumed_run_remembers(tmp_path: Path) -> None:
    whole = Monitor(window=6)
    run(tmp_path / "whole", [ShapleyScheduler(), whole], Wild(), epochs=9)
    with pytest.raises(RuntimeError, match="plug"):
        run(tmp_path / "cut", [ShapleyScheduler(), Monitor(window=6), Stop(7)], Wild(), epochs=9)
    resumed, module = Monitor(window=6), Wild()
    made = trainer(tmp_path / "cut", [ShapleyScheduler(), resumed], epochs=9)
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    made.fit(module, batches(64, 1), batches(80, 2), ckpt_path=last, weights_only=True)
    assert resumed.warnings == whole.warnings
    assert module.findings["warnings"] == whole.warnings
    assert [entry["epoch"] for entry in resumed.lines] == list(range(9))


@pytest.mark.parametrize("option", ["flips", "patience", "window"])
def test_too_few_epochs_to_judge_by(option: str) -> None:
    with pytest.raises(MmeqError, match=rf"callbacks.monitor.{option}=2: give"):
        Monitor(**{option: 2})


def test_state_is_plain() -> None:
    monitor = Monitor()
    monitor.lines = [line(0)]
    assert not math.isnan(monitor.state_dict()["lines"][0]["edm"]["value"])
