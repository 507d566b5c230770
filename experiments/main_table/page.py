"""The main table: accuracy, balance and what each encoder knows, methods as rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from engine.figure import dots
from engine.numbers import MEASURES, Line, difference, estimate, percent, table_of
from engine.page import markdown
from engine.sweep import Sweep
from matplotlib.figure import Figure

from mmeq.game import edm_capacity

ALONE = "unimodal, "
Rows = Mapping[str, Sequence[Line]]


def capacity_edm(line: Line, rows: Rows) -> float | None:
    """EDM against what each modality reaches above chance when trained alone, same seed.

    None where it is undefined: no modality reaches anything, or it was not trained alone.
    """
    run, test = (line["seed"], line["split_seed"]), line["test"]
    capacity = []
    for name in test["phi"]:
        alone = [
            other["test"]["accuracy"]
            for other in rows[f"{ALONE}{name}"]
            if (other["seed"], other["split_seed"]) == run
        ]
        if not alone:
            return None
        capacity.append(alone[0] - test["values"]["none"])
    found = float(edm_capacity(torch.tensor([*test["phi"].values()]), capacity, warn=False))
    return None if math.isnan(found) else found


def cells(label: str, rows: Rows, reference: str) -> list[str]:
    """A line of the table."""
    here, alone = rows[label], label.startswith(ALONE)
    gap = difference(here, rows[reference], MEASURES["accuracy"])
    told = f"**{gap.text()}**" if gap.apart else gap.text()
    out = [label, str(len(here)), estimate(map(MEASURES["accuracy"], here)).text()]
    out.append("" if label == reference else told)
    out.append(estimate(percent(line["test"]["macro_f1"]) for line in here).text())
    out.append(estimate(map(MEASURES["NLL"], here)).text(3))
    balance = [
        estimate(map(MEASURES["EDM %"], here)),
        estimate(capacity_edm(line, rows) for line in here if not alone),
        estimate(map(MEASURES["missing"], here)),
    ]
    out += ["–" if alone else value.text() for value in balance]
    for name in here[0]["modalities"]:
        seen = not alone or label == f"{ALONE}{name}"
        out.append(
            estimate(percent(line["probe"].get(name)) for line in here).text() if seen else "–"
        )
    return out


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """One table a data set."""
    out, compared = [], 0
    for data, rows in table_of(lines).items():
        head = ["method", "runs", "accuracy", f"− {sweep.reference}", "macro-F1", "NLL", "EDM %"]
        head += ["EDM % to capacity", "missing"]
        head += [f"probe {name}" for name in rows[sweep.reference][0]["modalities"]]
        body = [cells(label, rows, sweep.reference) for label in rows]
        out.append(f"### {data}\n\n{markdown(head, body)}")
        compared += len(rows) - 1
    out.append(
        f"{compared} comparisons, bootstrap over pairs of equal seed and split; bold: an interval "
        "that leaves 0 out, which one in twenty does by chance.\n"
    )
    return "\n".join(out)


def figure(lines: Sequence[Line], sweep: Sweep) -> Figure:
    """Accuracy, EDM and missing modalities of the methods that train all modalities."""
    fused = [line for line in lines if not line["row"].startswith(ALONE)]
    return dots(fused, sweep.reference)
