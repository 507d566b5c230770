"""What loggers are given beside the metrics: the configuration, figures, the results, the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

METRICS = ("accuracy", "macro_f1", "nll")
Tables = Mapping[str, tuple[list[str], list[list[Any]]]]
"""Name → columns and rows."""


@runtime_checkable
class TakesFigures(Protocol):
    """A logger with a place for images."""

    def log_figures(self, paths: Mapping[str, Path], epoch: int) -> None:
        """Take figures, by name."""


@runtime_checkable
class TakesResults(Protocol):
    """A logger with a place for a summary and for tables."""

    def log_results(self, summary: Mapping[str, Any], tables: Tables, epoch: int) -> None:
        """Take the results."""


@runtime_checkable
class Finishes(Protocol):
    """A logger that must be told how the run ended."""

    def finish(self, exit_code: int) -> None:
        """Close what is open; any status but 0 is a failure."""


@rank_zero_only
def log_config(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Send the resolved configuration (plain types) to every logger."""
    for logger in loggers:
        logger.log_hyperparams(dict(config))


@rank_zero_only
def log_figures(loggers: Iterable[Logger], paths: Mapping[str, Path], epoch: int) -> None:
    """Send figures, by name, to the loggers that take images."""
    for logger in loggers:
        if paths and isinstance(logger, TakesFigures):
            logger.log_figures(paths, epoch)


@rank_zero_only
def log_results(loggers: Iterable[Logger], results: Mapping[str, Any]) -> None:
    """Send the results to the loggers that take tables.

    Tables ``test/coalitions`` (a row each, with every metric), ``test/modalities`` (φ with its
    interval) and ``test/metrics`` (what all modalities reach together, EDM); and a summary.

    Args:
        loggers: of the trainer.
        results: as in ``results.json``.
    """
    test = results["test"]
    tables = {f"test/{name}": table for name, table in result_tables(results).items()}
    summary = {f"test/{k}": test[k]["value"] for k in (*METRICS, "edm")}
    summary |= {"best_epoch": results["best_epoch"], "epochs": results["epochs"]}
    for logger in loggers:
        if isinstance(logger, TakesResults):
            logger.log_results(summary, tables, results["epochs"])


def result_tables(results: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return the tables of the results: name → columns and rows.

    ``low`` and ``high`` are the ends of 95 % intervals; of a coalition they belong to the metric
    that the game is played for.

    Args:
        results: as in ``results.json``.
    """
    test, order = results["test"], results.get("order") or []
    metrics = list(dict.fromkeys((*METRICS, test["game"])))
    ends = ["value", "low", "high"]
    return {
        "coalitions": (
            ["coalition", *metrics, "low", "high"],
            [[s, *(v.get(k) for k in (*metrics, *ends[1:]))] for s, v in test["values"].items()],
        ),
        "modalities": (
            ["modality", "phi", "low", "high", "place"],
            [
                [name, *map(phi.get, ends), order.index(name) + 1 if name in order else None]
                for name, phi in test["phi"].items()
            ],
        ),
        "metrics": (
            ["metric", *ends],
            [[name, *map(test[name].get, ends)] for name in (*metrics, "edm")],
        ),
    }


@rank_zero_only
def finish_loggers(loggers: Iterable[Logger] = (), exit_code: int = 0) -> None:
    """Close the W&B run in the main's ``finally``; a run left open would take in the next one.

    Args:
        loggers: of the trainer; only those that were started need closing.
        exit_code: 0 for a run that ended well; W&B marks any other as failed.
    """
    for logger in loggers:
        if isinstance(logger, Finishes):
            logger.finish(exit_code)
