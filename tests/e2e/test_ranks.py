"""Two processes under DDP: what each rank holds, and what one process makes of the same."""

from pathlib import Path

import pytest
import torch
from e2e.running import PLAIN, SMALL, checkpoint, difference, history, results, timeless

QUIET = (*SMALL, *PLAIN, "callbacks.console=null", "trainer.max_epochs=2")


def train(warm, folder: Path, *overrides: str, ranks: int = 1) -> Path:
    options = [*QUIET, *overrides, f"trainer.devices={ranks}"]
    done = warm("e2e.ranks", folder, *options, cwd=folder.parent, ranks=ranks)
    assert done.status == 0, done.stderr
    return folder


def held(folder: Path, rank: int) -> dict:
    return torch.load(folder / f"rank-{rank}.pt", weights_only=True)


CASES = {
    "the default": ["dataset.samples=243"],
    "gaps, random order, accumulated": [
        *("missing=0.4", "method.order=random", "optim.accumulate=2", "dataset.samples=243"),
        *("fusion=memory", "fusion.inherit=true", "fusion.align=both"),
    ],
    "joint, one modality or the other": [
        *("dataset.sources=2", "dataset.unique=0.9", "method=joint", "missing=0.95"),
        "batch_size=4",
    ],
    "joint memory with filler": ["method=joint", "fusion=concat", "fusion.absence=token"],
}


@pytest.mark.parametrize("case", CASES)
def test_ranks_agree_and_one_process_measures_the_same(case, warm, tmp_path):
    """Parts do not divide by two or by the batch size: the last batches are uneven."""
    folder = train(warm, tmp_path / "run", *CASES[case], ranks=2)
    one, two = held(folder, 0), held(folder, 1)
    for part in ("weights", "order", "report"):
        assert difference(one[part], two[part], part) is None
    evaluated = warm("mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=tmp_path)
    assert evaluated.status == 0, evaluated.stderr
    # other batch mates can turn the last bit of a product: to 1e-6 (mmeq.eval), or exactly
    assert "agrees with results.json" in evaluated.stdout, evaluated.stdout
    assert results(folder)["epochs"] == 2


def test_a_resumed_run_of_two_ranks_equals_an_uninterrupted_one(warm, tmp_path):
    options = [*QUIET[:-1], "missing=0.3", "optim.accumulate=2", "optim.scheduler.T_max=4"]
    options += [
        "fusion=memory",
        "fusion.align=feature",
        "fusion.inherit=true",
        "method.order=random",
        "dataset.samples=243",
    ]
    options += ["trainer.devices=2", "trainer.max_epochs=4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def run(*arguments: str) -> None:
        done = warm("mmeq.train", *arguments, cwd=tmp_path, ranks=2)
        assert done.status == 0, done.stderr

    run(*options, f"hydra.run.dir={whole}")
    run(*options, f"hydra.run.dir={parts}", "trainer.max_epochs=2")
    run(f"resume={parts}", "trainer.max_epochs=4")
    for name in ("last", "best"):
        first, second = checkpoint(whole, name), checkpoint(parts, name)
        for part in ("state_dict", "optimizer_states", "mmeq_order"):
            assert difference(first[part], second[part], f"{name}/{part}") is None
    assert difference(timeless(history(whole)), timeless(history(parts))) is None
    assert difference(timeless(results(whole)), timeless(results(parts))) is None


def test_a_loss_that_explodes_stops_all_ranks(warm, tmp_path):
    options = [*QUIET, "trainer.devices=2", "optim.optimizer.lr=1e30", "hydra.run.dir=run"]
    done = warm("mmeq.train", *options, cwd=tmp_path, ranks=2)
    assert done.status == 2
    assert "is not finite in epoch 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_samples_for_the_ranks(warm, tmp_path):
    options = ["dataset.train_size=4", "batch_size=2", "trainer.devices=6", "hydra.run.dir=run"]
    done = warm("mmeq.train", *QUIET, *options, cwd=tmp_path, ranks=6)
    assert done.status == 2
    assert "4 training samples are too few for 6 processes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("trainer.strategy=fsdp", "several devices (trainer.devices=2) run under DDP"),
        ("+trainer.strategy=deepspeed_stage_2", "DeepSpeed do not work with manual optimisation"),
        ("trainer.precision=16-true", "take bf16-mixed"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(override, instead, warm, tmp_path):
    options = [*QUIET, "trainer.devices=2", override, "hydra.run.dir=run"]
    done = warm("mmeq.train", *options, cwd=tmp_path, ranks=2)
    assert done.status == 2
    assert instead in done.stderr
    assert "Traceback" not in done.stderr
    # a rank may make the folder after the first one has taken it away
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
