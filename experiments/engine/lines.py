"""results.jsonl: one line a finished run or measurement, which stays when its folder is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmeq.errors import MmeqError
from mmeq.files import write_text

Line = Mapping[str, Any]
Key = Callable[[Line], Hashable]


NEEDED = ("table", "row", "seed", "split_seed", "options")
"""Keys of a run's line."""


class Keyed(Protocol):
    """A run or a measurement."""

    @property
    def key(self) -> Hashable:
        """What its line is found by."""


def run_key(line: Line) -> tuple[str, str, int, int, tuple[str, ...]]:
    """What `engine.sweep.Job.key` is of its run."""
    return (
        line["table"],
        line["row"],
        line["seed"],
        line["split_seed"],
        tuple(line["options"]),
    )


def read(path: Path, needed: Sequence[str] = NEEDED) -> list[dict[str, Any]]:
    """Read the lines.

    Args:
        path: of results.jsonl.
        needed: keys that each line must have.

    Raises:
        MmeqError: names a damaged line, or one of something else.
    """
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise MmeqError(f"{path}, line {number} is damaged: {error}") from error
        lacking = [name for name in needed if not isinstance(line, dict) or name not in line]
        if lacking:
            raise MmeqError(
                f"{path}, line {number} is none of this question, it lacks {', '.join(lacking)}: "
                "remove the file to have every run made anew"
            )
        lines.append(line)
    return lines


def chosen(lines: Iterable[Line], jobs: Iterable[Keyed], key: Key = run_key) -> list[Line]:
    """The lines of the jobs, in their order; what no job asks for any more is left away."""
    found = {key(line): line for line in lines}
    return [found[job.key] for job in jobs if job.key in found]


def write(path: Path, lines: Iterable[Line], jobs: Iterable[Keyed], key: Key = run_key) -> None:
    """Write the lines of the jobs (see `chosen`)."""
    kept = chosen(lines, jobs, key)
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
