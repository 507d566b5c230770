"""A fused run beside the runs of one modality: capacity-adjusted EDM and the suppression probe.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from mmeq.callbacks.probe import hit_rate, lacking, probe_hits
from mmeq.callbacks.tables import interval, number, shares
from mmeq.errors import MmeqError
from mmeq.files import plain
from mmeq.game.capacity import CapacityReport, paired_difference

Features = Mapping[str, Mapping[str, np.ndarray]]
"""Part → what `encode_split` gives."""


def capacity_entry(report: CapacityReport) -> dict[str, Any]:
    """Return a capacity report as plain types.

    ``game`` (the metric), ``edm`` ``{value, low, high}``, ``capacity`` and ``target`` by modality,
    ``samples``.
    """
    rows = zip(report.modalities, report.capacity, report.capacity_low, report.capacity_high,
               strict=True)  # fmt: skip
    return plain(
        {
            "game": report.value,
            "edm": {"value": report.edm, "low": report.edm_low, "high": report.edm_high},
            "capacity": {n: {"value": v, "low": low, "high": high} for n, v, low, high in rows},
            "target": dict(zip(report.modalities, report.target, strict=True)),
            "samples": report.samples,
        }
    )


def suppression_entry(
    name: str, fused: Features, alone: Features, *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Probe one modality's encoder in the fused run and in the run trained on it alone.

    Both by a logistic regression (`mmeq.callbacks.probe`) on the same samples: fitted on the train
    part, its strength chosen on the validation part, told on the test part. The difference of the
    accuracies, fused minus alone, is bootstrapped over the test samples in pairs; below 0 the
    encoder was suppressed. Where there is no probe, ``skipped`` says why.

    Args:
        name: of the modality.
        fused: part → features by name, ``label`` and ``id``, of the fused run.
        alone: the same of the other run.
        draws: bootstrap resamples.
        seed: of the resampling.

    Raises:
        MmeqError: when the two runs do not see the same samples.
    """
    for split, part in fused.items():
        for key in ("id", "label"):
            if not np.array_equal(part[key], alone[split][key]):
                raise MmeqError(
                    f"unimodal: the run of {name} has other samples than the fused run in the "
                    f"{split} part ({key}s differ)"
                )
    pair = [
        {split: (part[name], part["label"]) for split, part in each.items()}
        for each in (fused, alone)
    ]
    if why := lacking(pair[0]) or lacking(pair[1]):
        return {"skipped": why}
    (hit_N, there_N), (alone_N, also_N) = map(probe_hits, pair)
    if not np.array_equal(there_N, also_N):
        raise MmeqError(f"unimodal: {name} is missing in other samples than in the fused run")
    hit_n, alone_n = hit_N[there_N], alone_N[there_N]
    value, low, high = paired_difference(hit_n, alone_n, draws=draws, seed=seed)
    return {
        "fused": hit_rate(hit_n, draws=draws, seed=seed),
        "alone": hit_rate(alone_n, draws=draws, seed=seed),
        "difference": {"value": value, "low": low, "high": high},
    }


def balance_lines(
    entry: Mapping[str, Any], capacity: Mapping[str, Any], probes: Mapping[str, Any]
) -> list[Text | Table]:
    """Return what a person reads of it.

    Args:
        entry: the fused run's `report_entry`.
        capacity: its `capacity_entry`.
        probes: modality → `suppression_entry`.
    """
    game, part = capacity["game"], shares(entry)
    figures = _table("", "value (95 % interval)")
    normalised = number(entry["edm"]["normalised"], "macro_f1")
    figures.add_row("EDM", f"{interval(entry['edm'], 'edm')}; {normalised} of the worst case")
    figures.add_row("EDM against capacity", interval(capacity["edm"], "edm"))
    sharing = _table("modality", f"alone above v(∅), {game}", "target share", "share of φ")
    for name, above in capacity["capacity"].items():
        target, share = (
            number(value, "macro_f1") for value in (capacity["target"][name], part[name])
        )
        sharing.add_row(Text(name, style="bold"), interval(above, game), target, share)
    probing = _table("linear probe of", "in this run", "trained alone", "difference (points)")
    for name, found in probes.items():
        if "skipped" in found:
            probing.add_row(Text(name, style="bold"), "n/a", "n/a", Text(found["skipped"]))
            continue
        gap = found["difference"]
        low, high = (f"{100 * gap[end]:+.1f}" for end in ("low", "high"))
        told = Text(f"{100 * gap['value']:+.1f} ({low} … {high})")
        if gap["high"] < 0:
            told.append("  suppressed", style="bold red")
        cells = [
            interval({"value": found[key]["accuracy"], **found[key]}, "accuracy")
            for key in ("fused", "alone")
        ]
        probing.add_row(Text(name, style="bold"), *cells, told)
    title = Text("balance against runs of one modality", style="bold")
    return [title, figures, Text(), sharing, Text(), probing]


def _table(*heads: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        table.add_column(head)
    return table
