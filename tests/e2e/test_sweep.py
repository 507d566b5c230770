"""Sweeps: each job in a process of its own, finished ones skipped, broken ones taken up."""

import fcntl
import re

import pytest
from e2e.running import PLAIN, SMALL, history, results
from e2e.test_resume import assert_same_run

BASE = (*SMALL, *PLAIN, "callbacks.console=null", "trainer.max_epochs=3")


def sweep(warm, folder, *overrides, subdir="lr-${optim.optimizer.lr}"):
    where = [f"hydra.sweep.dir={folder}", f"hydra.sweep.subdir={subdir}"]
    return warm("mmeq.train", "-m", *BASE, *where, *overrides, cwd=folder.parent)


def test_finished_jobs_are_skipped_and_failed_ones_do_not_stop_the_others(warm, tmp_path):
    rates = "optim.optimizer.lr=1e-3,1e30,2e-3"
    done = sweep(warm, tmp_path / "sweep", rates)
    assert done.status == 2
    assert done.stderr.count("\n") <= 2, done.stderr
    assert "is not finite in epoch 0" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    good = [tmp_path / "sweep" / f"lr-{rate}" for rate in ("0.001", "0.002")]
    stamps = [(folder / "results.json").stat().st_mtime_ns for folder in good]
    assert not (tmp_path / "sweep" / "lr-1e+30" / "results.json").exists()
    again = sweep(warm, tmp_path / "sweep", rates.replace("1e30,", ""))
    assert again.status == 0, again.stderr
    assert again.stdout.count("finished before") == 2
    assert stamps == [(folder / "results.json").stat().st_mtime_ns for folder in good]


def test_a_job_equals_a_single_run_and_a_broken_one_goes_on(warm, tmp_path):
    single = warm.train(tmp_path / "single", *BASE)
    broken = tmp_path / "sweep" / "seed-1"
    done = warm("e2e.ranks", broken, *BASE, "seed=1", cwd=tmp_path, BREAK_AFTER="2")
    assert done.status == 0, done.stderr
    assert len(history(broken)) == 2
    done = sweep(warm, tmp_path / "sweep", "seed=0,1", subdir="seed-${seed}")
    assert done.status == 0, done.stderr
    assert_same_run(single, tmp_path / "sweep" / "seed-0")
    assert_same_run(warm.train(tmp_path / "other", *BASE, "seed=1"), broken)


def test_what_a_run_without_checkpoint_left_is_put_aside(warm, tmp_path):
    (tmp_path / "sweep").mkdir()
    folder = warm.train(tmp_path / "sweep" / "seed-0", *BASE)
    (folder / "results.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    done = sweep(warm, tmp_path / "sweep", "seed=0", subdir="seed-${seed}")
    assert done.status == 0, done.stderr
    (aside,) = folder.glob("aside/*")
    assert len(history(aside)) == len(history(folder)) == 3
    assert results(folder)["epochs"] == 3


def test_a_folder_of_another_configuration_is_named(warm, tmp_path):
    sweep(warm, tmp_path / "sweep", "seed=0", subdir="seed-${seed}")
    done = sweep(warm, tmp_path / "sweep", "seed=0,1", "batch_size=16", subdir="seed-${seed}")
    assert done.status == 2
    assert "config.batch_size is 32 there and 16 here" in done.stderr
    assert (tmp_path / "sweep" / "seed-1" / "results.json").is_file()


def test_a_job_that_another_process_is_at_is_left_to_it(warm, tmp_path):
    folder = tmp_path / "sweep" / "seed-0"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = sweep(warm, tmp_path / "sweep", "seed=0,1", subdir="seed-${seed}")
    assert done.status == 0, done.stderr
    assert "another process is at it" in done.stdout
    assert not (folder / "config.yaml").exists()
    assert (tmp_path / "sweep" / "seed-1" / "results.json").is_file()


@pytest.mark.slow
def test_the_comparison_preset_finds_every_method(warm, tmp_path):
    """Those that need more than an epoch say so; that each trains, test_methods.py asks."""
    from mmeq.config import groups

    where = [f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=0", "dataset.split_seed=0"]
    given = [*SMALL, "trainer.max_epochs=1", "dataset.samples=120", "trainer.accelerator=cpu"]
    done = warm("mmeq.train", "-m", "experiment=comparison", *given, *where, cwd=tmp_path)
    found = {results(path.parent)["method"] for path in tmp_path.glob("sweep/*/results.json")}
    told = done.stdout + done.stderr
    more = set(re.findall(r"trainer\.max_epochs=1: (\w+) with these options needs", told))
    assert not found & more
    assert found | more == set(groups()["method"]) - {"unimodal"}, told
    assert {"joint", "shapley", "ogm_ge", "mla"} <= found
