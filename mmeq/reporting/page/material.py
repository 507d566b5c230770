"""What the page has of each row: its runs as kept lines, whatever they were read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmeq.errors import MmeqError
from mmeq.reporting.excerpt import NAMED
from mmeq.reporting.kept import keep
from mmeq.reporting.runs import Run
from mmeq.reporting.statistics import Estimate, estimate
from mmeq.reporting.tables import Row, Table

SHOWN = 4
"""Rows that are ticked at first, beside the reference and the best."""
COLOURS = 12
"""Colours of rows; further ones are dashed in the same colours."""
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """A row as the page shows it.

    Attributes:
        row: of the table.
        key: its identifier in the page.
        colour: of its curves, as CSS.
        dashed: so are its curves.
        ticked: shown at first.
        lines: its runs as `mmeq.reporting.kept.keep` has them.
        damage: what could not be read of them.
    """

    row: Row
    key: str
    colour: str
    dashed: bool
    ticked: bool
    lines: Sequence[Line]
    damage: Sequence[str] = ()

    @property
    def label(self) -> str:
        """Of the row."""
        return self.row.label

    @property
    def fused(self) -> bool:
        """Whether it is of more than one modality."""
        return self.row.first.alone is None

    @property
    def options(self) -> str:
        """The options that all its runs were made with, where they have been kept."""
        given = [line.get("options") or [] for line in self.lines]
        return " ".join(option for option in given[0] if all(option in other for other in given))

    def mean(self, values: Sequence[float | None], **ends: float) -> Estimate:
        """Return the mean over its runs with the interval of the table."""
        return estimate(values, self.row.overlap, **ends)


def shown_rows(table: Table, number: int) -> list[Shown]:
    """Return the rows of a table with all that the page needs.

    Args:
        table: as compared.
        number: of the table in the page.
    """
    ticked = {row.label for row in table.rows[:SHOWN]}
    best = max(table.rows, key=lambda row: row.estimates["accuracy"].mean or 0.0)
    ticked |= {row.label for row in (best, table.reference) if row is not None}
    out = []
    for place, row in enumerate(table.rows):
        found = [line_of(run) for run in row.runs.values()]
        out.append(
            Shown(
                row=row,
                key=f"t{number}r{place + 1}",
                colour=f"var(--c{place % COLOURS})",
                dashed=place >= COLOURS,
                ticked=row.label in ticked,
                lines=[line for line, _ in found],
                damage=[why for _, why in found if why],
            )
        )
    return out


def line_of(run: Run) -> tuple[Line, str]:
    """Return a run as a kept line, and what of it could not be read."""
    if run.kept is not None:
        return run.kept, ""
    try:
        return keep(run.folder, "", ""), ""
    except MmeqError as error:  # an old or torn history costs its panels alone
        return keep(run.folder, "", "", history=False), str(error)


def lacking(
    rows: Sequence[Shown], has: Callable[[Line], Any], why: Callable[[Line], str]
) -> list[str]:
    """Return a sentence for each reason why runs lack what a panel shows.

    Args:
        rows: those that the panel is about.
        has: says whether a run has it.
        why: says why a run lacks it.
    """
    reasons: dict[str, list[str]] = {}
    for shown in rows:
        without = [line for line in shown.lines if not has(line)]
        if without:
            whole = len(without) == len(shown.lines)
            count = "" if whole else f" ({len(without)} of {len(shown.lines)} runs)"
            for reason in dict.fromkeys([*shown.damage, *map(why, without)]):
                reasons.setdefault(reason, []).append(shown.label + count)
    everywhere = [shown.label for shown in rows]
    return [
        f"Left out ({reason}): {'all rows' if where == everywhere else ', '.join(where)}."
        for reason, where in reasons.items()
    ]


def no_history(line: Line) -> str:
    """Say why a run has no epochs to show."""
    return "no history was kept"


def no_confusion(line: Line) -> str:
    """Say why a run has no confusion matrix."""
    if "calibration" in line:
        return f"more than {NAMED} classes"
    return no_predictions(line)


def no_predictions(line: Line) -> str:
    """Say why a run has no calibration."""
    return "predictions were not kept"


def no_rates(line: Line) -> str:
    """Say why a run has no curve of missing modalities."""
    return "missing rates were not measured (callbacks.missing)"
