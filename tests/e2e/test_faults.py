"""Faults around a run: what was kept is not lost, and a resumed run equals an undisturbed one."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from e2e.faulty import PATIENCE, Process, alive, gone, group, halves, lines, owner
from e2e.running import PLAIN, SMALL, difference, history, inside, results, timeless
from e2e.test_resume import RANDOM, assert_same_run

OPTIONS = [*SMALL, *PLAIN, *RANDOM, "trainer.max_epochs=3", "dataset.samples=800", "batch_size=8"]
QUIET = [*OPTIONS, "callbacks.console=null"]  # an epoch takes about a second
PAIR = [*QUIET, "trainer.devices=2"]

TRAINING = "import runpy; runpy.run_module('mmeq.train', run_name='__main__', alter_sys=True)"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory):
    """The undisturbed run."""
    return warm.train(tmp_path_factory.mktemp("whole") / "run", *QUIET)


@pytest.fixture(scope="module")
def whole_pair(warm, tmp_path_factory):
    """The undisturbed run of two ranks."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    done = warm("mmeq.train", *PAIR, f"hydra.run.dir={folder}", cwd=folder.parent, ranks=2)
    assert done.status == 0, done.stderr
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def resume_pair(warm, folder):
    done = warm("mmeq.train", f"resume={folder}", cwd=folder.parent, ranks=2)
    assert done.status == 0, done.stderr


# SIGTERM


def test_sigterm_ends_the_step_says_how_to_go_on_and_loses_nothing(warm, whole, folder):
    with Process(warm, *QUIET, f"hydra.run.dir={folder}", cwd=folder.parent) as run:
        run.amid_epoch(folder)
        run.send(signal.SIGTERM)
        assert run.status(within=30) == 128 + signal.SIGTERM
        said = run.text()
    epochs = lines(folder)
    assert f"stopped by SIGTERM in epoch {epochs + 1} of 3 after batch" in said
    assert f"kept is all up to the end of epoch {epochs}; go on by resume={folder}" in said
    assert "Traceback" not in said
    assert not (folder / ".running").exists()
    warm.train(folder, f"resume={folder}")
    assert_same_run(whole, folder)


def test_sigterm_before_the_first_epoch_ended_and_a_run_that_begins_anew(warm, whole, folder):
    with Process(warm, *QUIET, f"hydra.run.dir={folder}", cwd=folder.parent) as run:
        run.until((folder / "environment.json").is_file)
        run.send(signal.SIGTERM)
        assert run.status(within=30) == 128 + signal.SIGTERM
        assert "no epoch had ended, so the run will begin anew; go on by resume=" in run.text()
    warm.train(folder, f"resume={folder}")
    assert_same_run(whole, folder)


def test_sigterm_to_a_group_of_ranks(warm, whole_pair, folder):
    ranks = group(warm, 2, *PAIR, f"hydra.run.dir={folder}", cwd=folder.parent)
    with ranks[0], ranks[1]:
        ranks[0].amid_epoch(folder)
        for rank in ranks:
            rank.send(signal.SIGTERM)
        assert [rank.status(within=30) for rank in ranks] == [128 + signal.SIGTERM] * 2
        assert ranks[0].text().count("stopped by SIGTERM") == 1
        assert "Traceback" not in ranks[0].text() + ranks[1].text()
    resume_pair(warm, folder)
    assert difference(timeless(history(whole_pair)), timeless(history(folder))) is None
    assert difference(timeless(results(whole_pair)), timeless(results(folder))) is None


def test_sigterm_to_the_job_of_a_sweep(warm, tmp_path):
    """It is broken off, and the sweep says so; that it goes on, test_sweep.py asks."""
    folder, sweep = tmp_path / "sweep" / "seed-0", f"hydra.sweep.dir={tmp_path / 'sweep'}"
    command = ["-m", *QUIET, "seed=0", sweep, "hydra.sweep.subdir=seed-${seed}"]
    with Process(warm, *command, cwd=tmp_path) as run:
        run.amid_epoch(folder)
        os.kill(owner(folder), signal.SIGTERM)
        assert run.status() == 2
        assert "1 of 1 jobs were broken off" in run.text()
    assert "stopped by SIGTERM in epoch" in (folder / "output.log").read_text("utf-8")


# kill -9, locks


