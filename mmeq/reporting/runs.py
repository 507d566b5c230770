"""One run: what a report needs of its folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmeq.errors import MmeqError
from mmeq.files import read_lines
from mmeq.reporting.answers import calibration, ece, read_answers
from mmeq.reporting.options import flatten

CONFIG, RESULTS, HISTORY = "config.yaml", "results.json", "history.jsonl"
ENVIRONMENT = "environment.json"
HARDWARE = ("device", "device_name", "processor", "threads", "devices")
FIGURES = ("accuracy", "macro_f1", "nll", "edm")
"""Of a game report, beside φ and the mean over proper coalitions."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Replicate = tuple[Any, Any]
"""(seed, split): runs of two methods that share it are a pair."""


@dataclass(frozen=True)
class Run:
    """What a report needs of a finished run.

    Attributes:
        folder: where it is.
        dataset: name.
        protocol: of the split, without its seeds.
        method: name.
        fusion: name.
        alone: the modality that it was trained on alone; None for a fused run.
        modalities: names.
        replicate: (seed, split), see `split_of`.
        options: the configuration, flat.
        numbers: ``accuracy``, ``macro_f1``, ``nll``, ``ece``, ``edm``, ``missing``, ``seconds`` (an
            epoch) and ``memory`` (MiB); None where one is undefined or unknown.
        without: accuracy when this one modality is missing; empty where not all are known.
        game: the metric that the game was played for.
        phi: Shapley values by modality.
        empty: value of the empty coalition in that metric.
        memory_kind: ``cuda`` or ``rss``.
        hardware: what it was trained on; None when unknown.
        epochs: trained.
        table: title of the table that it was made for; None: told by its configuration.
        row: label of its row there.
        kept: the whole line that it was read from, see `mmeq.reporting.kept.keep`; None for a run
            that was read from its folder.
    """

    folder: Path
    dataset: str
    protocol: str
    method: str
    fusion: str
    alone: str | None
    modalities: tuple[str, ...]
    replicate: Replicate
    options: Mapping[str, Any]
    numbers: Mapping[str, float | None]
    without: Mapping[str, float]
    game: str
    phi: Mapping[str, float | None]
    empty: float | None
    memory_kind: str | None = None
    hardware: tuple[Any, ...] | None = None
    epochs: int | None = None
    table: str | None = None
    row: str | None = None
    kept: Mapping[str, Any] | None = None


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a run.

    Raises:
        MmeqError: when it is absent, damaged or of another program.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise MmeqError(f"{path} is absent: {RESULTS} alone does not tell what the run was")
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MmeqError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    sections = ("dataset", "method", "fusion")
    if not isinstance(config, dict) or not all(isinstance(config.get(s), dict) for s in sections):
        raise MmeqError(f"{path} is no configuration of mmeq (it lacks {', '.join(sections)})")
    return config


