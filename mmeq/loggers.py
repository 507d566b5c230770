"""Weights & Biases that never gets in the way of training, and what is sent to any logger."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import netrc
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from mmeq.errors import MmeqError, did_you_mean
from mmeq.files import plain, read_lines, write_text

MODES = ("online", "offline", "disabled")
METRICS = ("accuracy", "macro_f1", "nll")


class EpochWandbLogger(WandbLogger):
    """Lightning's W&B logger with the epoch as the one x-axis, and never in the way of training.

    Lightning's own adds ``trainer/global_step`` to every row, which counts optimizer steps and so
    grows M times as fast under alternating training; here all is plotted against ``epoch``. A start
    that the server does not answer goes on offline; whatever fails later costs the rest of W&B's
    record, not the run.
    """

    lost = False
    """Whether W&B has failed; nothing more is sent then."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - a wandb run
        """The W&B run, started at its first use; offline when the server cannot be reached."""
        if self._experiment is None:
            self._experiment, self.mode = _start(dict(self._wandb_init))
            self._experiment.define_metric("epoch", hidden=True)
            self._experiment.define_metric("*", step_metric="epoch")
        return self._experiment

    @rank_zero_only
    def send(self, work: Callable[[Any], Any]) -> None:
        """Do something with the W&B run; should that fail, say so and go on without W&B.

        Args:
            work: takes the run.
        """
        if self.lost:
            return
        try:
            work(self.experiment)
        except Exception as error:  # its process has died, the disk is full, …
            self.lost = True
            tell(
                f"W&B failed ({first_line(error)}) and gets nothing more; the run goes on, and its "
                "folder has the whole record"
            )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one row; it must carry its ``epoch``, or ``step`` is taken for it."""
        row = dict(metrics)
        if step is not None:
            row.setdefault("epoch", step)
        self.send(lambda run: run.log(row))

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:  # noqa: ANN401 - as Lightning's
        """Keep the configuration, nested as it is."""
        self.send(lambda run: run.config.update(plain(params), allow_val_change=True))

    @rank_zero_only
    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run, if it was started, and say how to send what the server lacks.

        Args:
            exit_code: 0 for a run that ended well; W&B marks any other as failed.
        """
        run, self._experiment = self._experiment, None
        if run is None or self.mode == "disabled":
            return
        folder, why = Path(run.dir).parent, ""
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            why = f"the server did not take all within {run.settings.finish_timeout:g} s"
        except Exception as error:  # the run itself is done and recorded
            why = first_line(error)
        if self.lost:
            _drop_service()
        place = shlex.quote(str(folder))
        if self.mode == "offline":
            until = ", up to its failure" if self.lost else ""
            tell(f"W&B: recorded offline{until}; to send it: wandb sync {place}")
        elif why := why or _refused(folder):
            kept = "what it had" if self.lost else "all"
            sync = f"wandb sync --include-online {place}"
            tell(f"W&B: not all was sent ({why}); {kept} is on disk, to send it: {sync}")


def wandb_logger(
    project: str = "mmeq",
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] | None = None,
    save_dir: str | Path = ".",
    mode: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    notes: str | None = None,
    init_timeout: float = 30.0,
    finish_timeout: float = 120.0,
) -> EpochWandbLogger:
    """Build the W&B logger of a run; nothing is started or sent before its first use.

    Args:
        project: project that the run appears in.
        name: of the run; W&B invents one when None.
        group: runs that belong together, such as the jobs of a sweep.
        tags: labels to filter by; W&B takes up to 64 characters.
        save_dir: the run folder; the local record lies in ``<save_dir>/wandb``. A resumed folder
            continues the same W&B run.
        mode: ``online``, ``offline`` or ``disabled``. None: what ``WANDB_MODE`` says, else online
            when a key is configured and offline when there is none.
        entity: user or team.
        job_type: what the run is for.
        notes: free text.
        init_timeout: seconds to wait for the server before the run goes on offline.
        finish_timeout: seconds to wait at the end for what is still to be sent.

    Raises:
        MmeqError: for a mode that W&B does not have.
    """
    if mode is not None and mode not in MODES:
        raise MmeqError(f"logger.mode is {mode!r}" + did_you_mean(mode, MODES))
    return EpochWandbLogger(
        project=project,
        name=name,
        group=group,
        tags=None if tags is None else list(tags),
        save_dir=str(save_dir),
        mode=mode,
        entity=entity,
        job_type=job_type,
        notes=notes,
        settings={
            "init_timeout": init_timeout,
            "finish_timeout": finish_timeout,
            "finish_timeout_raises": True,
        },
    )


