"""Answer a question: run what is missing of its sweep, then write its page (`make order`).

    python experiments/run.py order                       # on the bundled data
    python experiments/run.py order dataset=cremad data_root=/data/CREMA-D trainer.max_epochs=50
    python experiments/run.py order --page                # only draw what results.jsonl has

A run is in results.jsonl once it is finished, and then not run again, unless the sweep gives it
other options. With data of one's own, results and page go to runs/<question>/<dataset>.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: two runs share two cores

import argparse
import importlib.util
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

from engine import figure, lines, page, pool
from engine.sweep import HERE, Sweep, read

from mmeq.errors import MmeqError
from mmeq.reporting.kept import keep


def missing(sweep: Sweep, kept: list[dict], runs: Path, at_once: int, results: Path) -> list[str]:
    """Run what is missing, keep each run as it ends; return what failed."""
    have, jobs = {lines.key(line) for line in kept}, sweep.jobs()
    todo = [job for job in jobs if job.key not in have]
    failed, start = [], time.monotonic()
    print(f"{sweep.name}: {len(jobs)} runs, {len(todo)} are missing", flush=True)
    for number, (job, folder, done) in enumerate(pool.run(todo, runs, at_once), 1):
        name = f"{job.table}, {job.row}, seed {job.seed}, split {job.split}"
        if done:
            kept.append(
                keep(folder, job.table, job.row, history=sweep.history, options=job.options)
            )
        else:
            failed.append(f"{name}: see {pool.said(folder)}")
        if number % 10 == 0 or number == len(todo):
            lines.write(results, kept, jobs)
        took = time.monotonic() - start
        left = took / number * (len(todo) - number)
        state = "done" if done else "FAILED"
        print(f"[{number}/{len(todo)}, {left / 60:.0f} min left] {name}: {state}", flush=True)
    return failed


def own_page(folder: Path) -> ModuleType | None:
    """The question's page.py, where it has one: `text(kept, sweep)`, `figure(kept, sweep)`.

    And `figures(kept, sweep)`, name → figure, where it draws more than one.
    """
    path = folder / "page.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"page_of_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def begun(sweep: Sweep, kept: list[dict]) -> list[dict]:
    """The lines of data sets that have a run of every row; it is said what the others lack."""
    out = []
    for data in sweep.data:
        here = [line for line in kept if line["table"] == data.name]
        lacking = sweep.labels(data).keys() - {line["row"] for line in here}
        if lacking:
            print(f"{data.name} is not on the page: no run of {', '.join(sorted(lacking))}")
        else:
            out += here
    return out


def draw(sweep: Sweep, kept: list[dict], home: Path) -> None:
    """Write the page and its figure."""
    kept = begun(sweep, kept)
    if not kept:
        raise MmeqError("no data set has a finished run of every row, so there is no page")
    own = own_page(sweep.home)
    text = own.text(kept, sweep) if own else page.tables(kept, sweep.reference)
    drawn = own.figure(kept, sweep) if own else figure.dots(kept, sweep.reference)
    figure.save(drawn, home / "figure.png")
    if hasattr(own, "figures"):
        for name, more in own.figures(kept, sweep).items():
            figure.save(more, home / f"{name}.png")
    if not (home / "README.md").is_file():
        shutil.copy(sweep.home / "README.md", home / "README.md")
    page.put(home / "README.md", text)
    print(f"{home / 'README.md'} and figure.png; more: make report ARGS={home / 'results.jsonl'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("question")
    parser.add_argument("options", nargs="*", help="data of your own, as for mmeq.train")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--questions", type=Path, default=HERE, help="where their folders are")
    given = parser.parse_intermixed_args()
    failed: list[str] = []
    try:
        sweep = read(given.question, given.options, given.questions)
        runs = given.runs.resolve() / given.question
        home = runs / sweep.data[0].name if given.options else sweep.home
        kept = lines.read(home / "results.jsonl")
        if not given.page:
            failed = missing(sweep, kept, runs, given.jobs, home / "results.jsonl")
            if failed:
                print(f"{len(failed)} runs failed:", *failed, sep="\n", file=sys.stderr)
        draw(sweep, lines.chosen(kept, sweep.jobs()), home)
    except MmeqError as error:
        sys.exit(f"{given.question}: {error}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
