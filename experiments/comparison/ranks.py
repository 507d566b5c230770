"""Ranks of the fused rows over the data sets of the comparison, from runs.csv.

Of each data set the rows are ranked by mean test accuracy, ties by the best place. Intervals draw
the pairs of seed and split with replacement, the same ones for all rows, and rank anew. `run.py`
puts the table into README.md.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from engine.page import markdown
from engine.spread import DRAWS, ends

HERE = Path(__file__).parent
ALONE = "unimodal"
"""How a row of one modality by itself begins."""
OURS, RIVAL = "shapley · memory", "amco"
"""The default, and the best compared method of the earlier tables (5 seeds × 2 splits)."""
SLACK = 1e-12
"""Means nearer than this are tied."""

Accuracies = Mapping[str, np.ndarray]
"""Row → [pairs of seed and split]."""


def read(path: Path = HERE / "runs.csv") -> dict[str, dict[str, np.ndarray]]:
    """Table → fused row → accuracies, in the order of the pairs."""
    found: dict[str, dict[str, dict[tuple[int, int], float]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for run in csv.DictReader(stream):
            if run["status"] == "finished" and not run["row"].startswith(ALONE):
                row = found.setdefault(run["table"], {}).setdefault(run["row"], {})
                row[int(run["seed"]), int(run["split_seed"])] = float(run["accuracy"])
    return {
        table: {
            name: np.array([runs[pair] for pair in sorted(runs)]) for name, runs in rows.items()
        }
        for table, rows in found.items()
    }


def places(mean_RD: np.ndarray) -> np.ndarray:
    """Rank of each row in each draw: one more than the rows that are better."""
    ranks = [1 + (mean_RD > mean_D + SLACK).sum(0) for mean_D in mean_RD]
    return np.array(ranks)


def drawn(tables: Iterable[Accuracies], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of each data set, [rows, data], and mean ranks of bootstrap draws, [rows, draws]."""
    generator, here, total, count = np.random.default_rng(0), [], np.zeros((len(names), DRAWS)), 0
    for rows in tables:
        accuracy_RK = np.array([rows[name] for name in names])
        pairs = accuracy_RK.shape[1]
        here.append(places(accuracy_RK.mean(1, keepdims=True))[:, 0])
        chosen_DK = generator.integers(0, pairs, (DRAWS, pairs))
        total += places(accuracy_RK[:, chosen_DK].mean(-1))
        count += 1
    return np.array(here).T, total / count


def table(found: Mapping[str, Accuracies] | None = None) -> str:
    """The rows by mean rank; then how often the default's is better than others'."""
    found = read() if found is None else found
    names = sorted(next(iter(found.values())))
    pairs = {len(runs) for rows in found.values() for runs in rows.values()}
    here_RD, mean_RD = drawn(found.values(), names)
    low_R, high_R = np.percentile(mean_RD, ends(min(pairs)), axis=1)
    order = np.argsort(here_RD.mean(1), kind="stable")
    head = ["row", "mean rank", *found]
    body = [
        [
            names[k],
            f"{here_RD[k].mean():.2f} ({low_R[k]:.1f} to {high_R[k]:.1f})",
            *map(str, here_RD[k]),
        ]
        for k in order
    ]
    ours = names.index(OURS)
    best = next(names[k] for k in order if k != ours)
    told = [
        f"above {name}'s in {100 * (mean_RD[ours] < mean_RD[names.index(name)]).mean():.0f} %"
        for name in dict.fromkeys([RIVAL, best])
    ]
    said = (
        f"{len(names)} fused rows; the mean rank of {OURS}, the default, is {' and '.join(told)} "
        "of draws. Draws add noise of their own: their ranks lie nearer to the middle.\n"
    )
    return f"{markdown(head, body)}\n{said}"
