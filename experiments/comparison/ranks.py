"""What the fused rows of the comparison are worth over all its data sets, from runs.csv.

Differences are those of paired runs to the reference, the mean over data sets. Ranks: of each data
set the rows are ranked by mean test accuracy, ties by the best place. Intervals of ranks draw the
pairs of seed and split with replacement, the same ones for all rows, and rank anew. `run.py` puts
the table into README.md.

Shape suffixes: R rows, K pairs, N numbers, D draws.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from engine.numbers import Estimate, estimate
from engine.page import markdown
from engine.spread import DRAWS, certain, ends

HERE = Path(__file__).parent
ALONE = "unimodal"
"""How a row of one modality by itself begins."""
REFERENCE, OURS = "joint · concat", "shapley · memory"
"""What differences are to, and the default."""
RIVAL = "amco"
"""The best compared method of the earlier tables (5 seeds × 2 splits)."""
NUMBERS = {"accuracy": 100.0, "edm": 1.0, "missing": 100.0}
"""Name in runs.csv → unit."""
COLUMNS = ("accuracy", "EDM %", "missing")
NAMED = {
    r"joint · concat · method\.weight=[\d.]+": "joint · concat · unimodal loss",
    r"shapley · memory · .*fusion\.readout=memory.*": "paper's setting",
}
"""Labels of the report, which list options → what a row is called here."""
KEPT = 5.0
"""Points more than the reference with modalities missing; such rows the default is set beside."""
SLACK = 1e-12
"""Means nearer than this are tied."""

Rows = Mapping[str, np.ndarray]
"""Row → [K, N] of a data set."""


def read(path: Path = HERE / "runs.csv") -> dict[str, Rows]:
    """Table → fused row → numbers of its runs, in the order of the pairs."""
    found: dict[str, dict[str, dict[tuple[int, int], list[float]]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for run in csv.DictReader(stream):
            if run["status"] == "finished" and not run["row"].startswith(ALONE):
                row = found.setdefault(run["table"], {}).setdefault(named(run["row"]), {})
                numbers = [unit * float(run[name]) for name, unit in NUMBERS.items()]
                row[int(run["seed"]), int(run["split_seed"])] = numbers
    return {
        table: {
            name: np.array([runs[pair] for pair in sorted(runs)]) for name, runs in rows.items()
        }
        for table, rows in found.items()
    }


def named(label: str) -> str:
    """What a row is called here."""
    found = (name for pattern, name in NAMED.items() if re.fullmatch(pattern, label))
    return next(found, label)


def places(mean_RD: np.ndarray) -> np.ndarray:
    """Rank of each row in each draw: one more than the rows that are better."""
    return np.array([1 + (mean_RD > mean_D + SLACK).sum(0) for mean_D in mean_RD])


def ranks(tables: Iterable[Rows], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ranks in accuracy on each data set, [R, data], and mean ranks of bootstrap draws, [R, D]."""
    generator, here, drawn = np.random.default_rng(0), [], []
    for rows in tables:
        accuracy_RK = np.array([rows[name][:, 0] for name in names])
        pairs = accuracy_RK.shape[1]
        here.append(places(accuracy_RK.mean(1, keepdims=True))[:, 0])
        chosen_DK = generator.integers(0, pairs, (DRAWS, pairs))
        drawn.append(places(accuracy_RK[:, chosen_DK].mean(-1)))
    return np.stack(here, 1), np.mean(drawn, 0)


def differences(tables: Iterable[Rows], name: str, base: str = REFERENCE) -> np.ndarray:
    """A row's numbers less those of another, the mean over data sets: [K, N]."""
    return np.mean([rows[name] - rows[base] for rows in tables], axis=0)


def told(values: Sequence[float], comparisons: int) -> str:
    """Mean and interval; bold: told apart from 0 among so many comparisons."""
    found: Estimate = estimate(values)
    return f"**{found.text()}**" if certain(values, comparisons) else found.text()


def table(found: Mapping[str, Rows] | None = None) -> str:
    """The rows by mean rank; then how often the default's is better than others'."""
    found = read() if found is None else found
    names = sorted(next(iter(found.values())))
    here_RD, mean_RD = ranks(found.values(), names)
    pairs = len(found[next(iter(found))][REFERENCE])
    low_R, high_R = np.percentile(mean_RD, ends(pairs), axis=1)
    comparisons, body = len(COLUMNS) * (len(names) - 1), []
    order = np.argsort(here_RD.mean(1), kind="stable")
    for k in order:
        gaps_KN = differences(found.values(), names[k])
        gaps = [told(values, comparisons) for values in gaps_KN.T.tolist()]
        rank = f"{here_RD[k].mean():.2f} ({low_R[k]:.1f} to {high_R[k]:.1f})"
        gaps = [""] * len(COLUMNS) if names[k] == REFERENCE else gaps
        body.append([names[k], *gaps, rank, *map(str, here_RD[k])])
    ours = names.index(OURS)
    best = next(names[k] for k in order if k != ours)
    above = [
        f"above {name}'s in {100 * (mean_RD[ours] < mean_RD[names.index(name)]).mean():.0f} %"
        for name in dict.fromkeys([RIVAL, best])
    ]
    gap = estimate(differences(found.values(), OURS, RIVAL)[:, 0].tolist())
    head = ["row", f"− {REFERENCE}: {COLUMNS[0]}", *COLUMNS[1:], "mean rank in accuracy", *found]
    said = (
        f"{len(names)} fused rows over {len(found)} data sets, {pairs} pairs each; differences are "
        f"means over the data sets, in points; {comparisons} comparisons; bold: a t interval of "
        f"level 1 − 0.05/{comparisons} leaves 0 out. {OURS} is the default: {gap.text()} points "
        f"of accuracy beside {RIVAL}; its mean rank is {' and '.join(above)} of draws. Draws add "
        "noise of their own: their ranks lie nearer to the middle.\n"
    )
    others = [names[k] for k in order if k != ours]
    return f"{markdown(head, body)}\n{said}\n{beside(found, others)}"


def beside(found: Mapping[str, Rows], names: Sequence[str]) -> str:
    """The default less each other row that keeps more than the reference when some are missing."""
    tables = list(found.values())
    kept = [n for n in names if differences(tables, n)[:, COLUMNS.index("missing")].mean() >= KEPT]
    comparisons, body = len(COLUMNS) * len(kept), []
    for name in kept:
        gaps_KN = differences(tables, OURS, name)
        body.append([name, *(told(values, comparisons) for values in gaps_KN.T.tolist())])
    said = (
        f"The default beside each row that keeps {KEPT:g} points or more over {REFERENCE} when "
        f"modalities are missing; {comparisons} comparisons, bold as above at 0.05/{comparisons}.\n"
    )
    return f"{markdown([f'{OURS} less', *COLUMNS], body)}\n{said}"
