"""Two processes under DDP: what each rank holds, and what one process makes of the same."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from e2e.running import PLAIN, SMALL, difference, environment, results

QUIET = (*SMALL, *PLAIN, "callbacks.console=null", "trainer.max_epochs=2")


def train(folder: Path, *overrides: str) -> Path:
    script = Path(__file__).parent / "ranks.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *QUIET, *overrides],
        cwd=folder.parent,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def held(folder: Path, rank: int) -> dict:
    return torch.load(folder / f"rank-{rank}.pt", weights_only=True)


CASES = {
    "the default": ["dataset.samples=243"],
    "gaps, random order, accumulated": [
        *("missing=0.4", "method.order=random", "optim.accumulate=2", "dataset.samples=243"),
        *("fusion.inherit=true", "fusion.align=both"),
    ],
    "joint, one modality or the other": [
        *("dataset.sources=2", "dataset.unique=0.9", "method=joint", "missing=0.95"),
        "batch_size=4",
    ],
    "joint memory with filler": ["method=joint", "fusion=concat", "fusion.absence=token"],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ranks_agree_and_one_process_measures_the_same(case, warm, tmp_path):
    """Parts do not divide by two or by the batch size: the last batches are uneven."""
    folder = train(tmp_path / "run", "trainer.devices=2", *CASES[case])
    one, two = held(folder, 0), held(folder, 1)
    for part in ("weights", "order", "report"):
        assert difference(one[part], two[part], part) is None
    evaluated = warm("mmeq.eval", f"run={folder}", "accelerator=cpu", cwd=tmp_path)
    assert evaluated.status == 0, evaluated.stderr
    assert "agrees with results.json exactly" in evaluated.stdout, evaluated.stdout
    assert results(folder)["epochs"] == 2


STEPS = {
    **{f"shapley {s}": [f"method.supervise={s}"] for s in ("final", "sequential", "prefixes")},
    "shapley unimodal": [],
    "joint": ["method=joint", "method.weight=0.5"],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STEPS)
def test_gradients_of_two_half_batches_are_those_of_the_whole(case, tmp_path):
    """Without dropout; the same samples, since rank r takes the places r, r + 2, …."""
    options = ["backbone.encoders.vector.dropout=0.0", "trainer.limit_train_batches=2"]
    options += ["dataset.samples=120", "optim.clip_norm=null", "trainer.max_epochs=1"]
    options += ["optim.optimizer._target_=torch.optim.SGD", "optim.optimizer.lr=0.01"]
    half = train(tmp_path / "half", *options, *STEPS[case], "trainer.devices=2", "batch_size=16")
    whole = train(tmp_path / "whole", *options, *STEPS[case], "batch_size=32")
    there, here = held(half, 0), held(whole, 0)
    assert here["gradients"].keys() == there["gradients"].keys()
    assert here["gradients"]
    for part in ("gradients", "weights"):
        for name, tensor in here[part].items():
            torch.testing.assert_close(there[part][name], tensor, atol=1e-6, rtol=1e-5, msg=name)
