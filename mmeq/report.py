"""Tables over many runs: ``python -m mmeq.report <runs>``; ``--help``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mmeq.errors import MmeqError
from mmeq.files import NotWritten, write_text
from mmeq.reporting import (
    Found,
    Table,
    compare,
    html,
    latex,
    markdown,
    read_folders,
    report_csv,
    runs_csv,
)

MISTAKE = 2
"""Exit status for what the user can put right."""
FORMATS: dict[str, Callable[[Sequence[Table], Found], str]] = {
    "markdown": markdown,
    "csv": lambda tables, _: report_csv(tables),
    "latex": latex,
    "html": html,
}
FILES = {"report.md": markdown, "report.csv": FORMATS["csv"], "report.tex": latex}
FILES |= {"report.html": html, "runs.csv": runs_csv}
EPILOG = """\
A table is what the data are: the dataset section of config.yaml but split_seed, and missing=.
A row is method, fusion and every other option in which runs differ; not told apart are seeds,
name, devices, workers, folders, loggers and callbacks that only watch. A label names the fusion
where it is not the usual one, and an option where its value is not that of most rows. Runs of a
row are paired with those of the reference by equal (seed, split_seed).

Intervals are 95 % t intervals over runs. Where runs differ in their split, the variance of the mean
is (1/n + test/train) s², since random splits of one dataset share samples (Nadeau & Bengio 2003).
A * marks differences that survive Holm's correction for all comparisons of the table at 5 %.

Only run folders are read, and files of kept runs (results.jsonl: one a line, each of which names
its table and its row). A run without results.json is listed as unfinished, and a damaged one
named on standard error (exit status 2, after the report).

  python -m mmeq.report runs/comparison
  python -m mmeq.report experiments/comparison/results.jsonl --output tables
  python -m mmeq.report 'runs/mfeat-*' runs/alone --output tables
  python -m mmeq.report runs --reference "joint, memory" --ignore optim.optimizer.lr --format latex
"""


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="mmeq.report",
        description="Compare finished runs: accuracy, paired difference to a reference, balance, "
        "missing modalities, time and memory, with intervals.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "runs",
        nargs="+",
        help="run folders, folders that hold runs at any depth, files of kept runs, or globs",
    )
    made.add_argument(
        "--format", choices=[*FORMATS, "all"], default="markdown", help="what is printed"
    )
    made.add_argument(
        "--output", type=Path, metavar="FOLDER", help=f"also write {', '.join(FILES)} there"
    )
    made.add_argument(
        "--reference",
        metavar="LABEL",
        help="row to compare with (joint concat: by label, else by method and fusion)",
    )
    made.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option, or section, that does not split rows, such as one tuned for each method; "
        "may be given several times",
    )
    return made


def report(arguments: argparse.Namespace) -> int:
    """Read, compare, print and write; return the exit status.

    Raises:
        MmeqError: for what the user can put right.
    """
    if arguments.output is not None and arguments.output.is_file():
        raise MmeqError(f"--output {arguments.output} is a file: give a folder")
    found = read_folders(arguments.runs)
    tables = compare(found.runs, arguments.reference, arguments.ignore)
    chosen = list(FORMATS) if arguments.format == "all" else [arguments.format]
    print("\n".join(FORMATS[name](tables, found) for name in chosen), end="")
    if arguments.output is not None:
        for name, write in FILES.items():
            write_text(arguments.output / name, write(tables, found))
        tell(f"wrote {', '.join(FILES)} in {arguments.output}")
    for text in found.empty:
        tell(f"{text}: there is no run in it")
    if found.unfinished:
        count = len(found.unfinished)
        tell(f"{count} unfinished run{'s are' if count > 1 else ' is'} in no table")
    for why in found.damaged.values():
        tell(why)
    return MISTAKE if found.damaged else 0


def tell(message: str) -> None:
    """Say something beside the report."""
    print(f"mmeq: {message}", file=sys.stderr)


def main() -> None:
    """Entry point of ``mmeq-report``."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    arguments = parser().parse_args()
    try:
        status = report(arguments)
        sys.stdout.flush()
    except (MmeqError, NotWritten) as error:
        tell(str(error))
        status = MISTAKE
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


if __name__ == "__main__":
    main()
