"""What loggers call a run: a name that a person can read, its sweep, and tags to filter by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeq.config.paths import groups
from mmeq.config.validate import Tree
from mmeq.files import read_lines
from mmeq.reporting.runs import seedless, split_of

if TYPE_CHECKING:
    from mmeq.module import MultimodalModule

SWEEP = "multirun.yaml"
"""What Hydra writes into the folder of a sweep."""
LONGEST = {"name": 128, "tag": 64}
"""Characters that W&B takes."""
SILENT = ("trainer.", "logger.", "hydra.", "callbacks.")
"""Sections that say how a run is made or watched, not what it is; the scheduler's alone does."""
TOLD = {"seed", "dataset.split_seed", "dataset.fold", "name", "resume", "data_root", "prepared"}
"""Overrides that the name does not repeat, beside groups: it has them, or they are no setting."""


def labels(tree: Tree, module: MultimodalModule, run_dir: Path) -> dict[str, Any]:
    """Return ``name``, ``group`` and ``tags`` of a run.

    Args:
        tree: the configuration.
        module: what was built.
        run_dir: the run folder.
    """
    from mmeq.callbacks.record import fusion_name

    method, fusion = module.method.title(), fusion_name(module)
    seed, split = tree["seed"], split_of(tree["dataset"])
    parts = [module.spec.name, method, fusion, f"seed {seed}"]
    parts += [] if split in (None, seed) else [f"split {split}"]
    parts += overridden(run_dir)
    tags = {
        "dataset": module.spec.name,
        "backbone": tree["backbone"]["name"],
        "fusion": fusion,
        "method": method,
        "protocol": seedless(module.spec.protocol),
    }
    return {
        "name": cut(" · ".join(parts), LONGEST["name"]),
        "group": sweep(run_dir),
        "tags": [cut(f"{key}={value}", LONGEST["tag"]) for key, value in tags.items()],
    }


def sweep(run_dir: Path) -> str | None:
    """Return the name of the sweep's folder that a run folder lies in; None for a single run."""
    above = run_dir.absolute().parents
    return next((folder.name for folder in above if (folder / SWEEP).is_file()), None)


def overridden(run_dir: Path) -> list[str]:
    """Return the options given on the command line, the last part of their names, their values.

    Those of the run's first start, which its folder has, so that a resumed run keeps its name.
    """
    from hydra.core.hydra_config import HydraConfig

    given = read_lines(run_dir / "overrides.txt")
    if not given and HydraConfig.initialized():
        given = [str(override) for override in HydraConfig.get().overrides.task]
    silent = {*TOLD, *groups()} - {"optim", "backbone"}
    found = {}
    for override in given:
        key, _, value = override.lstrip("+").partition("=")
        steers = key.startswith("callbacks.scheduler.")
        if value and key not in silent and (steers or not key.startswith(SILENT)):
            found[key.rpartition(".")[2]] = value
    return [f"{key}={value}" for key, value in found.items()]


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters.

    Examples:
        >>> cut("protocol=official", 10)
        'protocol=…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"
