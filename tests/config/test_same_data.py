"""Runs whose table has changed since: not resumed, not measured without a word."""

from __future__ import annotations

import random

import pytest
import torch
from e2e.running import checkpoint, results

from mmeq.config.same_data import changed_parts, check_looked_at
from mmeq.errors import MmeqError

OPTIONS = (
    "dataset=manifest",
    "dataset.vectors={a:[a1,a2],b:[b1,b2]}",
    "backbone.dim=8",
    "optim.scheduler=null",
    "trainer.max_epochs=1",
)


def rows(count, seed=0, part=None):
    """Two vectors a row, of which the label can be read."""
    draw = random.Random(seed)
    out = []
    for number in range(count):
        label = number % 3
        cells = [f"{label + draw.gauss(0, 1):.3f}" for _ in range(4)]
        out.append(",".join([f"s{seed}-{number}", "xyz"[label], *cells, *([part] if part else [])]))
    return out


def write(path, lines, parts=False):
    header = "id,label,a1,a2,b1,b2" + (",split" if parts else "")
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory, warm):
    home = tmp_path_factory.mktemp("grown")
    write(home / "t.csv", rows(90))
    return warm.train(home / "run", *OPTIONS, f"dataset.path={home}/t.csv")


def test_a_table_that_grew_is_not_resumed_and_its_results_stay(run, warm):
    home, before = run.parent, results(run)
    lines = [*rows(90), *rows(40, seed=1)]
    random.Random(0).shuffle(lines)
    write(home / "t.csv", lines)
    try:
        again = ("mmeq.train", f"resume={run}", "trainer.max_epochs=2")
        done = warm(*again, cwd=home)
        assert done.status == 2
        assert "the data have changed since the run began" in done.stderr
        assert "train, validation, test" in done.stderr
        assert results(run) == before
        for look in (("mmeq.eval",), ("mmeq.predict", f"output={home}/p.npz")):
            done = warm(*look, f"run={run}", "accelerator=cpu", cwd=home)
            assert done.status == 2
            assert "what it was trained on may be evaluated" in done.stderr
        # other data by an option that says so
        done = warm("mmeq.eval", f"run={run}", "accelerator=cpu", f"data_root={home}", cwd=home)
        assert done.status == 0, done.stderr
        assert "its own results were made on others" in done.stderr
    finally:
        write(home / "t.csv", rows(90)[::-1])
    done = warm(*again, cwd=home)  # the same samples in another order: made parts differ
    assert done.status == 2
    write(home / "t.csv", rows(90))
    done = warm(*again, cwd=home)
    assert done.status == 0, done.stderr
    assert results(run)["epochs"] == 2


def test_an_older_checkpoint_tells_nothing_and_is_taken(run):
    told = checkpoint(run)
    module = torch.nn.Module()
    module.samples = dict(told["mmeq_samples"])
    assert changed_parts(module, told) == []
    module.samples["train"] = "other"
    assert changed_parts(module, told) == ["train"]
    del told["mmeq_samples"]
    assert changed_parts(module, told) == []


def test_more_samples_to_test_are_told_and_evaluated(run):
    told, module = checkpoint(run), torch.nn.Module()
    module.samples = {**told["mmeq_samples"], "test": "other"}
    with pytest.warns(UserWarning, match=r"other samples or labels in test\)"):
        check_looked_at(module, told, run / "best.ckpt", wanted=False)
    module.samples["validation"] = "other"
    with pytest.raises(MmeqError, match="validation, test"):
        check_looked_at(module, told, run / "best.ckpt", wanted=False)
