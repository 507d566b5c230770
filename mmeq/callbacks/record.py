"""The run's record on disk and in the loggers: environment, history, metrics and results."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmeq.callbacks.entries import best_epoch, columns, flat_metrics, report_entry
from mmeq.callbacks.environment import environment
from mmeq.callbacks.memory import PeakMemory
from mmeq.files import append_line, json_line, keep_lines, plain, read_jsonl, write_json, write_text
from mmeq.game.order import kendall_tau
from mmeq.loggers import log_results


class RunRecord(Callback):
    """Keep ``environment.json``, ``history.jsonl``, ``metrics.csv`` and ``results.json``.

    A line of history is written at the end of each epoch, after validation and before the
    checkpoint. On resume the lines of the epochs that will be trained again are dropped, so that a
    resumed run leaves the same history as an uninterrupted one. ``results.json`` is written last,
    when fit and test have both ended without an error: it is the mark that the run is complete.
    The same numbers go to every logger of the trainer, against ``epoch``.

    Args:
        run_dir: the run folder.
        names: what the results shall name beyond what the module knows itself (``dataset``,
            ``protocol``, ``fusion``, ``method``, ``inference``): ``backbone``, ``seed``,
            ``split_seed``, …; a key given here wins.
    """

    def __init__(self, run_dir: str | Path, names: Mapping[str, Any] | None = None) -> None:
        """Remember where to write; nothing is touched before the run starts."""
        self.run_dir = Path(run_dir)
        self.names = dict(names or {})
        self._epoch_start = self._test_start = 0.0
        self._fitted = self._tested = False
        self._memory = PeakMemory()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of ``history.jsonl`` so far."""
        return read_jsonl(self.run_dir / "history.jsonl")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where and with what the run is made."""
        self._fitted = self._tested = False
        self._memory.start(trainer.strategy.root_device)
        if trainer.is_global_zero:
            write_json(self.run_dir / "environment.json", environment(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what belongs to epochs that are trained now; not called when none is left."""
        if not trainer.is_global_zero:
            return
        (self.run_dir / "results.json").unlink(missing_ok=True)
        first = trainer.current_epoch
        log = self.run_dir / "history.jsonl"
        keep_lines(log, lambda line: json.loads(line)["epoch"] < first)
        if kept := self.history:
            self._rewrite_metrics(kept)
        else:
            (self.run_dir / "metrics.csv").unlink(missing_ok=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line and send its numbers to the loggers."""
        module: Any = pl_module
        if not trainer.is_global_zero or module.report is None:
            return
        line = self._line(trainer, module, time.perf_counter() - self._epoch_start)
        append_line(self.run_dir / "history.jsonl", json_line(line))
        metrics = {"epoch": line["epoch"], **flat_metrics(line)}
        self._append_metrics(metrics)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=line["epoch"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit ended without an error; also called when a resumed run had no epoch left."""
        self._fitted = True

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the test."""
        self._test_start = time.perf_counter()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the test report is there; the results wait until all else is written."""
        self._tested = True
        self._test_seconds = time.perf_counter() - self._test_start

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``results.json`` after every other callback's ``on_test_end``."""
        if stage != "test" or not (self._fitted and self._tested and trainer.is_global_zero):
            return
        results = self._results(trainer, pl_module)
        metrics = flat_metrics(results["test"], prefix="test")
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": results["best_epoch"], **metrics}, step=results["epochs"])
        log_results(trainer.loggers, results)
        write_json(self.run_dir / "results.json", results)

    def _line(self, trainer: Trainer, module: Any, seconds: float) -> dict[str, Any]:  # noqa: ANN401
        names = module.report.modalities
        used, following = tuple(module.order), tuple(module.method.order)
        monitor = getattr(trainer.checkpoint_callback, "monitor", None)
        # The very number that ModelCheckpoint compares (float32), so that ties fall the same way.
        value = trainer.callback_metrics.get(monitor) if monitor else None
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        return plain(
            {
                "epoch": trainer.current_epoch,
                "order": [names[m] for m in used],
                "next_order": [names[m] for m in following],
                "kendall_tau": float(kendall_tau(used, following)),
                **report_entry(module.report),
                **getattr(module, "epoch_findings", {}),
                "losses": dict(module.train_losses),
                "method": module.method.describe(),
                "lr": {str(g.get("name", i)): float(g["lr"]) for i, g in enumerate(groups)},
                "seconds": seconds,
                "monitor": None if value is None else {"name": monitor, "value": float(value)},
            }
        )

    def _append_metrics(self, metrics: Mapping[str, float]) -> None:
        path = self.run_dir / "metrics.csv"
        known: list[str] = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as stream:
                known = next(csv.reader(stream), [])
        if known and set(metrics) <= set(known):
            append_line(path, _csv_row([metrics.get(key, "") for key in known]))
        else:  # the first epoch, or one with a metric that had no column yet
            self._rewrite_metrics(self.history)

    def _rewrite_metrics(self, history: list[dict[str, Any]]) -> None:
        rows = [{"epoch": line["epoch"], **flat_metrics(line)} for line in history]
        keys = columns(rows)
        lines = [_csv_row(keys), *(_csv_row([row.get(key, "") for key in keys]) for row in rows)]
        write_text(self.run_dir / "metrics.csv", "\n".join(lines) + "\n")

    def _results(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        module: Any = pl_module
        history = self.history
        checkpoint = trainer.checkpoint_callback
        best = best_epoch(history, getattr(checkpoint, "mode", "max"))
        line = {} if best is None else history[best]
        report_keys = report_entry(module.test_report)
        known = {
            "dataset": module.spec.name,
            "protocol": module.spec.protocol,
            "fusion": fusion_name(module),
            "method": module.method.title(),
            "inference": module.inference,
        }
        return plain(
            {
                **known,
                **self.names,
                "modalities": list(module.test_report.modalities),
                "classes": len(module.spec.classes),
                "value": module.test_report.value,
                "test": report_keys,
                "validation": {key: line[key] for key in report_keys if key in line},
                **getattr(module, "findings", {}),  # what other callbacks found, such as a probe
                "order": line.get("order"),
                "monitor": line.get("monitor"),
                "epochs": len(history),
                "best_epoch": line.get("epoch"),
                "seconds": sum(entry["seconds"] for entry in history),
                "test_seconds": self._test_seconds,
                "memory": self._memory.read(),
            }
        )


def fusion_name(module: Any) -> str:  # noqa: ANN401 - a MultimodalModule
    """Name what fuses: the fusion, or heads that the method has of its own."""
    own = not module.method.uses_fusion
    return "own heads" if own else type(module.fusion).__name__.lower()


def _csv_row(cells: list[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()
