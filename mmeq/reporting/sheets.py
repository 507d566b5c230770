"""The numbers for other programs: a CSV of the rows of all tables, and one of all runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from mmeq.reporting.folders import Found
from mmeq.reporting.runs import Run
from mmeq.reporting.statistics import Estimate
from mmeq.reporting.tables import Row, Table

INTERVALS = (
    "accuracy",
    "difference",
    "macro_f1",
    "nll",
    "ece",
    "edm",
    "capacity",
    "missing",
    "without",
)
RATIOS = ("time", "memory")
NUMBERS = ("accuracy", "macro_f1", "nll", "ece", "edm", "missing", "seconds", "memory")


def report_csv(tables: Sequence[Table]) -> str:
    """Return one line a row of every table, in full precision; what is undefined is empty.

    Units are those of ``results.json``: shares for accuracy, macro-F1, missing, without and
    difference; percent for edm and capacity. ``<name>``, ``_low``, ``_high``, ``_n`` (runs in the
    mean) and ``_undefined`` (runs left out); of the ratios low and high are the least and the
    largest.
    """
    return _written([_line(table, row) for table in tables for row in table.rows])


def _line(table: Table, row: Row) -> dict[str, Any]:
    run = row.first
    line: dict[str, Any] = {
        "table": table.title,
        "dataset": run.dataset,
        "protocol": run.protocol,
        "modalities": "+".join(run.modalities),
        "row": row.label,
        "method": run.method,
        "modality": run.alone,
        "fusion": run.fusion,
        "reference": table.reference.label if table.reference else None,
        "runs": len(row.runs),
        "seeds": len({seed for seed, _ in row.runs}),
        "splits": len(row.splits()),
        "overlap": row.overlap,
        "p": row.p,
        "p_holm": row.p_holm,
        "comparisons": table.comparisons,
        "significant": int(row.significant),
        "removed": row.lost,
    }
    for name in (*INTERVALS, *RATIOS):
        found = row.estimates.get(name, Estimate())
        line |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        line[f"{name}_n"] = found.n
        if name in INTERVALS:
            line[f"{name}_undefined"] = found.undefined
    return line


def runs_csv(tables: Sequence[Table], found: Found) -> str:
    """Return one line a run, finished, unfinished or damaged, with the row that it is part of.

    Args:
        tables: as compared.
        found: for what is unfinished or damaged.
    """
    lines = []
    for table in tables:
        for row in table.rows:
            for run in row.runs.values():
                place = {"status": "finished", "table": table.title, "row": row.label}
                lines.append({"folder": str(run.folder), **place, **_run(run)})
    for status, listed in (("unfinished", found.unfinished), ("damaged", found.damaged)):
        lines += [{"folder": str(at), "status": status, "note": why} for at, why in listed.items()]
    return _written(lines)


def _run(run: Run) -> dict[str, Any]:
    seed, split = run.replicate
    return {
        "seed": seed,
        "split_seed": split,
        "epochs": run.epochs,
        **{name: run.numbers[name] for name in NUMBERS},
        "memory_kind": run.memory_kind,
        "note": None,
    }


def _written(lines: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        flat = {k: v.replace("\n", " ") if isinstance(v, str) else v for k, v in line.items()}
        writer.writerow(flat)
    return stream.getvalue()
