"""Train a model: ``python -m mmeq.train [group=choice …] [option=value …]``; see ``--help``."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from mmeq.config import Run, build, cli, conf_dir, runs, validate
from mmeq.errors import MmeqError

cli.prepare()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
@cli.task
def train(cfg: DictConfig) -> float:
    """Train once, or be one job of a sweep; return the monitored metric of the best epoch."""
    if not cli.sweeping():
        return single(cfg)
    from mmeq.config import sweep

    load()
    return sweep.job(cfg, cli.output_dir(), cli.reported(single))


def load() -> None:
    """Import what every run needs, so that the jobs of a sweep need not, each by itself."""
    import mmeq.callbacks.figures
    import mmeq.callbacks.record
    import mmeq.config.combinations
    import mmeq.module  # noqa: F401


def single(cfg: DictConfig) -> float:
    """Validate, build, fit, test, finish; return the monitored metric of the best epoch."""
    from mmeq.config.caching import cache_features

    run_dir, resume = cli.output_dir(), cfg.resume is not None
    try:
        # a sweep takes up only what has the job's configuration
        overrides = [] if resume and cli.sweeping() else cli.given_overrides()
        cfg = runs.resumed(runs.anchored(cfg), overrides)
        validate(cfg)
        cli.refuse_impossible_launch(cfg.trainer)
        if not resume:
            runs.check_free(run_dir)
        run = build(cfg, run_dir)
        runs.claim(run_dir, cfg, overrides, resume=resume)
        cache_features(run)
    finally:
        runs.remove_if_empty(run_dir)
    done = False
    try:
        fit(run, resume=resume)
        done = True
    finally:
        finish(run, exit_code=0 if done else 1)
    score = run.trainer.checkpoint_callback.best_model_score
    return float("nan") if score is None else float(score)


def fit(run: Run, *, resume: bool) -> None:
    """Train, then test the epoch that validation chose.

    Raises:
        MmeqError: for what only the running trainer sees to be impossible.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from mmeq.loggers import log_config

    last = run.run_dir / "checkpoints" / "last.ckpt"
    log_config(run.trainer.loggers, run.cfg)
    try:
        run.trainer.fit(
            run.module,
            datamodule=run.datamodule,
            ckpt_path=last if resume else None,
            weights_only=True,
        )
    except MisconfigurationException as error:
        raise MmeqError(f"trainer: {error}") from error
    if not run.trainer.checkpoint_callback.best_model_path:
        raise MmeqError(
            "the training ended before its first epoch did, so there is no model to test: give a "
            f"longer trainer.max_time (it is {run.cfg['trainer']['max_time']})"
        )
    run.trainer.test(
        run.module, datamodule=run.datamodule, ckpt_path="best", verbose=False, weights_only=True
    )


def finish(run: Run, exit_code: int) -> None:
    """Close what the run has opened, the loggers above all."""
    from mmeq.loggers import finish_loggers

    finish_loggers(run.trainer.loggers, exit_code)


def main() -> None:
    """Entry point of ``mmeq-train``."""
    cli.call(train, config_name="train")


if __name__ == "__main__":
    main()
