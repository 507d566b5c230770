"""What is taken out of a run folder to be kept: numbers without intervals, compact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmeq.errors import MmeqError
from mmeq.files import read_jsonl
from mmeq.reporting.answers import calibration, confusion, ece, read_answers
from mmeq.reporting.runs import HISTORY, Run, figures

NAMED = 10
"""A confusion matrix of more classes than this is not kept."""
WHOLE = 4
"""Of more modalities than this, not every coalition is kept."""


def facts(run: Run, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``results.json`` tells, in the words of `keep`.

    Args:
        run: as read.
        results: of ``results.json``.
    """
    names, test = run.modalities, results["test"]
    return {
        "dataset": run.dataset,
        "protocol": run.protocol,
        "method": run.method,
        "fusion": run.fusion,
        "alone": run.alone,
        "modalities": list(names),
        "seed": results["seed"],
        "split_seed": results.get("split_seed"),
        "fold": results.get("fold"),
        "fractions": run.options.get("dataset.fractions"),
        "hardware": None if run.hardware is None else list(run.hardware),
        "epochs": run.epochs,
        "best_epoch": results.get("best_epoch"),
        "seconds": run.numbers["seconds"],
        "memory": results.get("memory"),
        "game": run.game,
        "validation": figures(results.get("validation") or {}, names),
        "test": {**figures(test, names), "values": coalitions(test["values"], names)},
        "empty": run.empty,  # in the metric of the game
        "missing": rates(results.get("missing") or {}),
        "probe": {
            name: found["accuracy"]
            for name, found in results.get("probe", {}).items()
            if "skipped" not in found
        },
        "strategies": strategies(results.get("strategies", {})),
    }


def coalitions(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy of every coalition; of many modalities of those that say most."""
    chosen = list(values)
    if len(names) > WHOLE:
        lacking = ["+".join(name for name in names if name != one) for one in names]
        chosen = ["none", *names, *lacking, "+".join(names)]
    return {name: values[name]["accuracy"] for name in chosen if name in values}


def rates(missing: Mapping[str, Any]) -> dict[str, Any]:
    """Return accuracy by the rate at which modalities are missing at random."""
    return {f"{entry['rate']:g}": entry["accuracy"]["value"] for entry in missing.get("rates", ())}


def strategies(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return accuracy and share of the oracle's gap by strategy; nothing where all coincide."""
    if "strategies" not in found:
        return {}
    told = found["strategies"].items()
    return {
        "accuracy": {name: entry["accuracy"]["value"] for name, entry in told},
        "closed": {name: entry["closed"]["value"] for name, entry in told},
        **{key: found[key]["value"] for key in ("oracle", "control", "gap", "excess")},
        "orders": found["orders"],
    }


def answered(folder: Path) -> dict[str, Any]:
    """Return what the predictions tell; nothing where there are none."""
    answers = read_answers(folder)
    if answers is None:
        return {}
    bins = calibration(answers)
    told: dict[str, Any] = {"calibration": bins, "ece": ece(bins)}
    if len(answers.classes) <= NAMED:
        told |= {"classes": list(answers.classes), "confusion": confusion(answers)}
    return told


def epochs(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return order, φ, EDM and accuracy of the validation part as lists over the epochs.

    Raises:
        MmeqError: when a line is damaged.
    """
    try:
        lines = read_jsonl(folder / HISTORY)
        place = {name: m for m, name in enumerate(names)}
        return {
            "order": [[place[name] for name in line["order"]] for line in lines],
            "phi": {name: [line["phi"][name]["value"] for line in lines] for name in names},
            "edm": [line["edm"]["value"] for line in lines],
            "accuracy": [line["accuracy"]["value"] for line in lines],
        }
    except KeyError as error:
        raise MmeqError(f"{folder / HISTORY} is damaged: it lacks {error.args[0]!r}") from error
    except (ValueError, TypeError) as error:
        raise MmeqError(f"{folder / HISTORY} is damaged: {error}") from error
