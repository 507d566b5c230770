"""Evaluate a run again, on one device: ``python -m mmeq.eval run=<folder>``; see ``--help``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mmeq.config import Run, cli, conf_dir
from mmeq.config.alone import alone_runs
from mmeq.config.reopen import (
    SPLITS,
    check_checkpoint,
    check_choice,
    find_checkpoint,
    modalities_of,
    reopen,
    run_folder,
    trained_config,
)
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    import numpy as np

OPTIONS = ("run", "checkpoint", "split", "inference", "missing", "missing_rate", "missing_seed")
OPTIONS += ("unimodal", "output", "accelerator", "batch_size", "workers", "data_root", "prepared")
OPTIONS += ("model_root",)
TOLERANCE = 1e-6
"""Largest difference that another device, batch size or precision of sums may make."""

cli.prepare()


@dataclass(frozen=True)
class Plan:
    """What shall be evaluated, checked before any data are read.

    Attributes:
        folder: of the run.
        checkpoint: the file.
        trained: the run's configuration, for one device and with what the options change.
        alone: modality → folder of the run that was trained on it alone; empty: none is compared.
        options: of the command line.
    """

    folder: Path
    checkpoint: Path
    trained: DictConfig
    alone: dict[str, Path]
    options: DictConfig

    @property
    def gaps(self) -> str:
        """The missing pattern in words; empty for none."""
        said = [f"without {', '.join(self.options.missing)}"] if self.options.missing else []
        if self.options.missing_rate:
            said.append(
                f"missing_rate={self.options.missing_rate} missing_seed={self.options.missing_seed}"
            )
        return ", ".join(said)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="eval")
@cli.task
def evaluate(cfg: DictConfig) -> None:
    """Rebuild the run from its config.yaml, load the checkpoint, test, compare, write."""
    from mmeq.callbacks.entries import report_entry
    from mmeq.callbacks.tables import test_lines
    from mmeq.callbacks.terminal import emit
    from mmeq.files import plain, write_json

    plan = check(cfg)
    other = cfg.data_root is not None
    run = reopen(plan.folder, plan.checkpoint, plan.trained, other_data=other)
    if plan.gaps:
        from mmeq.data.hide import kept_by

        pattern = (cfg.missing, as_plain(cfg.missing_rate), cfg.missing_seed)
        run.datamodule.hide(kept_by(run.datamodule.manifest, *pattern), cfg.split)
        run.module.spec = run.datamodule.spec
    arrays = answers(run, cfg.split)
    entry = report_entry(run.module.test_report)
    title = f"{cfg.split} of {plan.folder} ({plan.checkpoint.name}"
    title += f", inference {cfg.inference}" if cfg.inference else ""
    title += f", {plan.gaps})" if plan.gaps else ")"
    emit(*test_lines(entry, title=title))
    compared = comparison(plan, entry)
    print(compared)
    found = {
        "run": str(plan.folder),
        "checkpoint": str(plan.checkpoint),
        "split": cfg.split,
        "inference": run.module.inference,
        "missing": list(cfg.missing),
        "missing_rate": as_plain(cfg.missing_rate),
        "missing_seed": cfg.missing_seed,
        "protocol": run.module.spec.protocol,
        "table": entry,
        "comparison": compared,
    }
    if plan.alone:
        found |= balance(plan, run, arrays, entry)
    if cfg.output is not None:
        write_json(cfg.output, plain(found))


def check(cfg: DictConfig) -> Plan:
    """Return what shall be evaluated, or say what is wrong with the options."""
    check_choice("split", cfg.split, SPLITS)
    check_checkpoint(cfg.checkpoint)
    folder = run_folder(cfg, OPTIONS)
    checkpoint = find_checkpoint(folder, cfg.checkpoint)
    if not OmegaConf.is_list(cfg.missing):
        raise MmeqError(f"missing={cfg.missing}: give a list of modalities, as in missing=[zer]")
    if cfg.output is not None and (Path(cfg.output).suffix != ".json" or Path(cfg.output).is_dir()):
        raise MmeqError(f"output={cfg.output}: give the name of a .json file")
    trained = trained_config(folder, cfg)
    names = modalities_of(trained)
    from mmeq.data.hide import check_pattern

    check_pattern(cfg.missing, as_plain(cfg.missing_rate), cfg.missing_seed, names)
    plan = Plan(folder, checkpoint, trained, {}, cfg)
    if cfg.unimodal is None:
        return plan
    if plan.gaps:
        raise MmeqError(
            "unimodal= with missing= or missing_rate=: capacity is told on the data as they are; "
            "leave one of them out"
        )
    alone = alone_runs(as_plain(cfg.unimodal), trained, names)
    return Plan(folder, checkpoint, trained, alone, cfg)


def as_plain(value: Any) -> Any:  # noqa: ANN401 - any option
    """Return an option without OmegaConf's containers."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def answers(run: Run, split: str) -> dict[str, np.ndarray]:
    """Test a part, and return the logits of every sample and coalition."""
    from mmeq.callbacks.predictions import Collect

    collect = Collect()
    run.trainer.callbacks.append(collect)
    loader = run.datamodule.loader(split)
    run.trainer.test(run.module, dataloaders=loader, verbose=False)
    assert collect.arrays is not None
    return collect.arrays


