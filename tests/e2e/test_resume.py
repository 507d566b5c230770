"""A resumed run equals an uninterrupted one to the last bit, however it was interrupted."""

import pytest
from e2e.running import SMALL, checkpoint, difference, history, results, timeless

EMOJI = ("dataset=emoji", "dataset.size=16", "dataset.train_size=80", "batch_size=24")
MFEAT = ("dataset=mfeat", "dataset.train_size=90", "batch_size=20")
TINY = ("backbone.dim=16", "backbone.encoders.image.channels=8", "backbone.encoders.image.blocks=2")
RANDOM = ("method=shapley", "method.order=random", "method.ema=0.5", "method.warmup=1")
CASES = {
    "emoji with augmentation, accumulated": (*EMOJI, *TINY, *RANDOM, "optim.accumulate=2"),
    "mfeat by sgd, refreshed, inherited": (
        *(*MFEAT, *TINY, *RANDOM, "optim=sgd", "optim.scheduler.step_size=2"),
        *("method.refresh=true", "fusion=memory", "fusion.inherit=true", "fusion.align=both"),
    ),
    "an epoch a modality": (*SMALL, "method.alternate=epoch", "method.ema=0.3"),
    "modalities dropped": (*SMALL, "modality_dropout=0.4", "missing=0.2", "fusion=concat"),
    "tuning watched": (*SMALL, "callbacks=tuning", "callbacks.tuning.every=3"),
    "joint, accumulated": (*SMALL, "method=joint", "fusion=concat", "optim.accumulate=2"),
}


def assert_same_run(one, two):
    for name in ("last", "best"):
        first, second = checkpoint(one, name), checkpoint(two, name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "mmeq_order", "epoch"):
            assert difference(first[part], second[part], f"{name}/{part}") is None
    assert difference(timeless(history(one)), timeless(history(two))) is None
    assert difference(timeless(results(one)), timeless(results(two))) is None
    metrics = [(folder / "metrics.csv").read_text().splitlines() for folder in (one, two)]
    assert [len(lines) for lines in metrics] == [len(history(one)) + 1] * 2


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_between_epochs_goes_on_as_if_it_had_not(case, warm, tmp_path):
    """Other numbers of workers change nothing either."""
    options = [*CASES[case], "optim.optimizer.lr=3e-3", "callbacks.console=null"]
    if "scheduler" not in " ".join(options):
        options.append("optim.scheduler.T_max=4")
    whole = warm.train(tmp_path / "whole", *options, "trainer.max_epochs=4")
    parts = warm.train(tmp_path / "parts", *options, "trainer.max_epochs=2", "workers=2")
    # workers fetch the first batches before the epoch begins
    again = 2 if case == "modalities dropped" else 0
    warm.train(parts, f"resume={parts}", "trainer.max_epochs=4", f"workers={again}")
    assert_same_run(whole, parts)


@pytest.mark.slow
def test_a_moved_folder_goes_on_and_keeps_its_best_epoch(warm, tmp_path):
    options = [*SMALL, "fusion=late", "method=joint", "optim.scheduler=null"]
    whole = warm.train(tmp_path / "whole", *options, "trainer.max_epochs=4")
    before = warm.train(tmp_path / "before", *options, "trainer.max_epochs=2")
    moved = before.rename(tmp_path / "moved")
    warm.train(moved, f"resume={moved}", "trainer.max_epochs=4")
    assert_same_run(whole, moved)


@pytest.mark.slow
def test_a_run_that_ran_out_of_time_goes_on_as_if_it_had_not(warm, tmp_path):
    """It stops at the end of an epoch, and has results of its own."""
    options = [*SMALL, "optim.scheduler=null", "trainer.max_epochs=6", "batch_size=8"]
    options += ["dataset.samples=800"]
    stopped = warm.train(tmp_path / "stopped", *options, "trainer.max_time=00:00:00:01")
    assert 0 < results(stopped)["epochs"] < 6
    again = warm("mmeq.train", f"resume={stopped}", cwd=tmp_path)
    assert again.status == 2
    assert "trainer.max_time=00:00:00:01 ended this run" in again.stderr
    warm.train(stopped, f"resume={stopped}", "trainer.max_time=null")
    whole = warm.train(tmp_path / "whole", *options)
    assert_same_run(whole, stopped)
