"""One run as the page shows it: every epoch of its history, and its results if there are any."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mmeq.errors import MmeqError
from mmeq.files import read_lines
from mmeq.reporting.folders import run_folders
from mmeq.reporting.runs import HISTORY, RESULTS, number, read_config, split_of

METRICS = ("accuracy", "macro_f1", "nll")
ENDS = ("value", "low", "high")
Number = float | None
T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; None is what is undefined."""

    value: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class Measured:
    """One game report: of an epoch's validation, or of the test.

    Attributes:
        game: the metric that the game was played for.
        metrics: of all modalities together, by name.
        phi: Shapley value by modality.
        edm: in percent.
        missing: mean accuracy over the non-empty proper coalitions.
        values: coalition → its metrics; low and high belong to ``game``.
    """

    game: str
    metrics: Mapping[str, Interval]
    phi: Mapping[str, Interval]
    edm: Interval
    missing: Number
    values: Mapping[str, Mapping[str, Number]]


@dataclass(frozen=True)
class Epoch:
    """One line of the history; ``places`` count from 1, which is trained first."""

    number: int
    measured: Measured
    places: Mapping[str, int]
    losses: Mapping[str, Number]
    seconds: Number


@dataclass(frozen=True)
class Record:
    """A run folder.

    Attributes:
        folder: where it is.
        dataset: name.
        method: name.
        fusion: name.
        name: that the user gave it.
        seed: of the run.
        split: of the data, see `split_of`.
        planned: epochs that were asked for.
        epochs: done.
        test: None while the run is under way.
        best: number of the epoch that was kept; None while the run is under way.
        missing: the table of missing modalities, as in the results; None where there is none.
    """

    folder: Path
    dataset: str
    method: str
    fusion: str
    name: str | None
    seed: Any
    split: Any
    planned: Any
    epochs: tuple[Epoch, ...]
    test: Measured | None
    best: int | None
    missing: Mapping[str, Any] | None

    @property
    def label(self) -> str:
        """What the run is, in a line."""
        parts = [self.dataset, self.method, self.fusion, f"seed {self.seed}"]
        parts += [] if self.split in (None, self.seed) else [f"split {self.split}"]
        return " · ".join([*([self.name] if self.name else []), *parts])

    @property
    def measured(self) -> Measured | None:
        """The test, or the last validation of a run under way; None before its first epoch."""
        last = self.epochs[-1].measured if self.epochs else None
        return self.test or last

    @property
    def state(self) -> str:
        """How far it has come."""
        if self.test is not None:
            return f"finished, best epoch {self.best} of {len(self.epochs)}"
        return f"under way, {len(self.epochs)} of {self.planned} epochs"


@dataclass(frozen=True)
class Records:
    """What lies in the given folders.

    Attributes:
        records: in the order of their folders.
        damaged: what is wrong, with the file's name; these are left out.
        empty: what was given and holds no run.
    """

    records: list[Record] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def read_records(given: Sequence[str]) -> Records:
    """Read every run in the given folders, those under way too.

    Args:
        given: run folders, folders that hold runs at any depth, or globs.

    Raises:
        MmeqError: when something is not there, or no run can be read.
    """
    folders, empty = run_folders(given)
    found = Records(empty=empty)
    for folder in folders:
        try:
            found.records.append(read_record(folder))
        except MmeqError as error:
            found.damaged.append(str(error))
    if not found.records:
        raise MmeqError("\n".join([f"{' '.join(given)}: no run can be read", *found.damaged]))
    return found