def balance(
    plan: Plan, run: Run, arrays: dict[str, np.ndarray], entry: dict[str, Any]
) -> dict[str, Any]:
    """Compare with the runs of one modality: capacity-adjusted EDM and the suppression probe."""
    from mmeq.callbacks.balance import balance_lines, capacity_entry, suppression_entry
    from mmeq.callbacks.probe import SPLITS, encode_split
    from mmeq.callbacks.terminal import emit
    from mmeq.config import instantiate
    from mmeq.game.capacity import measure_capacity

    def encoded(each: Run, names: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
        module = each.module.eval()
        return {part: encode_split(module, each.datamodule, part, names) for part in SPLITS}

    features = encoded(run, run.module.spec.names)
    single, probes = {}, {}
    for name, folder in plan.alone.items():
        trained = trained_config(folder, plan.options, option="unimodal")
        best = find_checkpoint(folder, "best", option="unimodal")
        moved = plan.options.data_root is not None
        other = reopen(folder, best, trained, other_data=moved)
        if other.module.spec.protocol != run.module.spec.protocol:
            raise MmeqError(
                f"unimodal: {folder} has another protocol than the run: "
                f"{other.module.spec.protocol!r} there, {run.module.spec.protocol!r} here"
            )
        single[name] = answers(other, plan.options.split)
        probes[name] = suppression_entry(
            name, features, encoded(other, (name,)), seed=run.module.seed
        )
    value = run.cfg["value"]
    report = measure_capacity(
        arrays,
        single,
        run.datamodule.class_frequencies,
        value=value if isinstance(value, str) else instantiate(value),
        seed=run.module.seed,
    )
    capacity = capacity_entry(report)
    emit("", *balance_lines(entry, capacity, probes))
    folders = {name: str(folder) for name, folder in plan.alone.items()}
    return {"unimodal": folders, "capacity": capacity, "probe": probes}


def comparison(plan: Plan, entry: dict[str, Any]) -> str:
    """Say whether a table agrees with the run's own results, or why there is nothing to compare."""
    from mmeq.config.runs import read_config

    cfg, path = plan.options, plan.folder / "results.json"
    before = read_config(plan.folder, option="run")
    best = plan.folder / "checkpoints" / "best.ckpt"
    if cfg.split != "test" or not best.is_file() or not plan.checkpoint.samefile(best):
        return "results.json holds the test of best.ckpt: nothing to compare with"
    if cfg.inference not in (None, before.inference):
        return f"results.json was made with inference={before.inference}: nothing to compare with"
    if plan.gaps:
        return f"results.json holds the test of the data as they are, not {plan.gaps}"
    if before.trainer.limit_test_batches is not None:
        return f"the run tested {before.trainer.limit_test_batches} batches only: not compared"
    if not path.is_file():
        return f"{path} does not exist: the run is not complete, nothing to compare with"
    told = json.loads(path.read_text(encoding="utf-8"))["test"]
    return agreement(entry, told)


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
    """Return the distance of two leaves: 0 when equal, infinite when not both numbers.

    Of numbers above 1 (EDM, in percent) it is relative.
    """
    if a == b:
        return 0.0
    both = isinstance(a, int | float) and isinstance(b, int | float)
    return abs(a - b) / max(1.0, abs(b)) if both else float("inf")


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