def test_a_second_process_is_refused_and_the_lock_of_a_killed_one_is_none(warm, whole, folder):
    with Process(warm, *QUIET, f"hydra.run.dir={folder}", cwd=folder.parent) as run:
        run.amid_epoch(folder)
        for given in ([*QUIET, f"hydra.run.dir={folder}"], [f"resume={folder}"]):
            second = warm("mmeq.train", *given, cwd=folder.parent)
            assert second.status == 2
            assert f"another process is at this run (process {run.pid} on" in second.stderr
            assert second.stderr.count("\n") == 1
        assert run.poll() is None
        run.send(signal.SIGKILL)
        assert run.status() == -signal.SIGKILL
    assert (folder / ".running").exists()
    assert not (folder / "results.json").exists()
    with (folder / "history.jsonl").open("a") as stream:
        stream.write('{"epoch": 7, "torn')  # what a kill may leave
    warm.train(folder, f"resume={folder}")
    assert_same_run(whole, folder)


KILLED = """
import os, signal
fsync = os.fsync
def half(descriptor):
    written = os.readlink(f"/proc/self/fd/{descriptor}")
    if NAME in os.path.basename(written) and os.path.exists(KEPT):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    return fsync(descriptor)
os.fsync = half
"""
"""Kills the process when a file lacks its end, once another one is there."""


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("best.ckpt", None),
        ("last.ckpt", "best.ckpt"),
        ("last.ckpt", "before.ckpt"),
        ("history.jsonl", "last.ckpt"),
    ],
)
def test_a_kill_in_the_middle_of_a_write(name, kept, warm, whole, folder):
    there = folder / "checkpoints" / kept if kept else folder / "history.jsonl"
    code = KILLED.replace("NAME", repr(name)).replace("KEPT", repr(str(there))) + TRAINING
    with Process(warm, *QUIET, f"hydra.run.dir={folder}", cwd=folder.parent, code=code) as run:
        assert run.status() == -signal.SIGKILL, run.text()
    assert not (folder / "results.json").exists()
    if name != "history.jsonl":
        assert halves(folder)
    warm.train(folder, f"resume={folder}")
    assert not halves(folder)
    assert_same_run(whole, folder)


