"""The order set by a part of the validation samples, and what it costs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning import LightningDataModule

from mmeq.callbacks.console import EpochTable
from mmeq.callbacks.record import RunRecord
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.errors import MmeqError
from mmeq.files import read_jsonl
from mmeq.game.certainty import stratified_subset
from tests.callbacks.tiny import Tiny, batches, run, trainer


class Keeping(Tiny):
    """Keeps the reports that the method was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list = []
        original = self.method.on_report
        self.method.on_report = lambda report, epoch: (
            self.given.append(report),
            original(report, epoch),
        )


@pytest.mark.parametrize(("subset", "samples"), [(0.25, 20), (30, 30), (1.0, 80)])
def test_the_method_sees_the_subset_and_the_record_the_whole(
    subset: float, samples: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    module = Keeping()
    run(
        tmp_path,
        [ShapleyScheduler(subset), RunRecord(tmp_path), EpochTable(tmp_path)],
        module,
        epochs=2,
    )
    assert [report.samples for report in module.given] == [samples] * 2
    history = read_jsonl(tmp_path / "history.jsonl")
    for line, report in zip(history, module.given, strict=True):
        assert line["samples"] == 80
        assert line["subset"]["samples"] == samples
        assert line["subset"]["certainty"]["order"] == report.order_certainty
        assert set(line["certainty"]) == {"order", "weakest"}
        assert line["certainty"]["order"] <= line["certainty"]["weakest"]
        if samples == 80:
            assert line["subset"]["certainty"] == line["certainty"]
            assert line["subset"]["kendall_tau"] == 1
    heads = (tmp_path / "metrics.csv").read_text("utf-8").splitlines()[0].split(",")
    assert {"certainty/order", "subset/certainty_weakest", "subset/kendall_tau"} <= set(heads)
    out = capsys.readouterr().out
    assert f"order by {samples} samples" in out
    assert "% certain)" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_subset_is_stratified_and_the_same_in_every_epoch(tmp_path: Path) -> None:
    module = Keeping()
    run(tmp_path, [ShapleyScheduler(0.5)], module, epochs=2)
    game = module.val_game
    rows = stratified_subset(game.labels, 40, module.seed)
    again = game.replay(rows)
    assert again.phi.tolist() == module.given[-1].phi.tolist()


def test_all_is_the_default(tmp_path: Path) -> None:
    module = Keeping()
    run(tmp_path, [ShapleyScheduler(), RunRecord(tmp_path)], module, epochs=1)
    assert module.given[0].samples == 80
    assert "subset" not in read_jsonl(tmp_path / "history.jsonl")[0]


@pytest.mark.parametrize("subset", [0, -1, 1.5])
def test_bad_subsets(subset: float) -> None:
    with pytest.raises(MmeqError, match="subset="):
        ShapleyScheduler(subset)


def test_more_samples_than_there_are(tmp_path: Path) -> None:
    made = trainer(tmp_path, [ShapleyScheduler(81)], epochs=1)
    with pytest.raises(MmeqError, match=r"callbacks.scheduler.subset=81: .* has 80 samples"):
        made.fit(Tiny(), batches(64, 1), batches(80, 2))


def test_it_is_told_before_an_epoch_is_trained(tmp_path: Path) -> None:
    data = LightningDataModule()
    data.train_dataloader = lambda: pytest.fail("an epoch is trained")
    data.val_dataloader = lambda: batches(80, 2)
    data.manifest = SimpleNamespace(rows=lambda split: range(80))
    made = trainer(tmp_path, [ShapleyScheduler(81)], epochs=1)
    with pytest.raises(MmeqError, match=r"callbacks.scheduler.subset=81: .* has 80 samples"):
        made.fit(Tiny(), datamodule=data)