def tensorboard_logger(save_dir: str | Path = ".", name: str = "tensorboard") -> TensorBoardLogger:
    """Build Lightning's TensorBoard logger; a resumed run goes on in the same folder.

    Args:
        save_dir: the run folder.
        name: folder in it.

    Raises:
        MmeqError: when TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MmeqError(
            "logger=tensorboard needs the package tensorboard: pip install 'mmeq[tensorboard]'; "
            "or take logger=csv, which needs nothing"
        )
    return TensorBoardLogger(str(save_dir), name=name, version="", default_hp_metric=False)


def csv_logger(save_dir: str | Path = ".", name: str = "csv") -> CSVLogger:
    """Build Lightning's CSV logger, which writes every epoch; a resumed run gets a new version.

    Args:
        save_dir: the run folder, whose own ``metrics.csv`` has the same numbers.
        name: folder in it.
    """
    return CSVLogger(str(save_dir), name=name, flush_logs_every_n_steps=1)


def has_key(settings: Any) -> bool:  # noqa: ANN401 - wandb.Settings
    """Say whether W&B would find credentials, without asking anyone and without the network."""
    if settings.api_key or settings.identity_token_file:
        return True
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    host = urlsplit(settings.base_url).hostname or ""
    for path in files:
        with contextlib.suppress(OSError, netrc.NetrcParseError):  # an unreadable file is no key
            if netrc.netrc(str(path)).authenticators(host):
                return True
    return False


def _start(options: dict[str, Any]) -> tuple[Any, str]:
    """Return a wandb run and its mode."""
    import wandb

    # Silent, and hands off the terminal: the console belongs to the epoch table.
    settings = {"silent": True, "console": "off", "quiet": True, **options.pop("settings", {})}
    options.pop("anonymous", None)  # Lightning still sets it; W&B warns of it
    folder = Path(options["dir"])
    folder.mkdir(parents=True, exist_ok=True)
    options["id"] = options.get("id") or _run_id(folder)
    mode = options.pop("mode", None) or os.environ.get("WANDB_MODE")
    if mode in (None, "dryrun", "run"):
        known = wandb.setup(settings=wandb.Settings(silent=True)).settings
        mode = "offline" if mode == "dryrun" or not has_key(known) else "online"
    if mode == "online":
        try:
            run = wandb.init(**options, mode=mode, settings=wandb.Settings(**settings))
        except Exception as error:  # no network, a refused key, a server that is down
            tell(f"W&B cannot be reached ({first_line(error)}): the run is recorded offline")
            wandb.teardown(exit_code=1)  # else its service keeps the run's id and tries on
            mode = "offline"
        else:
            tell(f"W&B: {run.url}")
            return run, mode
    return wandb.init(**options, mode=mode, settings=wandb.Settings(**settings)), mode


def _drop_service() -> None:
    """Let go of W&B's own process; when it has died that fails, with a traceback at our exit."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown(exit_code=1)


def _refused(folder: Path) -> str:
    """Return why the server refused data for good, by W&B's own log; empty when it did not."""
    with contextlib.suppress(OSError, ValueError):  # no log, or another format: nothing to tell
        for line in read_lines(folder / "logs" / "debug-internal.log"):
            record = json.loads(line)
            if str(record.get("level", "")).startswith("ERROR+"):
                return str(record.get("msg", "")).splitlines()[0]
    return ""


def first_line(error: Exception) -> str:
    """Return what an exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@rank_zero_only
def tell(message: str) -> None:
    """Say something beside the run's own output."""
    print(f"mmeq: {message}", file=sys.stderr, flush=True)


def _run_id(folder: Path) -> str:
    """Return the W&B id that the run folder already has, or a new one kept there for a resume."""
    path = folder / "wandb" / "mmeq-run-id"
    if not path.exists():
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8").strip()


@rank_zero_only
def log_config(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Send the resolved configuration (plain types) to every logger."""
    for logger in loggers:
        logger.log_hyperparams(dict(config))


@rank_zero_only
def log_figures(loggers: Iterable[Logger], paths: Mapping[str, Path], epoch: int) -> None:
    """Send figures, by name, to the loggers that take images."""
    for logger in loggers:
        if isinstance(logger, EpochWandbLogger) and paths:
            import wandb

            images = {f"figures/{k}": wandb.Image(str(p)) for k, p in paths.items()}
            logger.send(lambda run, row={"epoch": epoch, **images}: run.log(row))
        elif isinstance(logger, TensorBoardLogger):
            import numpy as np
            from PIL import Image

            for name, path in paths.items():
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(f"figures/{name}", pixels, epoch, dataformats="HWC")


@rank_zero_only
def log_results(loggers: Iterable[Logger], results: Mapping[str, Any]) -> None:
    """Send the results to the loggers that take tables.

    Tables ``test/coalitions`` (a row each, with every metric), ``test/modalities`` (φ with its
    interval) and ``test/metrics`` (what all modalities reach together, EDM); and a summary.
    """
    test = results["test"]
    tables = result_tables(results)
    summary = {f"test/{k}": test[k]["value"] for k in (*METRICS, "edm")}
    summary |= {"best_epoch": results["best_epoch"], "epochs": results["epochs"]}
    for logger in loggers:
        if isinstance(logger, EpochWandbLogger):
            import wandb

            row = {
                f"test/{name}": wandb.Table(columns=columns, data=rows)
                for name, (columns, rows) in tables.items()
            }
            logger.send(lambda run: run.summary.update(summary))
            # last: online, W&B asks its server before it takes a table, and fails if that is down
            logger.send(lambda run, row=row: run.log({"epoch": results["epochs"], **row}))


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
        if isinstance(logger, EpochWandbLogger):
            logger.close(exit_code)
