"""What one game report becomes in the history, the results and the loggers: plain, flat numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmeq.files import plain
from mmeq.game.coalitions import coalition_name
from mmeq.game.report import GameReport

METRICS = ("accuracy", "macro_f1", "nll")


def report_entry(report: GameReport) -> dict[str, Any]:
    """Return a report as the run folder stores it: one line of history, one part of the results.

    Keys: ``game`` (the metric that is the game's value), ``accuracy``/``macro_f1``/``nll`` of all
    modalities together, ``phi`` by modality (higher is better: for
    nll the game's value is −nll), ``edm``, ``certainty`` (of the order by φ, and of its weakest),
    ``banzhaf``, ``proper_mean`` (mean accuracy over the non-empty proper coalitions), ``values`` by
    coalition (``low``/``high`` belong to the metric that the game is played for) and ``samples``.
    A number with its 95 % interval is ``{value, low, high}``.
    """
    names = report.modalities
    # The game turns a metric where less is better into a utility; a person reads the metric itself.
    ends = [report.value_low, report.value_high]
    low_V, high_V = ends if report.higher_is_better else [-end for end in reversed(ends)]
    low, high = low_V.tolist(), high_V.tolist()
    entry: dict[str, Any] = {"game": report.value, "samples": report.samples}
    values = {metric: report.values[metric].tolist() for metric in report.metrics}
    for metric in report.metrics:
        entry[metric] = {
            "value": values[metric][-1],
            "low": report.full_low[metric],
            "high": report.full_high[metric],
        }
    entry["phi"] = {
        name: {
            "value": report.phi[m],
            "low": report.phi_low[m],
            "high": report.phi_high[m],
            "se": report.phi_se[m],
        }
        for m, name in enumerate(names)
    }
    entry["edm"] = {
        "value": report.edm,
        "low": report.edm_low,
        "high": report.edm_high,
        "normalised": report.edm_normalised,
    }
    entry["certainty"] = {"order": report.order_certainty, "weakest": report.weakest_certainty}
    entry["estimator"] = {
        "name": report.estimator,
        "evaluations": report.evaluations,
        "reason": report.reason,
    }
    entry["banzhaf"] = dict(zip(names, report.banzhaf, strict=True))
    entry["proper_mean"] = report.proper_mean
    entry["values"] = {
        coalition: {
            **{metric: values[metric][s] for metric in report.metrics},
            "low": low[s],
            "high": high[s],
        }
        for s, coalition in enumerate(coalition_name(row, names) for row in report.coalitions)
    }
    return plain(entry)


def flat_metrics(entry: Mapping[str, Any], prefix: str = "val") -> dict[str, float]:
    """Return the scalars of a history line (or of a test entry) under the names of the loggers.

    A line of history gives ``shapley/<m>``, ``shapley_low/<m>``, ``shapley_high/<m>``, ``edm``,
    ``certainty/order`` and ``weakest``, ``subset/*`` where the order is set by a part of the
    samples, ``tuning/*`` where tuning is watched, ``order/<m>`` (place, 0 first),
    ``value/<coalition>``, ``val/*``, ``train/*`` and
    ``lr``; a test entry gives the same under ``test/``. What is undefined (NaN) is left out.
    """
    top = "" if prefix == "val" else f"{prefix}/"
    flat: dict[str, float | None] = {}
    for metric in dict.fromkeys((*METRICS, entry["game"])):
        number = entry[metric]
        flat[f"{prefix}/{metric}"] = number["value"]
        flat[f"{prefix}/{metric}_low"] = number["low"]
        flat[f"{prefix}/{metric}_high"] = number["high"]
    flat[f"{prefix}/proper_mean"] = entry["proper_mean"]
    for name, phi in entry["phi"].items():
        flat[f"{top}shapley/{name}"] = phi["value"]
        flat[f"{top}shapley_low/{name}"] = phi["low"]
        flat[f"{top}shapley_high/{name}"] = phi["high"]
    for end in ("", "_low", "_high", "_normalised"):
        flat[f"{top}edm{end}"] = entry["edm"][end.removeprefix("_") or "value"]
    for part, share in entry.get("certainty", {}).items():
        flat[f"{top}certainty/{part}"] = share
    if subset := entry.get("subset"):
        flat |= {f"subset/certainty_{part}": share for part, share in subset["certainty"].items()}
        flat |= {f"subset/{key}": subset[key] for key in ("kendall_tau", "samples")}
    for coalition, values in entry["values"].items():
        flat[f"{top}value/{coalition}"] = values[entry["game"]]
    for place, name in enumerate(entry.get("order", ())):
        flat[f"order/{name}"] = float(place)
    for name, loss in entry.get("losses", {}).items():
        flat[f"train/{name}"] = loss
    flat.update(rates(entry.get("lr", {})))
    flat.update(leaves(entry.get("tuning", {}), "tuning"))
    for key in ("kendall_tau", "seconds"):
        flat[key] = entry.get(key)
    return {key: value for key, value in flat.items() if value is not None}


def leaves(tree: Mapping[str, Any], prefix: str) -> dict[str, float | None]:
    """Return the numbers of nested mappings under their paths.

    Examples:
        >>> leaves({"drift": {"text": 0.5}}, "tuning")
        {'tuning/drift/text': 0.5}
    """
    flat: dict[str, float | None] = {}
    for key, value in tree.items():
        path = f"{prefix}/{key}"
        flat |= leaves(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def rates(lr: Mapping[str, float]) -> dict[str, float]:
    """Return ``{"lr": …}`` when all parameter groups share one rate, else ``lr/<group>`` each."""
    if len(set(lr.values())) == 1:
        return {"lr": next(iter(lr.values()))}
    return {f"lr/{group}": rate for group, rate in lr.items()}


def best_epoch(history: Sequence[Mapping[str, Any]], mode: str = "max") -> int | None:
    """Return the index in ``history`` of the epoch that ModelCheckpoint kept as the best.

    Its rule: the first epoch, then each that is strictly better; NaN never wins over a number.
    Without a monitored number the last epoch is the one that was kept; None for no epochs.

    Examples:
        >>> lines = [{"monitor": {"value": v}} for v in (0.5, 0.7, None, 0.7)]
        >>> best_epoch(lines), best_epoch(lines, "min"), best_epoch([])
        (1, 0, None)
    """
    sign = 1.0 if mode == "max" else -1.0
    best: int | None = None
    score = -math.inf
    for index, line in enumerate(history):
        monitor = line.get("monitor")
        if monitor is None:
            return len(history) - 1
        value = monitor["value"]
        current = -math.inf if value is None else sign * value
        if best is None or current > score:
            best, score = index, current
    return best


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the union of the rows' keys, ``epoch`` first, in the order of their appearance."""
    found = dict.fromkeys(key for row in rows for key in row)
    return ["epoch", *(key for key in found if key != "epoch")]
