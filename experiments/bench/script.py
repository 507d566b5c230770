"""What the bench scripts have in common: options, environment, and the file of results."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mmeq.files import write_json

HERE = Path(__file__).parent
Lines = Iterator[dict[str, Any]]


def options(about: str | None, shorter: str, threads: int | None = None) -> argparse.Namespace:
    """Read ``--quick`` and ``--threads``; let torch use so many threads.

    Args:
        about: the script.
        shorter: what ``--quick`` makes less of.
        threads: fixed, so that there is no such option; None: as given, else one a core.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help=f"fewer {shorter}")
    if threads is None:
        parser.add_argument("--threads", type=int, default=os.cpu_count())
    else:
        parser.set_defaults(threads=threads)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def write(stem: str, given: argparse.Namespace, versions: dict[str, Any], **found: Any) -> Path:
    """Write ``<stem>.json``, or ``<stem>-quick.json``: environment, and what was found.

    Args:
        stem: of the file's name.
        given: see `options`.
        versions: of libraries, and whatever else the figures depend on.
        **found: lines, and facts about them.
    """
    results = {
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **versions,
            "machine": platform.machine(),
            "threads": given.threads,
        },
        "quick": given.quick,
        **found,
    }
    return write_json(HERE / f"{stem}{'-quick' if given.quick else ''}.json", results)


def main(
    about: str | None, stem: str, shorter: str, lines: Callable[[bool], Lines], **versions: Any
) -> None:
    """Measure, print and write: see `options` and `write`; `lines` is told whether to be quick."""
    given = options(about, shorter)
    print(f"written to {write(stem, given, versions, lines=list(lines(given.quick)))}")
