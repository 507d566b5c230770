"""Curves of rows, means over their runs with bands: learning, φ, EDM, missing modalities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmeq.reporting.dashboard.charts import Chart, Line, Point, chart, span
from mmeq.reporting.page.material import COLOURS, Shown
from mmeq.reporting.statistics import Estimate

FEW = 8
"""Of more rows than this, points tell no numbers of their own: the page would be too large."""
ROOM = 0.4
"""Of the range of the means: how far beyond it bands are drawn."""


def past(shown: Shown) -> list[dict[str, Any]]:
    """Return the histories of a row's runs, of those that have one."""
    return [line["history"] for line in shown.lines if line.get("history")]


def over_epochs(
    shown: Shown,
    read: Callable[[dict[str, Any]], Sequence[float | None]],
    scale: float = 1.0,
    **bounds: float,
) -> list[Point]:
    """Return mean and interval for each epoch that all runs of a row have reached.

    Args:
        shown: the row.
        read: returns a run's numbers by epoch from its history.
        scale: 100 turns shares into percent.
        **bounds: ``least`` and ``most`` that the number can be.
    """
    runs = [read(history) for history in past(shown)]
    length = min((len(run) for run in runs), default=0)
    return [
        point(epoch + 1, shown.mean([run[epoch] for run in runs], **bounds), scale)
        for epoch in range(length)
    ]


def point(x: float, found: Estimate, scale: float = 1.0) -> Point:
    """Return an estimate as a point."""
    value, low, high = (
        None if v is None else scale * v for v in (found.mean, found.low, found.high)
    )
    return x, value, low, high


def ends(lines: Sequence[Line], floor: float | None = None) -> tuple[float, float]:
    """Return the ends of an axis that holds all means; wide bands are cut, lest they rule it."""
    means = span((p[1] for line in lines for p in line.points), floor=floor)
    room = ROOM * (means[1] - means[0])
    low, high = span((v for line in lines for p in line.points for v in p[1:]), floor=floor)
    return max(low, means[0] - room), min(high, means[1] + room)


def by_row(
    rows: Sequence[Shown],
    title: str,
    label: str,
    read: Callable[[Shown], list[Point]],
    *,
    floor: float | None = None,
    along: str = "epoch",
) -> Chart | None:
    """Return a chart with a curve for each row; None where no row has one."""
    lines = [Line(r.label, read(r), r.colour, r.dashed, r.key) for r in rows]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    return chart(
        title,
        label,
        lines,
        ends(lines, floor),
        along=along,
        marked=len(lines) <= FEW,
        described=described(lines, along),
    )


def described(lines: Sequence[Line], along: str) -> str:
    """Say where curves begin and end."""
    said = []
    for line in lines:
        (first, begun, _, _), (last, ended, _, _) = line.points[0], line.points[-1]
        known = [f"{v:.4g} at {along} {x:g}" for x, v in ((first, begun), (last, ended))
                 if v is not None]  # fmt: skip
        said.append(f"{line.name}: {', '.join(dict.fromkeys(known)) or 'undefined'}")
    return "; ".join(said) + "."


def learning(rows: Sequence[Shown]) -> Chart | None:
    """Return validation accuracy over the epochs."""
    return by_row(
        rows,
        "Validation accuracy",
        "accuracy (%)",
        lambda shown: over_epochs(shown, lambda history: history["accuracy"], 100, least=0, most=1),
    )


def edm(rows: Sequence[Shown]) -> Chart | None:
    """Return EDM over the epochs."""
    return by_row(
        rows,
        "Validation EDM",
        "EDM (%), 0 is balance",
        lambda shown: over_epochs(shown, lambda history: history["edm"], least=0),
        floor=0.0,
    )


def missing(rows: Sequence[Shown]) -> Chart | None:
    """Return test accuracy against the rate at which modalities are missing at random."""

    def read(shown: Shown) -> list[Point]:
        runs = [line for line in shown.lines if line.get("missing")]
        rates = [rate for rate in (runs[0]["missing"] if runs else ()) if
                 all(rate in line["missing"] for line in runs)]  # fmt: skip
        points = [
            point(
                round(100 * float(rate), 6),
                shown.mean([line["missing"][rate] for line in runs], least=0, most=1),
                100,
            )
            for rate in rates
        ]
        if points:
            full = shown.mean([line["test"]["accuracy"] for line in runs], least=0, most=1)
            points.insert(0, point(0, full, 100))
        return points

    title = "Test accuracy, modalities missing at random"
    return by_row(rows, title, "accuracy (%)", read, along="missing (%)")


def shapley(rows: Sequence[Shown], names: Sequence[str]) -> list[tuple[Shown, Chart]]:
    """Return a chart of φ by modality for each row that has epochs, all on one y axis.

    Args:
        rows: those of several modalities.
        names: modalities of the table; their places choose the colours.
    """
    drawn = [(shown, phi_lines(shown, names)) for shown in rows if past(shown)]
    shared = ends([line for _, lines in drawn for line in lines], 0.0)
    out = []
    for shown, lines in drawn:
        game = str(shown.lines[0]["game"])
        made = chart(
            shown.label,
            f"φ ({'macro-F1' if game == 'macro_f1' else game})",
            lines,
            shared,
            marked=len(rows) <= FEW,
            described=described(lines, "epoch"),
        )
        out.append((shown, made))
    return out


def phi_lines(shown: Shown, names: Sequence[str]) -> list[Line]:
    """Return the curves of φ of a row's modalities."""
    return [
        Line(name, over_epochs(shown, phi_of(name)), f"var(--c{names.index(name) % COLOURS})")
        for name in shown.row.first.modalities
    ]


def phi_of(name: str) -> Callable[[dict[str, Any]], Sequence[float | None]]:
    """Return what reads φ of a modality by epoch."""
    return lambda history: history["phi"][name]
