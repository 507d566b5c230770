"""The page itself: which figures and tables a run gets, and the template that draws them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mmeq.reporting.dashboard.charts import Chart, Line, chart, colour, span
from mmeq.reporting.dashboard.record import Epoch, Interval, Measured, Record

GENERATOR = "mmeq.dashboard"
"""Stands in the page, so that no other file is ever overwritten."""
SHOWN = 4
"""Runs that are ticked at first."""
SHARES = ("accuracy", "macro_f1")
TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "NLL"}


def page(records: Sequence[Record], home: Path) -> str:
    """Return one self-contained HTML page: no network, no file beside it.

    Args:
        records: the runs, side by side in this order.
        home: folder that the page will lie in, from which run folders are linked.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "plain": plain, "within": within}
    names = list(dict.fromkeys(name for r in records if r.measured for name in r.measured.phi))
    html = environment.get_template("page.html.jinja").render(
        generator=GENERATOR,
        shown=SHOWN,
        records=[shown(record, records, home) for record in records],
        names=names,
        titles=TITLES,
    )
    return html.encode("utf-8", "replace").decode("utf-8")  # a folder's name may be no text


def shown(record: Record, records: Sequence[Record], home: Path) -> dict[str, Any]:
    """Return what the template needs of a run."""
    return {
        "record": record,
        "link": link(record.folder, home),
        "charts": charts(record, records),
        "bars": bars(record.measured) if record.measured else [],
        "metrics": list(record.measured.metrics) if record.measured else [],
        "source": "test" if record.test else f"validation, epoch {len(record.epochs)}",
        "seconds": mean(epoch.seconds for epoch in record.epochs),
    }


def link(folder: Path, home: Path) -> str:
    """Return a link to a folder, relative to the page's, whatever characters it has."""
    relative = os.path.relpath(folder.resolve(), home.resolve())
    return quote(os.fsencode(relative)) + "/"


def charts(record: Record, records: Sequence[Record]) -> list[Chart]:
    """Return φ, EDM, order and losses over the epochs; the first two on axes of all runs."""
    epochs, best = record.epochs, record.best
    if not epochs:
        return []
    game = epochs[-1].measured.game
    names = list(epochs[-1].measured.phi)
    alike = [e for r in records for e in r.epochs if e.measured.game == game]
    phi = [Line(n, points(epochs, phi_of(n)), colour(m)) for m, n in enumerate(names)]
    equal = [(e.number, mean(i.value for i in e.measured.phi.values()), None, None) for e in epochs]
    ends = (v for e in alike for i in e.measured.phi.values() for v in (i.value, i.low, i.high))
    every = (e.measured.edm.value for r in records for e in r.epochs)
    return [
        chart(
            "What each modality contributes",
            f"φ ({TITLES.get(game, game)})",
            [*phi, Line("equal split", equal, "#555555", dashed=True)],
            span(ends, floor=0.0),
            best,
        ),
        chart(
            "Distance from equilibrium",
            "EDM (%), 0 is balance",
            [Line("EDM", points(epochs, lambda e: e.measured.edm), colour(0))],
            span(every, floor=0.0),
            best,
        ),
        chart(
            "Training order (1 is trained first)",
            "place",
            [
                Line(n, [(e.number, e.places.get(n), None, None) for e in epochs], colour(m))
                for m, n in enumerate(names)
            ],
            (0.7, len(names) + 0.3),
            best,
            whole=True,
            down=True,
        ),
        losses(epochs, names, best),
    ]


def losses(epochs: Sequence[Epoch], names: Sequence[str], best: int | None) -> Chart:
    """Return the training losses, a modality's in its colour, and the validation NLL."""
    lines = []
    for name in sorted({name for e in epochs for name in e.losses}):
        modality = name.rpartition("/")[2]
        shade = colour(names.index(modality)) if modality in names else "#222222"
        lines.append(
            Line(name, [(e.number, e.losses.get(name), None, None) for e in epochs], shade)
        )
    nll = points(epochs, lambda e: e.measured.metrics["nll"])
    lines.append(Line("validation NLL", nll, "#555555", dashed=True))
    values = [point[1] for line in lines for point in line.points]
    return chart("Losses", "loss (nats)", lines, span(values), best)


def phi_of(name: str) -> Callable[[Epoch], Interval]:
    """Return what reads φ of a modality."""
    return lambda epoch: epoch.measured.phi.get(name, Interval(None, None, None))


def points(
    epochs: Iterable[Epoch], read: Callable[[Epoch], Interval]
) -> list[tuple[int, float | None, float | None, float | None]]:
    """Return the points of a curve with a band."""
    found = ((epoch.number, read(epoch)) for epoch in epochs)
    return [(at, number.value, number.low, number.high) for at, number in found]


def bars(measured: Measured) -> list[dict[str, Any]]:
    """Return a bar for each coalition, in percent of the axis: value, low and high."""
    game = measured.game
    every = [v.get(key) for v in measured.values.values() for key in (game, "low", "high")]
    known = [value for value in every if value is not None]
    low, high = min([0.0, *known]), max([1.0 if game in SHARES else 0.0, *known])

    def share(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / ((high - low) or 1), 2)

    return [
        {
            "coalition": coalition,
            "values": values,
            "value": share(values.get(game)),
            "low": share(values.get("low")),
            "high": share(values.get("high")),
        }
        for coalition, values in measured.values.items()
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return "–" if value is None else f"{100 * value:.1f}".replace("-", "−")


def plain(value: float | None, digits: int = 3) -> str:
    """Return a number."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def within(ends: Interval | Mapping[str, float | None], scale: float = 1, digits: int = 3) -> str:
    """Return the interval of a number in brackets; empty where there is none."""
    low, high = (ends.low, ends.high) if isinstance(ends, Interval) else (ends["low"], ends["high"])
    if low is None or high is None:
        return ""
    return f"({plain(scale * low, digits)} to {plain(scale * high, digits)})"
