"""Weights & Biases that never gets in the way of training."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from mmeq.files import plain, read_lines
from mmeq.loggers.giving import Tables
from mmeq.loggers.starting import first_line, start, tell


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
            self._experiment, self.mode = start(dict(self._wandb_init))
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
    def log_figures(self, paths: Mapping[str, Path], epoch: int) -> None:
        """Log figures, by name, as ``figures/<name>``."""
        import wandb

        def work(run: Any) -> None:  # noqa: ANN401 - a wandb run
            images = {f"figures/{name}": wandb.Image(str(path)) for name, path in paths.items()}
            run.log({"epoch": epoch, **images})

        self.send(work)

    @rank_zero_only
    def log_results(self, summary: Mapping[str, Any], tables: Tables, epoch: int) -> None:
        """Log the summary and the tables."""
        self.send(lambda run: run.summary.update(dict(summary)))
        self.send(lambda run: _log_tables(run, tables, epoch))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
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
    mode: Literal["online", "offline", "disabled"] | None = None,
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
        mode: None: what ``WANDB_MODE`` says, else online when a key is configured and offline when
            there is none.
        entity: user or team.
        job_type: what the run is for.
        notes: free text.
        init_timeout: seconds to wait for the server before the run goes on offline.
        finish_timeout: seconds to wait at the end for what is still to be sent.
    """
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


def _log_tables(run: Any, tables: Tables, epoch: int) -> None:  # noqa: ANN401 - a wandb run
    """Log tables as W&B does, or as files of the run where the server does not answer.

    Online, W&B makes an artifact of a table: it asks the server first, gives up after 19 s, and the
    artifact would be no part of the record on disk. A table that is bound to the run beforehand is
    a file of it, as it is beside the artifact; that is recorded, and ``wandb sync`` sends it.
    """
    import wandb

    def row() -> dict[str, Any]:
        return {k: wandb.Table(columns=[*head], data=rows) for k, (head, rows) in tables.items()}

    try:
        run.log({"epoch": epoch, **row()})
    except Exception:  # of whatever kind: what cannot be written fails once more, and is told
        files = row()
        for key, table in files.items():
            table.bind_to_run(run, key, run.step)
        run.log({"epoch": epoch, **files})


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
