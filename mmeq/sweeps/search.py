"""Searches options by Optuna: trials are jobs of a sweep, and their record survives a restart."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from mmeq.config.schema import MONITORS
from mmeq.config.signatures import fits
from mmeq.errors import MmeqError, did_you_mean
from mmeq.files import read_jsonl
from mmeq.sweeps import driver, state
from mmeq.sweeps.job import locked
from mmeq.sweeps.literal import literal
from mmeq.sweeps.space import space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

TARGET = "hydra_plugins.mmeq_optuna.OptunaSweeper"
RECORD, LOCK = "optuna.log", ".optuna.lock"
OVERRIDES, SPACE = "overrides", "space"
"""What a trial and the study note beside what Optuna does."""


@dataclass(frozen=True)
class Options:
    """``conf/hydra/sweeper/optuna.yaml``, where each is explained."""

    sampler: Literal["tpe", "random"] = "tpe"
    trials: int = 20
    parallel: int = 1
    startup: int = 10
    pruner: Literal["median"] | None = "median"
    warmup: int = 5
    seed: int = 0
    storage: str | None = None
    study: str | None = None
    params: dict[str, Any] | None = None

    @classmethod
    def read(cls, given: dict[str, Any]) -> Options:
        """Check options.

        Raises:
            MmeqError: for one that does not exist, or a value that does not fit.
        """
        import typing

        hints = typing.get_type_hints(cls)
        for key, value in given.items():
            if key not in hints:
                raise MmeqError(
                    f"there is no option hydra.sweeper.{key}" + did_you_mean(key, list(hints))
                )
            small = key in ("trials", "parallel") and isinstance(value, int) and value < 1
            if small or not fits(value, hints[key]):
                raise MmeqError(f"hydra.sweeper.{key}={value!r} does not fit")
        return cls(**given)


def search(sweeper: Any, arguments: Sequence[str]) -> None:  # noqa: ANN401 - the plugin
    """Ask for trials, launch them as jobs and tell what they reached, until enough have ended.

    A trial's number is its job's. What a killed or stopped search has left unfinished is launched
    again first, and goes on from its checkpoints; `trials` counts those of earlier starts too. A
    restart seeds the sampler anew, by the number of trials that there are, since it would otherwise
    repeat itself.

    Args:
        sweeper: the plugin, set up.
        arguments: overrides of the command line.

    Raises:
        MmeqError: when Optuna is missing, an option does not fit, there is nothing to search, or
            the record belongs to another search.
    """
    if _optuna() is None:
        raise MmeqError(
            "hydra/sweeper=optuna (search=optuna, search=random) needs Optuna: "
            "pip install 'mmeq[sweep]'; or take search=grid, which needs nothing"
        )
    options = Options.read(_plain(sweeper.options))
    folder = Path(sweeper.config.hydra.sweep.dir)
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    given = [f"{key}={value}" for key, value in (options.params or {}).items()]
    fixed, searched = space(parser.parse_overrides([*given, *arguments]))
    if not searched:
        raise MmeqError(
            "there is nothing to search: give an option as interval(…), range(…) or choice(…), "
            "such as optim.optimizer.lr='tag(log,interval(1e-4,1e-2))'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK) as free:
        if not free:
            raise MmeqError(f"hydra.sweep.dir={folder}: another process is at this search")
        OmegaConf.save(sweeper.config, folder / "multirun.yaml")
        study = opened(options, folder, direction(sweeper.config.monitor))
        belongs(study, searched, folder)
        while batch := [*interrupted(study)] or [*asked(study, options, fixed, searched)]:
            overrides = [list(trial.user_attrs[OVERRIDES]) for trial in batch]
            sweeper.validate_batch_is_legal(overrides)
            returned = sweeper.launcher.launch(overrides, initial_job_idx=batch[0].number)
            if driver.stopping():
                driver.leave()
                return
            for trial, job in zip(batch, returned, strict=True):
                tell(study, trial, job)


def _optuna() -> Any:  # noqa: ANN401 - a module
    try:
        import optuna
    except ImportError:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in options.items()
    }


def direction(monitor: str) -> str:
    """Return Optuna's word for the direction of a metric."""
    return "minimize" if MONITORS.get(monitor) == "min" else "maximize"


def opened(options: Options, folder: Path, towards: str | None = None) -> Study:
    """Open the record of the search; make it where there is none yet.

    Args:
        options: of the sweeper.
        folder: of the sweep.
        towards: direction of a record to make; None: it is there.
    """
    import optuna
    from optuna.storages import JournalStorage, journal

    storage: Any = options.storage
    if storage is None:
        storage = JournalStorage(journal.JournalFileBackend(str(folder / RECORD)))
    name = options.study or folder.name
    pruner: Any = optuna.pruners.NopPruner()
    if options.pruner is not None:
        pruner = optuna.pruners.MedianPruner(options.startup, options.warmup)
    if towards is None:
        return optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    study = optuna.create_study(
        storage=storage, study_name=name, direction=towards, pruner=pruner, load_if_exists=True
    )
    seed = options.seed + len(study.trials)
    if options.sampler == "random":
        study.sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=options.startup,
                seed=seed,
                multivariate=True,
                constant_liar=options.parallel > 1,
            )
    return study


