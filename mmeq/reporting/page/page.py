"""The page itself: which panels a table gets, and the template that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmeq.reporting import dashboard
from mmeq.reporting.folders import Found
from mmeq.reporting.notes import notes
from mmeq.reporting.page import bars, curves, dots, grids, material
from mmeq.reporting.page.material import Line, Shown, lacking, shown_rows
from mmeq.reporting.page.sheet import sheet
from mmeq.reporting.tables import Table


def html(tables: Sequence[Table], found: Found) -> str:
    """Return one self-contained HTML page: no network, no file beside it.

    Args:
        tables: as compared.
        found: for what is unfinished or damaged.
    """
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(dashboard.__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cut"] = grids.cut
    listed = {"Unfinished": found.unfinished, "Damaged": found.damaged}
    text = environment.get_template("report.html.jinja").render(
        tables=[panels(table, number) for number, table in enumerate(tables, start=1)],
        runs=len(found.runs),
        listed={name: entries for name, entries in listed.items() if entries},
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # a folder's name may be no text


def panels(table: Table, number: int) -> dict[str, Any]:
    """Return what the template needs of a table.

    Args:
        table: as compared.
        number: of the table in the page.
    """
    rows = shown_rows(table, number)
    fused = [shown for shown in rows if shown.fused]
    epochs = lacking(rows, has_history, material.no_history)
    fused_epochs = lacking(fused, has_history, material.no_history)
    return {
        "table": table,
        "key": f"t{number}",
        "rows": rows,
        "sheet": sheet(table, rows),
        "notes": notes(table),
        "dots": dots.plots(rows, table.reference.label if table.reference else None),
        "learning": curves.learning(rows),
        "edm": curves.edm(fused),
        "missing": curves.missing(fused),
        "shapley": curves.shapley(fused, table.modalities),
        "orders": both(fused, grids.orders),
        "coalitions": [(shown, found) for shown in fused if (found := bars.coalitions(shown))],
        "confusion": both(rows, grids.confusion),
        "reliability": both(rows, bars.reliability),
        "lacks": {
            "learning": epochs,
            "edm": fused_epochs,
            "missing": lacking(fused, lambda line: line.get("missing"), material.no_rates),
            "confusion": lacking(rows, lambda line: line.get("confusion"), material.no_confusion),
            "reliability": lacking(
                rows, lambda line: line.get("calibration"), material.no_predictions
            ),
        },
    }


def has_history(line: Line) -> bool:
    """Say whether a run has kept its epochs."""
    return bool(line.get("history"))


def both(rows: Sequence[Shown], make: Any) -> list[tuple[Shown, Any]]:  # noqa: ANN401 - a panel
    """Return the rows that have a panel, with it."""
    return [(shown, made) for shown in rows if (made := make(shown)) is not None]
