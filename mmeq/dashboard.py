"""Lay runs side by side, in a local page or a W&B workspace: ``python -m mmeq.dashboard``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmeq.errors import MmeqError, did_you_mean
from mmeq.files import NotWritten, write_text

MISTAKE = 2
"""Exit status for what the user can put right."""
OPTIONS = {
    "runs": "run folders, folders that hold runs at any depth, or globs (may be given again)",
    "output": "the page (default: dashboard.html)",
    "project": "W&B project as <entity>/<project>, for who has a key; in place of runs and output",
}
EPILOG = f"""\
options, written name=value:
{chr(10).join(f"  {name + '=':10}{what}" for name, what in OPTIONS.items())}

The page is one file that needs no network: Shapley values, EDM, order and losses over the epochs,
every coalition, missing modalities, and a table over all runs. Runs under way are in it as far as
they have come; call again for the next epoch. A damaged run is named on standard error and left
out (exit status 2, after the page).

  python -m mmeq.dashboard runs=runs/comparison
  python -m mmeq.dashboard runs='runs/mfeat-*/*' runs=runs/mine output=compare.html
  python -m mmeq.dashboard project=me/mmeq
"""


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="mmeq.dashboard",
        description="Lay runs side by side: one local HTML page, or a W&B workspace.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("options", nargs="+", metavar="name=value", help="see below")
    return made


def given(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each option.

    Raises:
        MmeqError: for an option that is unknown, empty or does not go with another.
    """
    found: dict[str, list[str]] = {}
    for argument in arguments:
        name, is_one, value = argument.partition("=")
        if not is_one:
            raise MmeqError(f"{argument}: an option is written name=value, such as runs={argument}")
        if name not in OPTIONS:
            raise MmeqError(f"there is no option {name}" + did_you_mean(name, OPTIONS))
        if not value:
            raise MmeqError(f"{name}= is empty: give {OPTIONS[name]}")
        found.setdefault(name, []).append(value)
    for name in ("output", "project"):
        if len(found.get(name, [])) > 1:
            raise MmeqError(f"{name}= is given {len(found[name])} times: give it once")
    if "project" in found and len(found) > 1:
        raise MmeqError("project= makes a W&B workspace, runs= a local page: give one of them")
    if "project" not in found and "runs" not in found:
        raise MmeqError("give runs=<folder> for a local page, or project=<entity>/<project>")
    return found


def local(runs: Sequence[str], output: Path) -> int:
    """Write the page; return the exit status.

    Raises:
        MmeqError: when there is no run, or the file is another's.
    """
    from mmeq.reporting.dashboard import page, read_records
    from mmeq.reporting.dashboard.page import GENERATOR

    if output.is_dir():
        raise MmeqError(f"output={output} is a folder: give a file, such as {output}/runs.html")
    if output.exists() and GENERATOR.encode() not in output.read_bytes()[:400]:
        raise MmeqError(f"output={output} is there and was not written by mmeq: give another name")
    found = read_records(runs)
    write_text(output, page(found.records, output.parent))
    count = len(found.records)
    print(f"{count} run{'s' if count > 1 else ''} in {output.resolve().as_uri()}")
    for text in found.empty:
        tell(f"{text}: there is no run in it")
    for why in found.damaged:
        tell(f"{why}; left out")
    return MISTAKE if found.damaged else 0


def hosted(project: str) -> int:
    """Save the workspace; return the exit status."""
    from mmeq.workspace import save_workspace

    print(save_workspace(project))
    return 0


def tell(message: str) -> None:
    """Say something beside the result."""
    print(f"mmeq: {message}", file=sys.stderr)


def main() -> None:
    """Entry point of ``mmeq-dashboard``."""
    arguments = parser().parse_args()
    try:
        options = given(arguments.options)
        if "project" in options:
            status = hosted(options["project"][0])
        else:
            output = Path(options.get("output", ["dashboard.html"])[0])
            status = local(options["runs"], output)
    except (MmeqError, NotWritten) as error:
        tell(str(error))
        status = MISTAKE
    sys.exit(status)


if __name__ == "__main__":
    main()