def read_run(folder: Path, config: Mapping[str, Any]) -> Run:
    """Read a finished run.

    Args:
        folder: the run folder.
        config: its configuration.

    Raises:
        MmeqError: names the file and what it lacks.
    """
    path = folder / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        test, names = results["test"], tuple(map(str, results["modalities"]))
        values, game = test["values"], str(test["game"])
        seconds, epochs = number(results.get("seconds")), results.get("epochs")
        answers = read_answers(folder)
        accuracies = {coalition: found["accuracy"] for coalition, found in values.items()}
        return made(
            folder,
            results,
            {**figures(test, names), "values": accuracies},
            seconds=seconds / epochs if seconds is not None and epochs else None,
            ece=ece(calibration(answers)) if answers else None,
            alone=alone(config),
            options=flatten(config),
            game=game,
            empty=values.get("none", {}).get(game),
            hardware=hardware(folder / ENVIRONMENT),
        )
    except MmeqError:  # of another file, which it names
        raise
    except KeyError as error:
        raise MmeqError(f"{path} is damaged: it lacks {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError) as error:  # JSONDecodeError is a ValueError
        raise MmeqError(f"{path} is damaged: {error}") from error


def made(
    place: Path,
    told: Mapping[str, Any],
    test: Mapping[str, Any],
    *,
    seconds: Any,  # noqa: ANN401 - a JSON value
    ece: Any,  # noqa: ANN401 - a JSON value
    empty: Any,  # noqa: ANN401 - a JSON value
    **others: Any,  # noqa: ANN401 - fields of the run
) -> Run:
    """Return a run of what its results, or a line of them, tell.

    Args:
        place: its folder, or file and line.
        told: what both call by the same names.
        test: as `figures` gives it, with ``values``: accuracy by coalition.
        seconds: an epoch.
        ece: of the test part.
        empty: value of the empty coalition.
        others: the other fields of the run.

    Raises:
        KeyError: for what is lacking.
        ValueError: without an accuracy.
        TypeError: for what is no number.
    """
    names, memory = tuple(map(str, told["modalities"])), told.get("memory") or {}
    numbers = {name: number(test[name]) for name in FIGURES}
    numbers |= {"missing": number(test["proper_mean"]), "ece": number(ece)}
    numbers |= {"seconds": number(seconds), "memory": number(memory.get("peak_mb"))}
    if numbers["accuracy"] is None:
        raise ValueError("test.accuracy is no number")
    return Run(
        folder=place,
        dataset=str(told["dataset"]),
        protocol=seedless(str(told["protocol"])),
        method=str(told["method"]),
        fusion=str(told["fusion"]),
        modalities=names,
        replicate=(told["seed"], split_of(told)),
        numbers=numbers,
        without=removals(names, test["values"]),
        phi={name: number(test["phi"][name]) for name in names},
        empty=number(empty),
        memory_kind=memory.get("kind"),
        epochs=told.get("epochs"),
        **others,
    )


def figures(entry: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of a game report without their intervals; nothing of none."""
    if not entry:
        return {}
    told: dict[str, Any] = {name: entry[name]["value"] for name in FIGURES}
    told["proper_mean"] = entry["proper_mean"]
    return {**told, "phi": {name: entry["phi"][name]["value"] for name in names}}


def number(value: Any) -> float | None:  # noqa: ANN401 - a JSON value
    """Return a number, None where it is undefined.

    Raises:
        TypeError: for what is neither.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value) if math.isfinite(value) else None


def seedless(protocol: str) -> str:
    """Return a protocol without the seeds of its split and its gaps.

    Examples:
        >>> seedless("stratified 60/20/20 split_seed=3 train_size=150; gaps train 30 %, seed 3")
        'stratified 60/20/20 train_size=150; gaps train 30 %'
        >>> seedless("loso fold 2 (Session2 is test); validation 10 % split_seed=0")
        'loso; validation 10 %'
    """
    fold = r" ?\bfold[ =]\d+(?: \([^)]*\))?"
    return re.sub(rf"{fold}|,? ?\b(split_seed=|seed[ =])\d+", "", protocol).strip()


def split_of(named: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a number, a text or None
    """Return which of a protocol's splits a run had: its seed, and its fold where it has folds.

    Args:
        named: results, or the dataset section of a configuration.

    Examples:
        >>> split_of({"split_seed": 3}), split_of({"split_seed": 0, "fold": 2}), split_of({})
        (3, '0, fold 2', None)
    """
    seed, fold = named.get("split_seed"), named.get("fold")
    return seed if fold is None else f"{seed}, fold {fold}"


def alone(config: Mapping[str, Any]) -> str | None:
    """Return the modality that a run trains alone: the method's option ``modality``."""
    modality = config["method"].get("modality")
    return None if modality is None else str(modality)


def removals(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracy without each modality; nothing unless all of them are known.

    Args:
        names: modalities, in their order.
        values: accuracy by coalition.
    """
    names = tuple(names)
    left = {one: "+".join(name for name in names if name != one) for one in names}
    if len(names) < 2 or not all(key in values for key in left.values()):
        return {}
    found = {one: number(values[key]) for one, key in left.items()}
    return {one: value for one, value in found.items() if value is not None}


def hardware(path: Path) -> tuple[Any, ...] | None:
    """Return what a run was trained on, None when that cannot be told."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return tuple(told[key] for key in HARDWARE)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def progress(folder: Path, config: Mapping[str, Any]) -> str:
    """Say what an unfinished run is and how far it has come."""
    parts = [str(config[part].get("_target_", "?")).split(".") for part in ("method", "fusion")]
    names = " · ".join(part[-2] if len(part) > 1 else part[0] for part in parts)
    trainer = config.get("trainer") or {}
    done, of = len(read_lines(folder / HISTORY)), trainer.get("max_epochs", "?")
    split = split_of(config["dataset"])
    return f"{names}, seed {config.get('seed')}, split {split}: {done} of {of} epochs"
