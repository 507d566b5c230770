"""Questions whose jobs are runs of `mmeq.train`, with a page of their own or the common one."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from engine import figure, lines, page, pool
from engine.numbers import Line
from engine.sweep import Job, Sweep
from mmeq.errors import MmeqError
from mmeq.reporting.kept import keep


class Runs:
    """A question, as its sweep.yaml has it.

    Its page.py, where it has one, gives `text(kept, sweep)` and `figure(kept, sweep)`, and
    `figures(kept, sweep)`, name → figure, where it draws more than one.
    """

    needed = lines.NEEDED
    most: int | None = None
    key = staticmethod(lines.run_key)
    work = staticmethod(pool.train)

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.name, self.home = sweep, sweep.name, sweep.home

    def jobs(self) -> list[Job]:
        """Every run."""
        return self.sweep.jobs()

    def line(self, job: Job, folder: Path) -> dict[str, Any]:
        """What is kept of a run."""
        history = self.sweep.history
        return keep(folder, job.table, job.row, history=history, options=job.options)

    def more(self, results: Path) -> str:
        """What else can be made of its lines."""
        return f"; more: make report ARGS={results}"

    def page(self, kept: Sequence[Line]) -> tuple[str, dict[str, Any]]:
        """Text and figures.

        Raises:
            MmeqError: when no data set has a run of every row.
        """
        kept, sweep = begun(self.sweep, kept), self.sweep
        if not kept:
            raise MmeqError("no data set has a finished run of every row, so there is no page")
        if (own := module_of(self.home, "page")) is None:
            drawn = figure.dots(kept, sweep.reference)
            return page.tables(kept, sweep.reference), {"figure": drawn}
        more = own.figures(kept, sweep) if hasattr(own, "figures") else {}
        return own.text(kept, sweep), {"figure": own.figure(kept, sweep), **more}


def begun(sweep: Sweep, kept: Sequence[Line]) -> list[Line]:
    """The lines of data sets that have a run of every row; it is said what the others lack."""
    out: list[Line] = []
    for data in sweep.data:
        here = [line for line in kept if line["table"] == data.name]
        lacking = sweep.labels(data).keys() - {line["row"] for line in here}
        if lacking:
            print(f"{data.name} is not on the page: no run of {', '.join(sorted(lacking))}")
        else:
            out += here
    return out


def module_of(folder: Path, name: str) -> ModuleType | None:
    """A module that lies in a question's folder, where it has one."""
    path = folder / f"{name}.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"{name}_of_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
