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
from engine.numbers import Estimate
from engine.page import markdown
from engine.spread import DRAWS, ends

from mmeq.reporting.statistics import estimate, holm, p_value

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


def told(gaps: Sequence[Sequence[float]], overlap: float) -> list[str]:
    """Means and intervals; bold: told apart from 0 once all are counted (Holm)."""
    tested = [p_value(values, overlap) for values in gaps]
    adjusted = iter(holm([p for p in tested if p is not None]))
    out = []
    for values, p in zip(gaps, tested, strict=True):
        found = estimate(values, overlap)
        text = Estimate(found.mean, found.low, found.high, found.n).text()
        out.append(f"**{text}**" if p is not None and next(adjusted) <= 0.05 else text)
    return out


def lines(
    tables: Sequence[Rows], names: Sequence[str], overlap: float, base: str | None = None
) -> list[list[str]]:
    """For each name the differences in all columns: to the reference, or of the default to it."""
    pairs = [(name, REFERENCE) if base is None else (base, name) for name in names]
    gaps = [each for pair in pairs for each in differences(tables, *pair).T.tolist()]
    cells = iter(told(gaps, overlap))
    return [[next(cells) for _ in COLUMNS] for _ in names]


def shared(path: Path = HERE / "report.csv") -> float:
    """Test over training samples, as the report's own intervals take it."""
    with path.open(encoding="utf-8", newline="") as stream:
        return max(float(row["overlap"]) for row in csv.DictReader(stream))


def table(found: Mapping[str, Rows] | None = None, overlap: float | None = None) -> str:
    """The rows by mean rank; then the default beside those that keep more."""
    found = read() if found is None else found
    overlap = shared() if overlap is None else overlap
    tables, names = list(found.values()), sorted(next(iter(found.values())))
    here_RD, mean_RD = ranks(tables, names)
    pairs = len(tables[0][REFERENCE])
    low_R, high_R = np.percentile(mean_RD, ends(pairs), axis=1)
    order = [int(k) for k in np.argsort(here_RD.mean(1), kind="stable")]
    compared = [names[k] for k in order if names[k] != REFERENCE]
    gaps = dict(zip(compared, lines(tables, compared, overlap), strict=True))
    body = []
    for k in order:
        rank = f"{here_RD[k].mean():.2f} ({low_R[k]:.1f} to {high_R[k]:.1f})"
        empty = [""] * len(COLUMNS)
        body.append([names[k], *gaps.get(names[k], empty), rank, *map(str, here_RD[k])])
    ours = names.index(OURS)
    others = [names[k] for k in order if k != ours]
    above = [
        f"above {name}'s in {100 * (mean_RD[ours] < mean_RD[names.index(name)]).mean():.0f} %"
        for name in dict.fromkeys([RIVAL, others[0]])
    ]
    head = ["row", f"− {REFERENCE}: {COLUMNS[0]}", *COLUMNS[1:], "mean rank in accuracy", *found]
    counted = len(COLUMNS) * len(compared)
    said = (
        f"{len(names)} fused rows over {len(found)} data sets, {pairs} pairs each; differences are "
        f"means over the data sets, in points, with t intervals corrected for the samples that "
        f"splits share, as below; {counted} comparisons, bold: what survives Holm's correction at "
        f"5 %. The mean rank of {OURS}, the default, is {' and '.join(above)} of bootstrap draws "
        "over pairs. Ranks' intervals are of these draws: they know nothing of shared samples, and "
        "lie nearer to the middle, since draws add noise of their own.\n"
    )
    return f"{markdown(head, body)}\n{said}\n{beside(tables, others, overlap)}"


def beside(tables: Sequence[Rows], names: Sequence[str], overlap: float) -> str:
    """The default less each other row that keeps more than the reference when some are missing."""
    kept = [n for n in names if differences(tables, n)[:, COLUMNS.index("missing")].mean() >= KEPT]
    kept = list(dict.fromkeys([*(n for n in names if n == RIVAL), *kept]))
    body = [[n, *cells] for n, cells in zip(kept, lines(tables, kept, overlap, OURS), strict=True)]
    said = (
        f"The default beside {RIVAL} and each row that keeps {KEPT:g} points or more over "
        f"{REFERENCE} when modalities are missing; {len(COLUMNS) * len(kept)} comparisons, "
        "intervals and bold as above.\n"
    )
    return f"{markdown([f'{OURS} less', *COLUMNS], body)}\n{said}"
