"""Lines of results.jsonl as `mmeq.reporting.kept.keep` makes them, and a page. Not a test."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

RATES = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
BINS = 10
CLASSES = ("a", "b", "c", "d")
README = "# Tiny\n\nby hand\n\n<!-- results -->\nyesterday\n<!-- /results -->\n\nafter\n"
STRATEGIES = ("hybrid", "cyclic", "sampled", "memory_guided", "per_sample", "router")


def line(job: Any, modalities: Sequence[str], *, history: bool) -> dict[str, Any]:
    """A line of a job; the same job has the same numbers.

    Args:
        job: of `engine.sweep`.
        modalities: of its data.
        history: whether the sweep keeps epochs.
    """
    draw = np.random.default_rng(zlib.crc32(repr(job.key).encode()))

    def share() -> float:
        return round(float(draw.uniform(0.3, 0.9)), 5)

    told = dict(option.partition("=")[::2] for option in job.options)
    method = told.get("method", "shapley")
    fusion = told.get("fusion", "concat" if method == "joint" else "memory")
    callbacks = told.get("callbacks", "")

    def figures() -> dict[str, Any]:
        names = ("accuracy", "macro_f1", "nll")
        phi = {m: share() for m in modalities}
        return {**{n: share() for n in names}, "edm": 100 * share(), "proper_mean": share(),
                "phi": phi}  # fmt: skip

    sets = [
        "+".join(some)
        for size in range(1, len(modalities) + 1)
        for some in itertools.combinations(modalities, size)
    ]
    made: dict[str, Any] = {
        **{"table": job.table, "row": job.row, "options": list(job.options)},
        **{"dataset": "made up", "protocol": "none", "method": method, "fusion": fusion},
        **{"modalities": list(modalities), "seed": job.seed, "split_seed": job.split},
        **{"epochs": 2, "best_epoch": 1, "seconds": share(), "game": "accuracy", "empty": 0.25},
        **{"fractions": "[0.6, 0.2, 0.2]", "hardware": ["cpu", None, "x86_64", 1, 1]},
        "memory": {"peak_mb": 88.5, "kind": "rss"},
        **{"calibration": [[5, share(), share()]] * BINS, "ece": share()},
        **{"classes": list(CLASSES), "confusion": [[1, 2, 0, 3]] * len(CLASSES)},
        "validation": figures(),
        "test": {**figures(), "values": {name: share() for name in ["none", *sets]}},
    }
    if told.get("callbacks.missing") != "null":
        made["missing"] = {rate: share() for rate in RATES}
    if "probe" in callbacks:
        made["probe"] = {m: share() for m in modalities}
    if method == "unimodal":
        made["alone"] = told["method.modality"]
    if "orders" in callbacks and fusion == "memory":
        made["strategies"] = {
            "accuracy": {name: share() for name in STRATEGIES},
            "closed": {name: None if job.seed else share() for name in STRATEGIES},  # of no gap
            **{key: share() for key in ("oracle", "control", "gap", "excess")},
            "orders": {"tried": 6, **{key: share() for key in ("mean", "worst", "best")}},
        }
    if history:
        order = list(range(len(modalities)))
        lists = {"edm": [100 * share(), None], "accuracy": [share(), share()]}
        phi = {m: [share(), share()] for m in modalities}
        made["history"] = {"order": [order, order], "phi": phi, **lists}
    return made
