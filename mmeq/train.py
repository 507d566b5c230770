"""Train a model: ``python -m mmeq.train [group=choice …] [option=value …]``; see ``--help``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from mmeq.config import Run, build, cli, conf_dir, hold, ranks, runs, validate, whole
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    from mmeq.config.stop import Stop

cli.prepare()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
@cli.task
def train(cfg: DictConfig) -> float:
    """Train once, or be one job of a sweep; return the monitored metric of the best epoch."""
    if not cli.sweeping():
        return single(cfg)
    from mmeq.sweeps.job import job

    return job(cfg, cli.output_dir())


def single(cfg: DictConfig) -> float:
    """Validate, build, fit, test, finish; return the monitored metric of the best epoch."""
    from mmeq.config.caching import cache_features
    from mmeq.config.same_data import check_resumed
    from mmeq.config.stop import Stop

    run_dir, resume = cli.output_dir(), cfg.resume is not None
    stop = Stop(run_dir)
    if ranks.led():
        ranks.follow_parent(os.getppid(), f": go on by resume={run_dir}")
    with stop.listening(), contextlib.ExitStack() as held:
        try:
            held.enter_context(hold.held(run_dir))
            overrides = cli.given_overrides()
            cfg = runs.resumed(runs.anchored(cfg), overrides)
            validate(cfg, begun=resume)
            cli.refuse_impossible_launch(cfg.trainer)
            if not resume:
                runs.check_free(run_dir)
            run = build(cfg, run_dir)
            if resume:
                check_resumed(run.module, run_dir)
            runs.claim(run_dir, cfg, overrides, resume=resume)
            cache_features(run)
        except BaseException:
            held.close()  # so that an empty folder is one
            raise
        finally:
            runs.remove_if_empty(run_dir)
        stop.attend(run.trainer)
        trained(run, stop, resume=resume)
    score = run.trainer.checkpoint_callback.best_model_score
    return float("nan") if score is None else float(score)


def trained(run: Run, stop: Stop, *, resume: bool) -> None:
    """Fit, test and finish; what goes wrong around the run is said in plain words.

    Raises:
        MmeqError: says what, and how to go on.
        Stopped: when the run was told to end.
    """
    from mmeq.config import faults

    done = False
    try:
        with ranks.watched(run.trainer, f": go on by resume={run.run_dir}"):
            fit(run, resume=resume)
        done = True
    except Exception as error:
        if stop.received or (faults.interrupted(error) and stop.soon()):
            stop.leave()
        if (told := faults.explained(error, run.trainer, run.run_dir)) is None:
            raise
        raise told from error
    finally:
        finish(run, exit_code=0 if done else 1)


def fit(run: Run, *, resume: bool) -> None:
    """Train, then test the epoch that validation chose.

    Raises:
        MmeqError: for what only the running trainer sees to be impossible.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from mmeq.loggers import log_config

    last = run.run_dir / "checkpoints" / runs.LAST
    # rank 0 may be about to put the checkpoint before in its place
    there = last.is_file() or last.with_name(runs.BEFORE).is_file()
    log_config(run.trainer.loggers, run.cfg)
    try:
        run.trainer.fit(
            run.module,
            datamodule=run.datamodule,
            ckpt_path=last if resume and there else None,
            weights_only=True,
        )
    except MisconfigurationException as error:
        raise MmeqError(f"trainer: {error}") from error
    if not run.trainer.checkpoint_callback.best_model_path:
        raise MmeqError(
            "the training ended before its first epoch did, so there is no model to test: give a "
            f"longer trainer.max_time (it is {run.cfg['trainer']['max_time']})"
        )
    whole.check_whole(Path(run.trainer.checkpoint_callback.best_model_path), "test")
    run.trainer.test(
        run.module, datamodule=run.datamodule, ckpt_path="best", verbose=False, weights_only=True
    )


def finish(run: Run, exit_code: int) -> None:
    """Close what the run has opened, the loggers above all."""
    from mmeq.loggers import finish_loggers

    finish_loggers(run.trainer.loggers, exit_code)


def main() -> None:
    """Entry point of ``mmeq-train``."""
    from mmeq.sweeps.driver import driven

    with driven():
        cli.call(train, config_name="train")


if __name__ == "__main__":
    main()
