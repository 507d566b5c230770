"""Tables over runs: which runs are a row, what each row says, and how it compares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmeq.errors import MmeqError
from mmeq.reporting import options as opt
from mmeq.reporting.capacity import Capacities
from mmeq.reporting.labels import labels, titles, usual_text
from mmeq.reporting.reference import find_references
from mmeq.reporting.runs import Replicate, Run
from mmeq.reporting.statistics import Estimate, estimate, holm, p_value, paired, ratio

FIGURES = {"accuracy": 1.0, "macro_f1": 1.0, "nll": math.inf, "edm": 200.0, "missing": 1.0}
"""Numbers of a run, all from 0 up to this; EDM less by the number of modalities."""
FUSED_ONLY = ("edm", "missing")
"""Numbers that say nothing of a run of one modality alone."""
ALPHA = 0.05


@dataclass
class Row:
    """What a table says of one method.

    Attributes:
        label: short name.
        options: those that tell it from other rows.
        runs: its runs, by (seed, split_seed).
        estimates: by name: ``accuracy``, ``macro_f1``, ``nll``, ``edm``, ``missing``, ``without``,
            ``capacity`` (EDM against capacity), ``difference`` (of accuracy to the reference),
            ``time`` and ``memory`` (ratios to the reference: median, least, largest).
        lost: the modality whose absence costs most, to which ``without`` belongs.
        p: of the difference; None without a test.
        p_holm: adjusted for the number of comparisons in the table.
        overlap: see `mmeq.reporting.statistics.standard_error`.
    """

    label: str
    options: Mapping[str, Any]
    runs: dict[Replicate, Run]
    estimates: dict[str, Estimate] = field(default_factory=dict)
    lost: str | None = None
    p: float | None = None
    p_holm: float | None = None
    overlap: float = 0.0

    @property
    def first(self) -> Run:
        """One of its runs, for what all share."""
        return next(iter(self.runs.values()))

    @property
    def significant(self) -> bool:
        """Whether the difference to the reference survives Holm's correction at 5 %."""
        return self.p_holm is not None and self.p_holm <= ALPHA

    def by_replicate(self, name: str) -> dict[Replicate, float | None]:
        """A number of its runs."""
        return {key: run.numbers[name] for key, run in self.runs.items()}

    def splits(self) -> set[Any]:
        """The seeds of its splits."""
        return {split for _, split in self.runs}


@dataclass
class Table:
    """Rows over the same data.

    Attributes:
        title: the dataset and what tells it from other tables of it.
        protocol: of its split.
        modalities: names.
        rows: the reference first, runs of one modality last.
        reference: the row that others are compared with; None where there is none.
        usual: ``option=value`` that holds where a label does not say otherwise.
        share: test samples for each training sample; None when the split does not tell.
        remarks: what else must be said of it.
    """

    title: str
    protocol: str
    modalities: tuple[str, ...]
    rows: list[Row]
    reference: Row | None = None
    usual: list[str] = field(default_factory=list)
    share: float | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def comparisons(self) -> int:
        """How many differences to the reference were tested."""
        return sum(row.p is not None for row in self.rows)


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
    groups: dict[Any, list[Run]] = {}
    keys: dict[Any, tuple[str, str, dict[str, Any]]] = {}
    for run in runs:
        options = opt.group_options(run, ignored)
        key = (run.dataset, run.protocol, tuple(sorted(options.items())))
        groups.setdefault(key, []).append(run)
        keys[key] = (run.dataset, run.protocol, options)
    order = sorted(groups, key=str)
    tables = []
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


def _place(replicate: Replicate) -> tuple[tuple[int, str], ...]:
    return tuple(
        (seed, "") if isinstance(seed, int) else (-1, str(seed or "")) for seed in replicate
    )


def _twice(one: Run, two: Run) -> str:
    seed, split = one.replicate
    odd = [p for p in one.options if one.options[p] != two.options.get(p) and p != "name"]
    why = f"; they differ in {', '.join(odd)} alone" if odd else ""
    return (
        f"{one.folder} and {two.folder} are both {one.method}, {one.fusion}, of seed {seed} and "
        f"split {split} on {one.dataset}{why}: leave one of them out"
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


def fill(table: Table) -> None:
    """Compute everything that the rows of a table say."""
    capacities = Capacities([run for row in table.rows for run in row.runs.values()])
    for row in table.rows:
        row.overlap = (table.share or 0.0) if len(row.splits()) > 1 else 0.0
        for name, most in FIGURES.items():
            if row.first.alone is None or name not in FUSED_ONLY:
                numbers = list(row.by_replicate(name).values())
                most -= most / len(table.modalities) if name == "edm" else 0.0
                row.estimates[name] = estimate(numbers, row.overlap, least=0.0, most=most)
        if row.first.alone is None:
            worst_removal(row)
            if capacities:
                edms = [capacities.edm(run) for run in row.runs.values()]
                row.estimates["capacity"] = estimate(edms, row.overlap, least=0.0, most=200.0)
        if table.reference is not None:
            against(row, table.reference)
    table.remarks += capacities.remarks
    tested = [row for row in table.rows if row.p is not None]
    for row, adjusted in zip(tested, holm([row.p or 0.0 for row in tested]), strict=True):
        row.p_holm = adjusted
    table.usual = usual_text([(row.first, row.options) for row in table.rows])


def worst_removal(row: Row) -> None:
    """Find the modality whose absence costs most on the mean over runs."""
    runs = list(row.runs.values())
    means = {}
    for name in runs[0].modalities:
        values = [run.without.get(name) for run in runs]
        if None not in values:
            means[name] = estimate(values, row.overlap, least=0.0, most=1.0)
    if means:
        row.lost = min(means, key=lambda name: means[name].mean or 0.0)
        row.estimates["without"] = means[row.lost]


def against(row: Row, reference: Row) -> None:
    """Compare a row with the reference, run by run of equal seeds."""
    if row is not reference:
        pairs = paired(row.by_replicate("accuracy"), reference.by_replicate("accuracy"))
        differences: list[float] = [ours - theirs for ours, theirs in pairs]
        common = {split for _, split in row.runs.keys() & reference.runs.keys()}
        overlap = row.overlap if len(common) > 1 else 0.0
        row.estimates["difference"] = estimate(differences, overlap)
        row.p = p_value(differences, overlap)
    for name, number in (("time", "seconds"), ("memory", "memory")):
        ours = {
            key: run.numbers[number]
            for key, run in row.runs.items()
            if key in reference.runs and alike(run, reference.runs[key], name)
        }
        row.estimates[name] = ratio(paired(ours, reference.by_replicate(number)))


def alike(one: Run, two: Run, name: str) -> bool:
    """Say whether time (or memory) of two runs can be compared: the same hardware, as far known."""
    if name == "memory" and one.memory_kind != two.memory_kind:
        return False
    return None in (one.hardware, two.hardware) or one.hardware == two.hardware