def read_record(folder: Path) -> Record:
    """Read one run.

    Raises:
        MmeqError: names the file, its line and what is wrong.
    """
    config = read_config(folder)
    parts = (str(config[part].get("_target_", "?")).split(".") for part in ("method", "fusion"))
    method, fusion = (part[-2] if len(part) > 1 else part[0] for part in parts)
    data = str(config["dataset"].get("_target_", "?")).split(".")
    results: dict[str, Any] = {}
    if (folder / RESULTS).is_file():
        results = told(
            folder / RESULTS, lambda: object_of((folder / RESULTS).read_text(encoding="utf-8"))
        )
    lines = told(folder / HISTORY, lambda: read_lines(folder / HISTORY))
    return told(
        folder / RESULTS,
        lambda: Record(
            folder=folder,
            dataset=str(results.get("dataset", data[-1].lower())),
            method=str(results.get("method", method)),
            fusion=str(results.get("fusion", fusion)),
            name=None if config.get("name") is None else str(config["name"]),
            seed=results.get("seed", config.get("seed")),
            split=split_of(results or config["dataset"]),
            planned=(config.get("trainer") or {}).get("max_epochs", "?"),
            epochs=tuple(
                told(f"{folder / HISTORY}, line {k},", partial(epoch_of, line))
                for k, line in enumerate(lines, start=1)
            ),
            test=measured(results["test"]) if results else None,
            best=None if results.get("best_epoch") is None else results["best_epoch"] + 1,
            missing=missing(results.get("missing")),
        ),
    )


def told(where: object, read: Callable[[], T]) -> T:
    """Return what is read; whatever is wrong with it becomes one message.

    Raises:
        MmeqError: names the place.
    """
    try:
        return read()
    except MmeqError:  # of another file, which it names
        raise
    except KeyError as error:
        raise MmeqError(f"{where} is damaged: it lacks {error.args[0]!r}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:  # JSON and UTF-8 too
        raise MmeqError(f"{where} is damaged: {error}") from error


def object_of(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError: for text that is none.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def epoch_of(text: str) -> Epoch:
    """Read a line of the history, as it stands there."""
    return epoch(object_of(text))


def epoch(line: Mapping[str, Any]) -> Epoch:
    """Read a line of the history."""
    return Epoch(
        number=int(line["epoch"]) + 1,
        measured=measured(line),
        places={str(name): place for place, name in enumerate(line["order"], start=1)},
        losses={str(name): number(value) for name, value in line["losses"].items()},
        seconds=number(line.get("seconds")),
    )


def measured(entry: Mapping[str, Any]) -> Measured:
    """Read a game report: what ``history.jsonl`` and ``results.json`` have in common."""
    game = str(entry["game"])
    return Measured(
        game=game,
        metrics={name: interval(entry[name]) for name in dict.fromkeys((*METRICS, game))},
        phi={str(name): interval(phi) for name, phi in entry["phi"].items()},
        edm=interval(entry["edm"]),
        missing=number(entry["proper_mean"]),
        values={
            str(coalition): {str(key): number(value) for key, value in metrics.items()}
            for coalition, metrics in entry["values"].items()
        },
    )


def interval(entry: Mapping[str, Any]) -> Interval:
    """Read a number with its ends."""
    return Interval(*(number(entry[end]) for end in ENDS))


def missing(table: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - a JSON value
    """Return the table of missing modalities: what is missing → accuracy, and a note.

    Keys: ``rows`` of (label, `Interval`, note), or ``skipped``: why there are none.
    """
    if table is None or "skipped" in table:
        return table
    count = len(table["by_missing"]) + 1
    rows = [("none", interval(table["full"]), "")]
    for entry in table["by_missing"]:
        worst = f"{' + '.join(entry['worst'])} left: {100 * entry['worst_accuracy']:.1f} %"
        label = f"{entry['missing']} of {count}"
        rows.append((label, interval(entry["accuracy"]), f"worst with {worst}"))
    rows.append(("any, mean", interval(table["mean"]), "of all patterns"))
    for entry in table["rates"]:
        effect = f"{100 * entry['effective']:.0f} % in effect"
        rows.append((f"{100 * entry['rate']:g} % at random", interval(entry["accuracy"]), effect))
    for entry in table["unequal"]:
        rates = ", ".join(f"{name} {100 * rate:g} %" for name, rate in entry["rates"].items())
        rows.append(("unequal", interval(entry["accuracy"]), rates))
    return {"rows": rows}
