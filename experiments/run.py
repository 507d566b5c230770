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
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from engine import figure, lines, page, pool
from engine.cells import Measured
from engine.runs import Runs, module_of
from engine.sweep import HERE, folder_of, read

from mmeq.errors import MmeqError

Question = Runs | Measured


def question_of(name: str, own: list[str], questions: Path) -> Question:
    """The question of a folder.

    Args:
        name: of the folder.
        own: options of data of one's own.
        questions: where the folders are.

    Raises:
        MmeqError: for one that is unknown or wrong.
    """
    measure = module_of(folder_of(name, questions), "measure")
    if measure is None:
        return Runs(read(name, own, questions))
    if own:
        raise MmeqError(f"it takes no data of your own; what it measures is in {name}/sweep.yaml")
    return Measured(questions / name, measure)


def missing(
    question: Question, kept: list[dict[str, Any]], runs: Path, at_once: int, results: Path
) -> list[str]:
    """Run what is missing, keep each run as it ends; return what failed."""
    have, jobs = {question.key(line) for line in kept}, question.jobs()
    todo = [job for job in jobs if job.key not in have]
    failed, start = [], time.monotonic()
    print(f"{question.name}: {len(jobs)} runs, {len(todo)} are missing", flush=True)
    at_once = min(at_once, question.most or at_once)
    with closing(pool.run(todo, runs, at_once, question.work)) as ended:
        for number, (job, folder, done) in enumerate(ended, 1):
            if done:
                kept.append(question.line(job, folder))
            else:
                failed.append(f"{job.name}: see {pool.said(folder)}")
            if number % 10 == 0 or number == len(todo):
                lines.write(results, kept, jobs, question.key)
            took = time.monotonic() - start
            left = f"{took / number * (len(todo) - number) / 60:.0f} min left"
            state = "done" if done else "FAILED"
            print(f"[{number}/{len(todo)}, {left}] {job.name}: {state}", flush=True)
    return failed


def draw(question: Question, kept: list[lines.Line], home: Path) -> None:
    """Write the page and its figures."""
    text, figures = question.page(kept)
    for name, drawn in figures.items():
        figure.save(drawn, home / f"{name}.png")
    if not (home / "README.md").is_file():
        shutil.copy(question.home / "README.md", home / "README.md")
    page.put(home / "README.md", text)
    print(f"{home / 'README.md'} and figure.png{question.more(home / 'results.jsonl')}")


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
        question = question_of(given.question, given.options, given.questions)
        runs = given.runs.resolve() / given.question
        home = runs / question.sweep.data[0].name if given.options else question.home
        kept = lines.read(home / "results.jsonl", question.needed)
        if not given.page:
            failed = missing(question, kept, runs, given.jobs, home / "results.jsonl")
            if failed:
                print(f"{len(failed)} runs failed:", *failed, sep="\n", file=sys.stderr)
        draw(question, lines.chosen(kept, question.jobs(), question.key), home)
    except MmeqError as error:
        sys.exit(f"{given.question}: {error}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
