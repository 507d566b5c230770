"""Evaluate a run again, on one device: ``python -m mmeq.eval run=<folder>``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mmeq.config import build, cli, conf_dir, runs, validate
from mmeq.errors import MmeqError, did_you_mean

CHECKPOINTS = ("best", "last")
SPLITS = ("test", "validation", "train")
TOLERANCE = 1e-6
"""Largest difference that another device, batch size or precision of sums may make."""

cli.prepare()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="eval")
@cli.task
def evaluate(cfg: DictConfig) -> None:
    """Rebuild the run from its config.yaml, load the checkpoint, test, compare."""
    folder, checkpoint = check(cfg)
    trained = runs.read_config(folder, option="run")
    trained.trainer.accelerator, trained.workers = cfg.accelerator, cfg.workers
    trained.trainer.devices = trained.trainer.num_nodes = 1
    if cfg.batch_size is not None:
        trained.batch_size = cfg.batch_size
    validate(trained)
    run = build(trained, folder, evaluation=True)
    run.trainer.test(
        run.module,
        dataloaders=run.datamodule.loader(cfg.split),
        ckpt_path=checkpoint,
        verbose=False,
        weights_only=True,
    )
    report(run.module.test_report, folder, cfg)


def check(cfg: DictConfig) -> tuple[Path, Path]:
    """Return the run folder and the checkpoint, or say what is wrong with the options."""
    if OmegaConf.is_missing(cfg, "run"):
        raise MmeqError("run is missing: give run=<run folder>")
    for option, value, known in (
        ("checkpoint", cfg.checkpoint, CHECKPOINTS),
        ("split", cfg.split, SPLITS),
    ):
        if value not in known:
            raise MmeqError(f"{option}={value!r} does not exist{did_you_mean(value, known)}")
    if set(cfg) - {"run", "checkpoint", "split", "accelerator", "batch_size", "workers"}:
        raise MmeqError("an evaluation takes its configuration from the run folder; see --help")
    folder = Path(cfg.run)
    runs.read_config(folder, option="run")
    path = folder / "checkpoints" / f"{cfg.checkpoint}.ckpt"
    if not path.is_file():
        raise MmeqError(f"checkpoint={cfg.checkpoint}: there is no {path}")
    return folder, path


def report(game: Any, folder: Path, cfg: DictConfig) -> None:  # noqa: ANN401 - a GameReport
    """Print the table, and say whether it agrees with the run's own results."""
    import json

    from mmeq.callbacks.entries import report_entry
    from mmeq.callbacks.tables import test_lines
    from mmeq.callbacks.terminal import emit

    entry = report_entry(game)
    emit(*test_lines(entry, title=f"{cfg.split} of {folder} ({cfg.checkpoint}.ckpt)"))
    path = folder / "results.json"
    if (cfg.split, cfg.checkpoint) != ("test", "best"):
        print("results.json holds the test of best.ckpt: nothing to compare with")
    elif not path.is_file():
        print(f"{path} does not exist: the run is not complete, nothing to compare with")
    else:
        told = json.loads(path.read_text(encoding="utf-8"))["test"]
        print(agreement(entry, told))


def agreement(entry: Any, told: Any) -> str:  # noqa: ANN401 - trees of numbers
    """Compare two entries number by number and say what is found."""
    here, there = flat(entry), flat(told)
    if here.keys() != there.keys():
        odd = sorted(here.keys() ^ there.keys())[:5]
        return f"DIFFERS from results.json: not the same entries ({', '.join(odd)})"
    gaps = {key: gap(here[key], there[key]) for key in here}
    worst = max(gaps, key=lambda key: gaps[key])
    if gaps[worst] == 0:
        return "agrees with results.json exactly"
    if gaps[worst] <= TOLERANCE:
        return f"agrees with results.json to {gaps[worst]:.1e}"
    return (
        f"DIFFERS from results.json: most in {worst}, {here[worst]} here, {there[worst]} there "
        "(another device or precision can turn a close decision)"
    )


def gap(a: Any, b: Any) -> float:  # noqa: ANN401 - leaves of the trees
    """Return the distance of two leaves: 0 when equal, infinite when not both numbers."""
    if a == b:
        return 0.0
    both = isinstance(a, int | float) and isinstance(b, int | float)
    return abs(a - b) if both else float("inf")


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401 - a tree of numbers
    """Return the leaves of a tree by path.

    Examples:
        >>> flat({"a": {"b": 1}, "c": [2]})
        {'a.b': 1, 'c.0': 2}
    """
    if isinstance(tree, dict):
        pairs = list(tree.items())
    elif isinstance(tree, list):
        pairs = [(str(index), item) for index, item in enumerate(tree)]
    else:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, item in pairs:
        found |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def main() -> None:
    """Entry point of ``mmeq-eval``."""
    cli.call(evaluate, config_name="eval")


if __name__ == "__main__":
    main()
