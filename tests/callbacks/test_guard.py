"""A NaN loss stops the run and leaves the checkpoint of the epoch before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmeq.callbacks.guard import LossGuard
from mmeq.callbacks.record import RunRecord
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.errors import MmeqError
from mmeq.files import read_jsonl
from tests.callbacks.tiny import Tiny, batches, run, trainer


def test_nan_loss_keeps_the_checkpoint_of_the_epoch_before(tmp_path: Path) -> None:
    module = Tiny(nan_at=(2, 1))
    callbacks = [LossGuard(), ShapleyScheduler(), RunRecord(tmp_path)]
    with pytest.raises(MmeqError) as error:
        run(tmp_path, callbacks, module, epochs=4)
    message = str(error.value)
    assert "'step/zer' (modality 'zer')" in message
    assert "epoch 2, batch 1" in message
    assert "last.ckpt" in message
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in last["state_dict"].values() if torch.is_tensor(v))
    assert [line["epoch"] for line in read_jsonl(tmp_path / "history.jsonl")] == [0, 1]
    assert module.method.seen == [0, 1]  # the order does not move on a broken model
    assert not all(torch.isfinite(p).all() for p in module.parameters())  # it was NaN indeed


def test_nan_in_the_first_epoch_says_that_nothing_was_kept(tmp_path: Path) -> None:
    with pytest.raises(MmeqError, match="no checkpoint was written before"):
        run(tmp_path, [LossGuard()], Tiny(nan_at=(0, 0)))
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_infinite_mean_is_enough(tmp_path: Path) -> None:
    class Infinite(Tiny):
        def on_validation_start(self) -> None:
            self.train_losses = {"final": float("inf")}

    with pytest.raises(MmeqError, match=r"loss 'final' is not finite in epoch 0 "):
        run(tmp_path, [LossGuard()], Infinite())


def test_validation_alone_is_not_guarded(tmp_path: Path) -> None:
    module = Tiny()
    module.train_losses = {"final": float("nan")}
    trainer(tmp_path, [LossGuard(), ShapleyScheduler()]).validate(
        module, batches(20, 2), verbose=False
    )
    assert module.method.seen == []  # nor does it move the order
