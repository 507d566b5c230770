"""The bench: `make bench`, or `make bench-quick` in under 3 minutes on two cores.

Each section measures ratios of two things in turn in one run (A, B, A, B, …), so that a machine
that is busy for a while slows both, and gives the median with the smallest and the largest. Written
to results.json (results-quick.json) after each section; sections that are not run stay.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from environment import HERE, environment
from measure import Line, told

from mmeq.files import write_json

SECTIONS = {
    "training": "training",
    "validation": "validation",
    "methods": "methods",
    "coalitions": "coalitions",
    "loading": "loading",
    "start": "start",
    "record": "record",
    "memory": "memory",
    "growth": "growth",
    "profile": "profiling",
    "device": "device",
    "backbones": "backbones",
    "estimators": "estimators",
}
"""Section → its module here, with ``lines(quick)``."""
FULL_ONLY = ("record", "backbones", "estimators")
"""Left out of a quick run that names no sections."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the options.

    Raises:
        SystemExit: for sections that there are not.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="fewer sizes, samples and repeats")
    parser.add_argument("--only", help=f"sections, by commas: {','.join(SECTIONS)}")
    parser.add_argument("--page", action="store_true", help="make the page, of some sections too")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    options = parser.parse_args(given)
    if options.only is None:
        options.sections = [s for s in SECTIONS if not (options.quick and s in FULL_ONLY)]
        return options
    options.sections = options.only.split(",")
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"--only: there is no section {name!r}; there are {', '.join(SECTIONS)}")
    return options


def load(section: str) -> Callable[[bool], Iterable[Line]]:
    """The function that measures a section."""
    lines: Callable[[bool], Iterable[Line]] = importlib.import_module(SECTIONS[section]).lines
    return lines


def measured(
    section: str, quick: bool, load: Callable[[str], Callable[[bool], Iterable[Line]]] = load
) -> dict[str, Any]:
    """Run a section: seconds, lines, and the error that ended it, if one did."""
    start, found = time.perf_counter(), list[Line]()
    result: dict[str, Any] = {"lines": found}
    try:
        lines = load(section)
        quieten()  # what it imports sets its loggers anew
        for line in lines(quick):
            found.append(line)
            print(told(line), flush=True)
    except Exception as error:
        traceback.print_exc()
        result["error"] = f"{type(error).__name__}: {error}"
    return {"seconds": time.perf_counter() - start, **result}


def merge(path: Path, quick: bool, about: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Put sections into a file of results; the others stay.

    Each section keeps the commit that it was measured at.

    Args:
        path: of the file.
        quick: the kind of the run.
        about: the environment.
        found: section → what `measured` gave.
    """
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = before.get("sections", {}) if before.get("quick") == quick else {}
    new = {name: {"commit": about.get("commit"), **one} for name, one in found.items()}
    merged = {**kept, **new}
    ordered = {name: merged[name] for name in SECTIONS if name in merged}
    write_json(path, {"environment": dict(about), "quick": quick, "sections": ordered})


def main(given: list[str] | None = None) -> int:
    """Measure, print and write; 1 if a section failed."""
    options = arguments(given)
    torch.set_num_threads(options.threads)
    about, start = environment(), time.perf_counter()
    path = HERE / f"results{'-quick' if options.quick else ''}.json"
    failed = []
    for section in options.sections:
        print(f"\n== {section}", flush=True)
        found = measured(section, options.quick)
        merge(path, options.quick, about, {section: found})
        print(f"-- {found['seconds']:.0f} s", flush=True)
        if "error" in found:
            failed.append(section)
    if options.page or options.only is None:
        from page import write_page

        write_page(HERE)
    print(f"\nwritten to {path} after {time.perf_counter() - start:.0f} s")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def quieten() -> None:
    """Let libraries tell errors only."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
