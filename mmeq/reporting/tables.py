"""Tables over runs: what each row says, and how it compares with the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmeq.reporting.capacity import Capacities
from mmeq.reporting.labels import usual_text
from mmeq.reporting.runs import Replicate, Run
from mmeq.reporting.statistics import Estimate, estimate, holm, p_value, paired, ratio

FIGURES = {"accuracy": 1.0, "macro_f1": 1.0, "nll": math.inf, "ece": 1.0}
FIGURES |= {"edm": 200.0, "missing": 1.0}
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
        estimates: by name: ``accuracy``, ``macro_f1``, ``nll``, ``ece``, ``edm``, ``missing``,
            ``without``, ``capacity`` (EDM against capacity), ``difference`` (of accuracy to the
            reference), ``time`` and ``memory`` (ratios to it: median, least, largest).
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
        rows: the reference first; then those of folders by label, runs of one modality last, and
            kept ones as they came.
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


def fill(table: Table) -> None:
    """Compute everything that the rows of a table say."""
    capacities = Capacities([run for row in table.rows for run in row.runs.values()])
    for row in table.rows:
        row.overlap = (table.share or 0.0) if len(row.splits()) > 1 else 0.0
        for name, most in FIGURES.items():
            if row.first.alone is None or name not in FUSED_ONLY:
                numbers = list(row.by_replicate(name).values())
                most -= most / len(row.first.modalities) if name == "edm" else 0.0
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