# damaged checkpoints


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    else:
        data[inside(path)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "empty", "one bit turned", "gone"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(how, warm, whole, folder):
    shutil.copytree(whole, folder)
    (folder / "results.json").unlink()
    last = folder / "checkpoints" / "last.ckpt"
    last.unlink() if how == "gone" else damage(last, how)
    done = warm("mmeq.train", f"resume={folder}", cwd=folder.parent)
    assert done.status == 0, done.stderr
    assert "last.ckpt is" in done.stderr
    assert "the run goes on from before.ckpt, one epoch earlier" in done.stderr
    assert_same_run(whole, folder)


def test_no_checkpoint_that_is_whole(warm, whole, folder):
    shutil.copytree(whole, folder)
    (folder / "results.json").unlink()
    for name in ("last", "before"):
        damage(folder / "checkpoints" / f"{name}.ckpt", "cut")
    done = warm("mmeq.train", f"resume={folder}", cwd=folder.parent)
    assert done.status == 2
    assert "no checkpoint is whole" in done.stderr
    assert "last.ckpt (its end" in done.stderr
    assert "before.ckpt (its end" in done.stderr
    assert len(history(folder)) == 3


def test_a_damaged_best_checkpoint_is_told_before_it_is_trained_on(warm, whole, folder):
    shutil.copytree(whole, folder)
    damage(folder / "checkpoints" / "best.ckpt", "cut")
    done = warm("mmeq.train", f"resume={folder}", "trainer.max_epochs=9", cwd=folder.parent)
    assert done.status == 2
    assert "best.ckpt is damaged (its end cannot be read)" in done.stderr
    assert len(history(folder)) == 3
    assert (folder / "results.json").exists()


# full disks, folders that cannot be written


def test_a_disk_that_takes_no_checkpoint(warm, whole, folder):
    """A limit on the size of files stands for a full disk: it refuses in the middle of a write."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    done = warm.code(limit + TRAINING, *QUIET, f"hydra.run.dir={folder}", cwd=folder.parent)
    assert done.status == 2, done.stderr
    path = folder / "checkpoints" / "best.ckpt"
    assert f"{path} cannot be written (File too large)" in done.stderr
    assert f"go on by resume={folder}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "checkpoints").iterdir())
    warm.train(folder, f"resume={folder}")
    assert_same_run(whole, folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("file systems can be mounted by root alone")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk, free):
    """Leave so many KiB free."""
    filler = disk / "filler"
    filler.write_bytes(bytes((shutil.disk_usage(disk).free // 1024 - free) * 1024))
    return filler


def test_a_disk_that_is_full_when_the_test_comes(warm, whole, small_disk):
    folder = small_disk / "run"
    shutil.copytree(whole, folder)
    for name in ("results.json", "predictions/test.npz"):
        (folder / name).unlink()
    filler = fill(small_disk, 16)
    done = warm("mmeq.train", f"resume={folder}", cwd=whole.parent)
    assert done.status == 2, done.stderr
    assert "predictions/test.npz cannot be written (No space left on device)" in done.stderr
    assert not halves(folder)
    assert not (folder / "predictions" / "test.npz").exists()
    filler.unlink()
    warm.train(folder, f"resume={folder}")
    assert_same_run(whole, folder)


@pytest.mark.parametrize(("free", "refused"), [(8, ""), (150, "last.ckpt"), (345, ".ckpt")])
def test_a_disk_that_fills_up(free, refused, warm, whole, small_disk):
    """At different moments; what fills it is removed, and the run goes on."""
    folder, filler = small_disk / "run", fill(small_disk, free)
    done = warm("mmeq.train", *QUIET, f"hydra.run.dir={folder}", cwd=small_disk)
    assert done.status == 2, done.stderr
    assert f"{refused} cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not halves(folder)
    for line in (folder / "history.jsonl").read_bytes().splitlines(True) if lines(folder) else ():
        assert line.endswith(b"\n")
    filler.unlink()
    warm.train(folder, f"resume={folder}")
    assert_same_run(whole, folder)


def test_a_folder_that_is_a_file_or_below_one(warm, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        done = warm("mmeq.train", *QUIET, f"hydra.run.dir={place}", cwd=tmp_path)
        assert done.status == 2
        assert done.stderr.startswith(f"mmeq: the folder {place} cannot be made (")
        assert done.stderr.count("\n") == 1


def test_a_folder_that_is_read_only(warm, whole, small_disk):
    shutil.copytree(whole, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    fresh, old = f"hydra.run.dir={small_disk / 'new'}", f"resume={small_disk / 'run'}"
    for given in ([*QUIET, fresh], [old]):
        done = warm("mmeq.train", *given, cwd=whole.parent)
        assert done.status == 2
        assert "(Read-only file system)" in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


# processes of one run


def test_a_data_worker_that_is_killed(warm, whole, folder):
    with Process(warm, *QUIET, "workers=2", f"hydra.run.dir={folder}", cwd=folder.parent) as run:
        run.amid_epoch(folder)
        os.kill(run.children()[0], signal.SIGKILL)
        assert run.status(within=30) == 2
        said = run.text()
    assert "a process that loads data has died" in said
    assert f"go on by resume={folder}" in said
    assert "Traceback" not in said
    warm.train(folder, f"resume={folder}")  # with two workers again
    assert_same_run(whole, folder)


@pytest.mark.parametrize("launched", [True, False], ids=["by lightning", "by a launcher"])
def test_a_rank_that_is_killed(launched, warm, whole_pair, folder):
    where = f"hydra.run.dir={folder}"
    if launched:
        ranks = [Process(warm, *PAIR, where, cwd=folder.parent)]
    else:
        ranks = group(warm, 2, *PAIR, where, cwd=folder.parent)
    with ranks[0], ranks[-1]:
        ranks[0].amid_epoch(folder)
        if launched:
            os.kill(ranks[0].children()[0], signal.SIGKILL)
        else:
            ranks[1].send(signal.SIGKILL)
        assert ranks[0].status(within=30) == 2
        said = ranks[0].text()
    assert ("rank 1 of 2 was killed by SIGKILL" if launched else "another rank") in said
    assert f"go on by resume={folder}" in said
    assert "Traceback" not in said
    resume_pair(warm, folder)
    assert difference(timeless(history(whole_pair)), timeless(history(folder))) is None


def test_the_first_rank_that_is_killed_takes_those_it_started_with_it(warm, folder):
    with Process(warm, *PAIR, f"hydra.run.dir={folder}", cwd=folder.parent) as run:
        run.amid_epoch(folder)
        (child,) = run.children()
        assert alive(child)
        run.send(signal.SIGKILL)
        assert gone(child, within=30)
        assert "has ended" in run.text()


# output


def test_output_that_nobody_reads_any_more_is_dropped(warm, whole, folder):
    """As of ``python -m mmeq.train … 2>&1 | head -1``."""
    pipe = folder.with_name("pipe")
    os.mkfifo(pipe)
    to = {"cwd": folder.parent, "stdout": pipe, "stderr": pipe}
    run = warm.start(*OPTIONS, f"hydra.run.dir={folder}", module="mmeq.train", **to)
    with pipe.open() as reader:
        assert reader.readline()
    deadline = time.monotonic() + PATIENCE
    while (status := warm.poll(run)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert status == 0
    assert_same_run(whole, folder)
