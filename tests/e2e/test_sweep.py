"""Sweeps: each job a fresh process, finished ones skipped, failed ones told, stopped ones go on."""

import contextlib
import csv
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e.faulty import Process
from e2e.running import PLAIN, SMALL, environment, history, results
from e2e.test_resume import assert_same_run

from mmeq.sweeps import state

pytestmark = pytest.mark.slow

BASE = (*SMALL, *PLAIN, "callbacks.console=null", "trainer.max_epochs=3")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LONG = "trainer.max_epochs=25"


def sweep(warm, folder, *overrides, subdir="lr-${optim.optimizer.lr}"):
    where = [f"hydra.sweep.dir={folder}", f"hydra.sweep.subdir={subdir}"]
    return warm("mmeq.train", "-m", *BASE, *where, *overrides, cwd=folder.parent)


def begun(warm, folder: Path, *overrides: str, after: str) -> Process:
    """Start a sweep, and return it when a file that the pattern names is there."""
    where = [f"hydra.sweep.dir={folder}", *overrides]
    process = Process(warm, "-m", *BASE, *where, cwd=folder.parent)
    process.until(lambda: bool(list(folder.glob(after))))
    return process


def wait_for_end(folder: Path) -> None:
    """Wait until no process is at a job."""
    until = time.monotonic() + 60
    while any(state.busy(job) for job in state.jobs(folder)):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_finished_jobs_are_skipped_and_failed_ones_are_listed(warm, tmp_path):
    folder, rates = tmp_path / "sweep", "optim.optimizer.lr=1e-3,1e30,2e-3"
    folder.mkdir()
    warm.train(folder / "lr-0.002", *BASE, "optim.optimizer.lr=2e-3")
    done = sweep(warm, folder, rates)
    assert done.status == 2
    assert "1 of 3 jobs failed" in done.stderr
    bad = folder / "lr-1e+30"
    assert any(f"{bad}: loss " in line and "not finite" in line for line in done.stderr.split("\n"))
    assert "Traceback" not in done.stdout + done.stderr
    assert "3 jobs: 2 finished, 1 failed" in done.stdout
    with (folder / "sweep.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["state"] for row in rows} == {"finished", "failed"}
    values = [float(row["val/accuracy"]) for row in rows if row["state"] == "finished"]
    assert values == sorted(values, reverse=True)
    best = folder / rows[0]["job"]
    assert values[0] == pytest.approx(results(best)["monitor"]["value"], abs=1e-4)
    assert f"best on validation: optim.optimizer.lr={rows[0]['optim.optimizer.lr']}" in done.stdout
    assert f"{100 * results(best)['test']['accuracy']['value']:.1f} %" in done.stdout
    assert (folder / "sweep.png").stat().st_size > 10_000
    good = [folder / f"lr-{rate}" for rate in ("0.001", "0.002")]
    stamps = [(path / "results.json").stat().st_mtime_ns for path in good]
    assert not (bad / "results.json").exists()
    again = sweep(warm, folder, rates.replace("1e30,", ""))
    assert again.status == 2  # the failed one is in the folder still
    assert again.stdout.count("finished before") == 2
    assert stamps == [(path / "results.json").stat().st_mtime_ns for path in good]


def test_jobs_of_two_ranks_side_by_side_equal_single_runs(warm, tmp_path):
    """By joblib; one of them was broken off and goes on from its checkpoint."""
    two = (*BASE, "trainer.devices=2")
    broken = tmp_path / "sweep" / "seed-1"
    done = warm("e2e.ranks", broken, *two, "seed=1", cwd=tmp_path, ranks=2, BREAK_AFTER="2")
    assert done.status == 0, done.stderr
    assert len(history(broken)) == 2
    both = ("seed=0,1", "trainer.devices=2", *JOBLIB)
    done = sweep(warm, tmp_path / "sweep", *both, subdir="seed-${seed}")
    assert done.status == 0, done.stderr
    for seed in (0, 1):
        single = tmp_path / f"single-{seed}"
        given = (*two, f"seed={seed}", f"hydra.run.dir={single}")
        done = warm("mmeq.train", *given, cwd=tmp_path, ranks=2)
        assert done.status == 0, done.stderr
        assert_same_run(single, tmp_path / "sweep" / f"seed-{seed}")


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_stopped_sweep_goes_on(launcher, warm, tmp_path):
    """SIGTERM to the driver ends it and its jobs in good order; the same command finishes them."""
    more = JOBLIB if launcher == "joblib" else ()
    folder = tmp_path / "sweep"
    seeds = ("seed=0,1,2,3", "hydra.sweep.subdir=seed-${seed}")
    with begun(warm, folder, *seeds, LONG, *more, after="*/checkpoints/last.ckpt") as process:
        process.send(signal.SIGTERM)
        assert process.status(60) == 143, process.text()
        assert f"the same command with hydra.sweep.dir={folder}" in process.text()
        assert "Traceback" not in process.text()
    stopped = state.jobs(folder)
    assert 1 <= len(stopped) <= 2  # the others were not begun
    assert {job.state for job in stopped} == {"stopped"}
    assert not any(state.busy(job) for job in stopped)
    assert not list(folder.glob(".stop-*"))
    begun_before = [job.folder for job in stopped if (job.folder / "history.jsonl").exists()]
    assert begun_before
    assert all(len(history(one)) < 25 for one in begun_before)
    if launcher == "basic":
        done = sweep(warm, folder, "seed=0", LONG, subdir="seed-${seed}")
        assert done.status == 0, done.stderr
        assert "begins anew" not in (folder / "seed-0" / "output.log").read_text("utf-8")
        assert_same_run(warm.train(tmp_path / "other", *BASE, LONG), folder / "seed-0")


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_killed_driver_leaves_no_job_behind(launcher, warm, tmp_path):
    more = JOBLIB if launcher == "joblib" else ()
    given = ("seed=0,1,2,3", "hydra.sweep.subdir=seed-${seed}", LONG, *more)
    with begun(warm, tmp_path / "s", *given, after="*/checkpoints/last.ckpt") as process:
        process.send(signal.SIGKILL)
        process.status()
    wait_for_end(tmp_path / "s")
    time.sleep(1)  # in which a worker that was left alone would begin the next
    known = state.jobs(tmp_path / "s")
    assert 1 <= len(known) <= 2
    for job in known:
        until = time.monotonic() + 30
        while (job.folder / ".running").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        assert not (job.folder / "results.json").exists()
    if launcher == "basic":
        done = sweep(warm, tmp_path / "s", "seed=0", LONG, subdir="seed-${seed}")
        assert done.status == 0, done.stderr
        single = warm.train(tmp_path / "other", *BASE, LONG)
        assert_same_run(single, tmp_path / "s" / "seed-0")


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
    (tmp_path / "sweep").mkdir()
    warm.train(tmp_path / "sweep" / "seed-0", *BASE)
    done = sweep(warm, tmp_path / "sweep", "seed=0,1", "batch_size=16", subdir="seed-${seed}")
    assert done.status == 2
    assert "config.batch_size is 32 there and 16 here" in done.stderr
    assert (tmp_path / "sweep" / "seed-1" / "results.json").is_file()


def test_a_job_that_another_process_is_at_is_left_to_it(warm, tmp_path):
    (tmp_path / "sweep").mkdir()
    other = warm.train(tmp_path / "sweep" / "seed-1", *BASE, "seed=1")
    folder = tmp_path / "sweep" / "seed-0"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = sweep(warm, tmp_path / "sweep", "seed=0,1", subdir="seed-${seed}")
    assert done.status == 0, done.stderr
    assert "another process is at it" in done.stdout
    assert not (folder / "config.yaml").exists()
    assert f"{other}: finished before" in done.stdout


def test_a_search_is_killed_goes_on_and_prunes(warm, tmp_path):
    """The first trial sets the median; one that learns nothing is ended, however long it would."""
    pytest.importorskip("optuna")
    search = [
        *("hydra/sweeper=optuna", "hydra.sweeper.trials=2", "hydra.sweeper.startup=1"),
        *(
            "hydra.sweeper.warmup=1",
            "hydra.sweeper.sampler=random",
            "optim.optimizer.lr=choice(3e-3,1e-12)",
            "method=joint",
        ),
        *("dataset.samples=400", "dataset.unique=0.9", "hydra.sweeper.seed=2", "monitor=val/nll"),
    ]
    folder = tmp_path / "sweep"
    given = (*search, LONG)
    with begun(warm, folder, *given, after="0/checkpoints/last.ckpt") as process:
        process.send(signal.SIGKILL)
        process.status()
    command = ("-m", *BASE, *given, f"hydra.sweep.dir={folder}")
    done = warm("mmeq.train", *command, cwd=tmp_path)
    assert done.status == 0, done.stderr
    known = state.jobs(folder)
    assert [job.number for job in known] == [0, 1]
    assert "resume=" in (folder / "0" / "overrides.txt").read_text("utf-8")
    rates = [next(o for o in job.overrides if "lr=" in o).partition("=")[2] for job in known]
    assert set(rates) == {"0.003", "1e-12"}
    assert rates[0] == "0.003"
    for job, rate in zip(known, rates, strict=True):
        assert job.state == ("pruned" if rate == "1e-12" else "finished")
        assert (len(history(job.folder)) < 25) == (rate == "1e-12")
    import optuna
    from optuna.storages import JournalStorage, journal

    storage = JournalStorage(journal.JournalFileBackend(str(folder / "optuna.log")))
    study = optuna.load_study(study_name="sweep", storage=storage)
    assert study.direction.name == "MINIMIZE"
    assert [trial.state.name for trial in study.trials] == [
        "PRUNED" if rate == "1e-12" else "COMPLETE" for rate in rates
    ]
    assert study.trials[0].value == pytest.approx(results(folder / "0")["monitor"]["value"])
    again = warm("mmeq.train", *command, "optim.optimizer.lr=choice(1e-3,1e-2)", cwd=tmp_path)
    assert again.status == 2
    assert "the record of another search (it differs in optim.optimizer.lr)" in again.stderr


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm"])
def test_a_queue_runs_the_jobs(launcher, warm, tmp_path):
    """Slurm's commands are played by scripts that start what they are given on this machine."""
    pytest.importorskip("submitit")
    folder, extra, seeds = tmp_path / "sweep", {}, "0"
    if launcher == "submitit_slurm":
        extra, seeds = slurm(tmp_path / "bin"), "0,1"
    given = [f"hydra/launcher={launcher}", f"seed={seeds}", f"hydra.sweep.dir={folder}"]
    given += ["hydra.launcher.timeout_min=5"]
    done = warm("mmeq.train", "-m", *BASE, *given, cwd=tmp_path, **extra)
    assert done.status == 0, done.stderr
    count = len(seeds.split(","))
    assert f"{count} jobs: {count} finished" in done.stdout
    assert [results(folder / str(number))["epochs"] for number in range(count)] == count * [3]
    if launcher == "submitit_slurm":
        told = (tmp_path / "bin" / "calls").read_text("utf-8")
        assert "sbatch" in told
        assert "srun" in told


def slurm(folder: Path) -> dict[str, str]:
    """Write scripts that answer as Slurm's commands do; return the variables to find them."""
    folder.mkdir()
    scripts = {
        "sbatch": """
            script=$(cd "$(dirname "$1")" && pwd)/$(basename "$1"); id=4711
            array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
            for task in $(seq 0 "${array:-0}"); do
              SLURM_JOB_ID=$((id + task)) SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task \\
              SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NNODES=1 \\
              SLURM_JOB_NODELIST=here \\
              sh -c 'sh "$0"; touch "$1"' "$script" "$(dirname "$0")/ended-$task" > /dev/null 2>&1 &
            done
            echo "Submitted batch job $id"
        """,
        # the options of srun end at the command; %A and %a name the task's files
        "srun": 'while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift;; esac; shift;'
        ' done; exec "$@"',
        "sacct": """
            echo "JobID|State|NodeList"
            for task in 0 1; do
              state=RUNNING; [ -e "$(dirname "$0")/ended-$task" ] && state=COMPLETED
              echo "4711_$task|$state|here"
            done
        """,
        "scontrol": "echo here",
    }
    for name, text in scripts.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/calls"\n{text}\n', "utf-8")
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_gpus_are_waited_for_and_shown_to_jobs_one_each(tmp_path):
    """Two jobs at a time, on a machine that says it has one GPU: none shares it."""
    folder, tools = tmp_path / "sweep", tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho '0, GPU-one'\n", "utf-8")
    (tools / "nvidia-smi").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    given = ["trainer.accelerator=auto", "seed=0,1", f"hydra.sweep.dir={folder}", *JOBLIB]
    outer = {k: v for k, v in environment().items() if k != "CUDA_VISIBLE_DEVICES"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mmeq.train", "-m", *BASE, *given],
        env={**outer, "PATH": path, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    shown: dict[str, set[str]] = {}
    while process.poll() is None:
        running = {}
        for held in folder.glob("*/.running"):
            with contextlib.suppress(OSError, IndexError):  # just ending
                pid = held.read_text("utf-8").split()[1]
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                (gpu,) = (v for v in variables if v.startswith(b"CUDA_VISIBLE_DEVICES="))
                running[held.parent.name] = gpu.decode().partition("=")[2]
        assert len(running) <= 1  # jobs hold their GPU for longer than their mark
        for name, gpu in running.items():
            shown.setdefault(name, set()).add(gpu)
        time.sleep(0.02)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert "waiting for 1 of 1 GPUs" in out
    assert shown == {"0": {"GPU-one"}, "1": {"GPU-one"}}