def belongs(study: Study, searched: dict[str, Any], folder: Path) -> None:
    """Note the space of a new search; refuse to go on with another one.

    Raises:
        MmeqError: names the options that differ.
    """
    from optuna.distributions import distribution_to_json

    here = {key: distribution_to_json(value) for key, value in searched.items()}
    there = study.user_attrs.get(SPACE)
    if there is None:
        study.set_user_attr(SPACE, here)
    elif there != here:
        odd = sorted(k for k in {*here, *there} if here.get(k) != there.get(k))
        raise MmeqError(
            f"hydra.sweep.dir={folder} has the record of another search (it differs in "
            f"{', '.join(odd)}): give another hydra.sweep.dir, or the same space"
        )


def interrupted(study: Study) -> Iterator[FrozenTrial]:
    """Yield trials that were begun and never told of, as far as their numbers follow each other."""
    from optuna.trial import TrialState

    before = None
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if OVERRIDES not in trial.user_attrs:  # killed while it was asked for: it has no job
            study.tell(trial.number, state=TrialState.FAIL)
        elif before in (None, trial.number - 1):
            before = trial.number
            yield trial


def asked(
    study: Study, options: Options, fixed: Sequence[str], searched: dict[str, Any]
) -> Iterator[FrozenTrial]:
    """Yield the next trials: as many as may run at a time, and are still to be made."""
    for _ in range(min(options.parallel, options.trials - len(study.trials))):
        trial = study.ask(searched)
        drawn = [
            f"{key}={value if isinstance(value, str) else literal(value)}"
            for key, value in trial.params.items()
        ]
        trial.set_user_attr(OVERRIDES, [*fixed, *drawn])
        yield study.trials[trial.number]


def tell(study: Study, trial: FrozenTrial, job: JobReturn) -> None:
    """Tell Optuna what a trial has reached."""
    from optuna.trial import TrialState

    value: Any = job.return_value  # raises what the job has raised
    cfg: Any = job.hydra_cfg
    known = state.load(Path(cfg.hydra.runtime.output_dir))
    if known is not None and known.state == "pruned":
        study.tell(trial.number, state=TrialState.PRUNED)
    elif value == value:
        study.tell(trial.number, value)
    else:
        study.tell(trial.number, state=TrialState.FAIL)


class Pruning:
    """Watches a trial's history, and says when its job should be ended.

    Every epoch's metric is reported to Optuna, whose pruner compares it with other trials at the
    same epoch. It looks from outside: training knows nothing of it.

    Args:
        trial: of Optuna.
        job: of the sweep.
        monitor: metric, such as ``val/accuracy``.
        epochs: of a whole training; the last one is never pruned.
    """

    def __init__(self, trial: Trial, job: state.Job, monitor: str, epochs: int) -> None:
        """Report nothing yet."""
        self.trial, self.job, self.monitor, self.epochs = trial, job, monitor, epochs
        self.reason: str | None = None
        known = trial.study.trials[trial.number].intermediate_values
        self._reported, self._size = set(known), -1

    @classmethod
    def of(cls, job: state.Job, cfg: DictConfig) -> Pruning | None:
        """Return what watches a job; None when it is no trial, or its search does not prune."""
        node, sweep = HydraConfig.get().sweeper, driver.current()
        if sweep is None or node.get("_target_") != TARGET or node.get("pruner") is None:
            return None
        if _optuna() is None:
            raise MmeqError("this machine has no Optuna, whose trial this job is")
        from optuna.trial import Trial

        given = {k: v for k, v in node.items() if k != "_target_"}
        study = opened(Options.read(_plain(given)), sweep.folder)
        found = study.trials[job.number]
        return cls(Trial(study, found._trial_id), job, cfg.monitor, int(cfg.trainer.max_epochs))

    @property
    def pruned(self) -> bool:
        """Whether the job was to be ended."""
        return self.reason is not None

    def due(self) -> bool:
        """Report the epochs that have ended; say whether the job should be."""
        history = self.job.folder / "history.jsonl"
        size = history.stat().st_size if history.is_file() else -1
        if self.pruned or size == self._size:
            return self.pruned
        self._size = size
        metric = self.monitor.removeprefix("val/")
        lines: list[dict[str, Any]] = []
        with contextlib.suppress(json.JSONDecodeError, OSError):  # a line is just being written
            lines = read_jsonl(history) if size > 0 else []
        for line in lines:
            epoch, value = int(line["epoch"]), line[metric]["value"]
            if epoch in self._reported or value is None or epoch + 1 >= self.epochs:
                continue
            self._reported.add(epoch)
            self.trial.report(float(value), epoch)
            if self.trial.should_prune():
                self.reason = f"{self.monitor} {value:.4f} after epoch {epoch + 1} of {self.epochs}"
                break
        return self.pruned
