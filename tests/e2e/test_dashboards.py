"""What W&B has of the jobs of a sweep, offline, and the page over their folders."""

from __future__ import annotations

import csv

import pytest
from callbacks.test_loggers import history_of
from e2e.running import PLAIN, SMALL, history


@pytest.mark.slow
def test_the_jobs_of_a_sweep_are_a_group_and_lie_side_by_side(warm, tmp_path):
    short = [*SMALL, *PLAIN, "trainer.max_epochs=2", "callbacks.console=null"]
    short += ["logger=[wandb,csv]"]
    where = ["hydra.sweep.dir=two", "hydra.sweep.subdir=seed-${seed}"]
    done = warm("mmeq.train", "-m", *short, *where, "seed=0,1", "method=joint", cwd=tmp_path)
    assert done.status == 0, done.stderr
    for seed in (0, 1):
        folder = tmp_path / "two" / f"seed-{seed}"
        rows, _, found = history_of(folder)
        (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        assert (run.run_group, run.job_type) == ("two", "train")
        seeds = f"seed {seed}" + (" · split 0" if seed else "")
        options = "samples=240 · dim=16 · hidden=24 · batch_size=32"
        assert run.display_name == f"synthetic · joint · concat · {seeds} · {options}"
        assert "dataset=synthetic" in run.tags
        assert "fusion=concat" in run.tags
        edm = [row["edm"] for row in rows if "edm" in row]
        assert edm == [line["edm"]["value"] for line in history(folder)]
        with (folder / "csv" / "version_0" / "metrics.csv").open(encoding="utf-8") as stream:
            assert [float(row["edm"]) for row in csv.DictReader(stream) if row["edm"]] == edm
        assert "to send it: wandb sync " in (folder / "output.log").read_text("utf-8")
    done = warm("mmeq.dashboard", "runs=two", cwd=tmp_path)
    assert done.status == 0, done.stderr
    page = (tmp_path / "dashboard.html").read_text("utf-8")
    assert page.count("<section ") == 2
    assert 'href="two/seed-1/"' in page
