"""Weights & Biases that never gets in the way of training, and what is sent to any logger."""

from __future__ import annotations

import contextlib
import netrc
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from mmeq.errors import MmeqError, did_you_mean
from mmeq.files import plain, write_text

MODES = ("online", "offline", "disabled")


class EpochWandbLogger(WandbLogger):
    """Lightning's W&B logger with the epoch as the one x-axis and a start that cannot block.

    Lightning's own adds ``trainer/global_step`` to every row, which counts optimizer steps and so
    grows M times as fast under alternating training; here all is plotted against ``epoch``.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - a wandb run
        """The W&B run, started at its first use; offline when the server cannot be reached."""
        if self._experiment is None:
            self._experiment = _start(dict(self._wandb_init))
            self._experiment.define_metric("epoch", hidden=True)
            self._experiment.define_metric("*", step_metric="epoch")
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one row; it must carry its ``epoch``, or ``step`` is taken for it."""
        row = dict(metrics)
        if step is not None:
            row.setdefault("epoch", step)
        self.experiment.log(row)


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
        group: runs that belong together, such as the seeds of one setting.
        tags: labels to filter by.
        save_dir: the run folder; the local record lies in ``<save_dir>/wandb``. A resumed folder
            continues the same W&B run.
        mode: ``online``, ``offline`` or ``disabled``. None: what ``WANDB_MODE`` says, else online
            when a key is configured and offline, silently, when there is none.
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
        settings={"init_timeout": init_timeout, "finish_timeout": finish_timeout},
    )


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


def _start(options: dict[str, Any]) -> Any:  # noqa: ANN401 - a wandb run
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
            first = (str(error).splitlines() or [type(error).__name__])[0]
            rank_zero_warn(f"W&B cannot be reached ({first}): the run is recorded offline")
            wandb.teardown(exit_code=1)  # else its service keeps the run's id and tries on
            mode = "offline"
        else:
            rank_zero_info(f"W&B: {run.url}")
            return run
    return wandb.init(**options, mode=mode, settings=wandb.Settings(**settings))


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
        if isinstance(logger, WandbLogger):
            logger.experiment.config.update(plain(config), allow_val_change=True)  # keeps nesting
        else:
            logger.log_hyperparams(dict(config))


@rank_zero_only
def log_figures(loggers: Iterable[Logger], paths: Mapping[str, Path], epoch: int) -> None:
    """Send figures, by name, to the loggers that take images."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and paths:
            import wandb

            images = {f"figures/{k}": wandb.Image(str(p)) for k, p in paths.items()}
            logger.experiment.log({"epoch": epoch, **images})


@rank_zero_only
def log_results(loggers: Iterable[Logger], results: Mapping[str, Any]) -> None:
    """Send the results to the loggers that take tables: every coalition's value, and a summary."""
    test = results["test"]
    metrics = ("accuracy", "macro_f1", "nll")
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            rows = [[name, *(v[k] for k in metrics)] for name, v in test["values"].items()]
            table = wandb.Table(columns=["coalition", *metrics], data=rows)
            logger.experiment.log({"epoch": results["epochs"], "test/coalitions": table})
            summary = {f"test/{k}": test[k]["value"] for k in (*metrics, "edm")}
            logger.experiment.summary.update(
                {**summary, "best_epoch": results["best_epoch"], "epochs": results["epochs"]}
            )


@rank_zero_only
def finish_loggers(loggers: Iterable[Logger] = (), exit_code: int = 0) -> None:
    """Close the W&B run in the main's ``finally``; a run left open would take in the next one.

    Args:
        loggers: of the trainer; only those that were started need closing.
        exit_code: 0 for a run that ended well; W&B marks any other as failed.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            import wandb

            try:
                logger._experiment.finish(exit_code=exit_code)
            except (wandb.Error, OSError) as error:  # the run itself is done and recorded
                rank_zero_warn(f"W&B could not be closed: {error}; `wandb sync` sends what is left")
            logger._experiment = None
