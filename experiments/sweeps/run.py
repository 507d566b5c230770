"""A 12-job sweep, interrupted again and again, against one that nothing disturbed (`make sweeps`).

By each way of running jobs: one after the other, two commands at one sweep, joblib, a queue on this
machine. Its driver is stopped by SIGTERM, killed by ``kill -9``, and one of its jobs is killed;
between, the same command is given again. What every job leaves is compared with an undisturbed
sweep: weights, optimizer and history bit for bit, and results. The table goes into README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mmeq.files import read_jsonl, write_json, write_text
from mmeq.sweeps import state

HERE = Path(__file__).parent
MARK = "<!-- table -->"
SWEEP = [
    *("dataset=synthetic", "dataset.samples=800", "batch_size=16", "trainer.max_epochs=8"),
    *("backbone.dim=16", "backbone.encoders.vector.hidden=24", "trainer.accelerator=cpu"),
    *("callbacks.missing=null", "callbacks.figures=null", "callbacks.console=null"),
    *("method=joint,shapley", "optim.optimizer.lr=1e-3,3e-3", "seed=0,1,2"),
]
JOBS = 12
LAUNCHERS = {
    "basic": [],
    "basic, two commands": [],
    "joblib, two at a time": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60"],
}
MEASURED = ("seconds", "test_seconds", "memory")
PATIENCE = 1200.0


def start(folder: Path, launcher: str) -> subprocess.Popen[bytes]:
    """Give the command of the sweep."""
    command = [sys.executable, "-m", "mmeq.train", "-m", *SWEEP, *LAUNCHERS[launcher]]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, f"hydra.sweep.dir={folder}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def trained(folder: Path) -> int:
    """Epochs that the jobs have trained, all together."""
    return sum(len(read_jsonl(path)) for path in folder.glob("*/history.jsonl"))


def amid(folder: Path, drivers: list[subprocess.Popen[bytes]], chance: random.Random) -> None:
    """Wait until some more epochs are trained, or the sweep is done."""
    until = trained(folder) + chance.randint(6, 24)
    while trained(folder) < until and any(driver.poll() is None for driver in drivers):
        time.sleep(0.05)


def kill_job(folder: Path) -> bool:
    """``kill -9`` a job that is under way; false when there is none."""
    for path in folder.glob("*/.running"):
        pid = path.read_text(encoding="utf-8").split()[1]
        os.kill(int(pid), signal.SIGKILL)
        return True
    return False


def quiet(folder: Path) -> None:
    """Wait until no process is at a job."""
    while any(state.busy(job) for job in state.jobs(folder)):
        time.sleep(0.1)


def interrupted(folder: Path, launcher: str, chance: random.Random) -> dict[str, Any]:
    """Run the sweep to its end through three faults; return what was seen."""
    seen: dict[str, Any] = {"statuses": [], "commands": 0}
    number = 2 if launcher == "basic, two commands" else 1
    for fault in ("SIGTERM", "kill -9", "kill -9 of a job", None):
        drivers = [start(folder, launcher) for _ in range(number)]
        seen["commands"] += number
        if fault is not None:
            amid(folder, drivers, chance)
        if fault == "SIGTERM":
            for driver in drivers:
                driver.terminate()
        elif fault == "kill -9":
            for driver in drivers:
                driver.kill()
        elif fault == "kill -9 of a job":
            kill_job(folder)
        for driver in drivers:
            status = driver.wait(PATIENCE)
            seen["statuses"].append([fault, status])
        quiet(folder)
        seen[f"finished after {fault}"] = len(list(folder.glob("*/results.json")))
    return seen


def timeless(tree: Any) -> Any:
    """Return the same without what clock and memory have measured."""
    if isinstance(tree, dict):
        return {k: timeless(v) for k, v in tree.items() if k not in MEASURED}
    return [timeless(one) for one in tree] if isinstance(tree, list) else tree


def left(folder: Path) -> dict[str, Any]:
    """What a job leaves, to be compared to the last bit."""
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    parts = ("state_dict", "optimizer_states", "mmeq_order")
    return {
        "checkpoint": {part: kept[part] for part in parts},
        "history": timeless(read_jsonl(folder / "history.jsonl")),
        "results": timeless(results),
    }


def same(one: Any, two: Any) -> bool:
    """Say whether two trees are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.equal(two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def main() -> None:
    """Run the sweeps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="mmeq-sweeps-"))
    whole = place / "whole"
    begun = time.monotonic()
    if start(whole, "joblib, two at a time").wait(PATIENCE):
        raise SystemExit(f"the undisturbed sweep failed: see {place / 'whole.log'}")
    found: dict[str, Any] = {"undisturbed": {"seconds": round(time.monotonic() - begun, 1)}}
    for launcher in LAUNCHERS:
        folder = place / launcher.replace(", ", "-").replace(" ", "-")
        seen = interrupted(folder, launcher, random.Random(arguments.seed))
        equal = sum(same(left(whole / str(n)), left(folder / str(n))) for n in range(JOBS))
        found[launcher] = {**seen, "equal": equal}
        print(f"{launcher}: {found[launcher]}", flush=True)
    write_json(HERE / "results.json", found)
    page(found)
    shutil.rmtree(place)


def page(found: dict[str, Any]) -> None:
    """Write the table into README.md."""
    heads = ["jobs run by", "after SIGTERM", "after `kill -9`", "after a job was killed", "at last"]
    lines = [f"| {' | '.join(heads)} | equal to the undisturbed sweep |", "|---" * 6 + "|"]
    for launcher, seen in found.items():
        if launcher == "undisturbed":
            continue
        faults = ("SIGTERM", "kill -9", "kill -9 of a job", None)
        cells = []
        for fault in faults:
            statuses = [str(status) for name, status in seen["statuses"] if name == fault]
            cells.append(f"{seen[f'finished after {fault}']} ({', '.join(statuses)})")
        lines.append(f"| {launcher} | {' | '.join(cells)} | {seen['equal']} of {JOBS} |")
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").split(MARK)[0]
    write_text(readme, f"{head}{MARK}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
