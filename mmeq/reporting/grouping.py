"""Which runs are a table, and which of them a row of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmeq.errors import MmeqError
from mmeq.reporting import options as opt
from mmeq.reporting.labels import labels, titles
from mmeq.reporting.reference import find_references
from mmeq.reporting.runs import Replicate, Run
from mmeq.reporting.tables import Row, Table, fill


def compare(
    runs: Sequence[Run], reference: str | None = None, ignored: Sequence[str] = ()
) -> list[Table]:
    """Sort runs into tables and rows, and compute what these say.

    Args:
        runs: finished ones.
        reference: label of the row to compare with; None: method joint with fusion concat.
        ignored: prefixes of options that shall not split rows (or tables).

    Raises:
        MmeqError: for two runs of one row with the same seeds, an unknown or ambiguous reference,
            and an option to ignore that no run has.
    """
    opt.check_ignored(ignored, runs)
    kept: dict[str, list[Run]] = {}
    groups: dict[Any, list[Run]] = {}
    keys: dict[Any, tuple[str, str, dict[str, Any]]] = {}
    for run in runs:
        if run.table is not None:
            kept.setdefault(run.table, []).append(run)
            continue
        options = opt.group_options(run, ignored)
        key = (run.dataset, run.protocol, tuple(sorted(options.items())))
        groups.setdefault(key, []).append(run)
        keys[key] = (run.dataset, run.protocol, options)
    order = sorted(groups, key=str)
    tables = [kept_table(title, here) for title, here in kept.items()]
    for key, title in zip(order, titles([keys[key] for key in order]), strict=True):
        here = groups[key]
        rows = make_rows(here, ignored)
        tables.append(
            Table(title, here[0].protocol, here[0].modalities, rows, share=overlap_share(here[0]))
        )
    find_references(tables, reference)
    for table in tables:
        fill(table)
    return tables


def make_rows(runs: Iterable[Run], ignored: Sequence[str]) -> list[Row]:
    """Gather the runs of one table into labelled rows.

    Raises:
        MmeqError: for two runs of one row with the same seeds.
    """
    found: dict[Any, dict[Replicate, Run]] = {}
    options: dict[Any, dict[str, Any]] = {}
    for run in runs:
        mine = opt.row_options(run, ignored)
        key = (run.method, run.fusion, run.alone or "", tuple(sorted(mine.items(), key=str)))
        row = found.setdefault(key, {})
        if run.replicate in row:
            raise MmeqError(_twice(row[run.replicate], run))
        row[run.replicate], options[key] = run, mine
    pairs = [(next(iter(row.values())), options[key]) for key, row in found.items()]
    rows = [
        Row(
            label, options[key], {pair: found[key][pair] for pair in sorted(found[key], key=_place)}
        )
        for key, label in zip(found, labels(pairs), strict=True)
    ]
    return sorted(rows, key=lambda row: (row.first.alone is not None, row.label))


def kept_table(title: str, runs: Sequence[Run]) -> Table:
    """Gather runs that say themselves which row they are, rows in the order of their appearance.

    Raises:
        MmeqError: for two runs of one row with the same seeds, or of other modalities.
    """
    found: dict[str, dict[Replicate, Run]] = {}
    for run in runs:
        row = found.setdefault(run.row or "", {})
        if run.replicate in row:
            raise MmeqError(_twice(row[run.replicate], run))
        first = next(iter(row.values()), run)
        if first.modalities != run.modalities or first.alone != run.alone:
            raise MmeqError(
                f"{first.folder} and {run.folder} are both in row {run.row!r} of {title!r}, but "
                "not of the same modalities: give them rows of their own"
            )
        row[run.replicate] = run
    rows = [
        Row(label, {}, {pair: here[pair] for pair in sorted(here, key=_place)})
        for label, here in found.items()
    ]
    protocols = dict.fromkeys(run.protocol for run in runs)
    names = dict.fromkeys(name for run in runs for name in run.modalities)
    return Table(title, "; ".join(protocols), tuple(names), rows, share=overlap_share(runs[0]))


def _place(replicate: Replicate) -> tuple[tuple[int, str], ...]:
    return tuple(
        (seed, "") if isinstance(seed, int) else (-1, str(seed or "")) for seed in replicate
    )


def _twice(one: Run, two: Run) -> str:
    seed, split = one.replicate
    odd = [p for p in one.options if one.options[p] != two.options.get(p) and p != "name"]
    why = f"; they differ in {', '.join(odd)} alone" if odd else ""
    where = f"{one.dataset}" if one.row is None else f"{one.table!r}, row {one.row!r}"
    return (
        f"{one.folder} and {two.folder} are both {one.method}, {one.fusion}, of seed {seed} and "
        f"split {split} on {where}{why}: leave one of them out"
    )


def overlap_share(run: Run) -> float | None:
    """Return test samples for each training sample, by the fractions of the dataset's split.

    Of the whole training part: that a run keeps only ``train_size`` of it makes its splits share
    fewer samples, not more. None where the parts were given, whatever the fractions say.
    """
    if "as given" in run.protocol:
        return None
    fractions = str(run.options.get("dataset.fractions", "")).strip("[]").split(",")
    try:
        train, _, test = map(float, fractions)
    except ValueError:
        return None
    return test / train
