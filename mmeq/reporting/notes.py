"""What must be said beneath a table for its numbers to be read rightly: plain sentences."""

from __future__ import annotations

from mmeq.reporting.columns import used
from mmeq.reporting.tables import Row, Table

FEW = 4
"""With fewer splits than this, their noise has hardly been seen."""


def notes(table: Table) -> list[str]:
    """Return the sentences beneath a table, most important first."""
    keys = {column.key for column in used(table)}
    said = [meaning(keys), intervals(table)]
    if table.reference is not None and "difference" in keys:
        said += differences(table)
    said += undefined(table)
    if keys & {"time", "memory"}:
        said.append(costs(keys))
    if table.usual:
        said.append(f"Where a row does not say otherwise: {', '.join(table.usual)}.")
    return [*said, *table.remarks]


def meaning(keys: set[str]) -> str:
    """Say what the columns are."""
    text = "Test part, mean over runs (95 % interval); accuracy and macro-F1 in percent"
    if "missing" in keys:
        text += "; missing: mean accuracy over all proper subsets of the modalities"
    if "ece" in keys:
        text += "; ECE: expected calibration error over 10 bins"
    if "without" in keys:
        text += "; worst removal: accuracy without the named modality, whose absence costs most"
    return text + "; bold: best mean."


def intervals(table: Table) -> str:
    """Say which noise the intervals hold."""
    splits = set().union(*(row.splits() for row in table.rows))
    if len(splits) < 2:
        which = "" if splits == {None} else f" (split_seed={next(iter(splits))})"
        return (
            f"All runs share one split{which}: t intervals over seeds, which hold the noise of "
            "training and not that of the split."
        )
    seeds = {seed for row in table.rows for seed, _ in row.runs}
    pairs = {key for row in table.rows for key in row.runs}
    crossed = len(pairs) > max(len(seeds), len(splits))
    text = f"{len(pairs)} pairs of seed and split ({len(seeds)} seeds, {len(splits)} splits): "
    if table.share is None:
        return text + (
            "plain t intervals over runs, since the configuration does not tell how large the "
            "parts of the split are; they are too narrow where splits share samples."
        )
    text += (
        "t intervals over runs, with variance (1/n + test/train) s² since random splits share "
        f"samples (Nadeau & Bengio 2003; test/train = {table.share:.2f})"
    )
    if crossed and len(splits) < FEW:
        text += (
            f". Split noise was seen by {len(splits)} splits only: where results vary more between "
            "splits than between seeds, the intervals are too narrow"
        )
    single = [row.label for row in table.rows if len(row.splits()) < 2]
    if single:
        text += f". Of one split, and so of seeds alone: {', '.join(single)}"
    return text + "."


def differences(table: Table) -> list[str]:
    """Say what was compared with the reference, and how often."""
    reference = table.reference
    assert reference is not None
    count = table.comparisons
    text = (
        f"− {reference.label}: mean of the paired differences in accuracy over runs of equal seed "
        "and split, in points"
    )
    if count:
        what = "comparison" if count == 1 else "comparisons"
        text += f"; {count} {what}, * survives Holm's correction at 5 %"
    said = [text + "."]
    short = [
        f"{row.label} {row.estimates['difference'].n} of {len(row.runs)}"
        for row in table.rows
        if row is not reference and row.estimates["difference"].n < len(row.runs)
    ]
    if short:
        said.append(f"Runs with a partner of equal seed and split: {', '.join(short)}.")
    return said


def undefined(table: Table) -> list[str]:
    """Count the runs that a mean leaves out."""
    names = {"edm": "EDM", "capacity": "EDM to capacity", "missing": "missing"}
    names |= {"nll": "NLL", "macro_f1": "macro-F1"}
    if "ece" in {column.key for column in used(table)}:  # none needs to have kept its predictions
        names["ece"] = "ECE"
    said = []
    for key, name in names.items():
        lost = [f"{row.label} {_lost(row, key)}" for row in table.rows if _lost(row, key)]
        if lost:
            alone = " or runs of a modality alone are lacking" if key == "capacity" else ""
            said.append(f"{name} is undefined{alone}, and left out, in runs: {', '.join(lost)}.")
    return said


def _lost(row: Row, key: str) -> str:
    found = row.estimates.get(key)
    if found is None or not found.undefined:
        return ""
    return f"{found.undefined} of {len(row.runs)}"


def costs(keys: set[str]) -> str:
    """Say what time and memory are."""
    parts = []
    if "time" in keys:
        parts.append("time: seconds an epoch, validation included")
    if "memory" in keys:
        parts.append("memory: peak of the device, or growth of the process's resident set on a CPU")
    text = "; ".join(parts)
    return (
        f"{text[0].upper()}{text[1:]}; median ratio over pairs of equal seed and split on the same "
        "hardware."
    )
