"""What makes a table and a row of runs: options of the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmeq.errors import MmeqError, did_you_mean

if TYPE_CHECKING:
    from mmeq.reporting.runs import Run

Options = Mapping[str, Any]
GROUP = ("dataset", "missing")
"""Sections that say what the data are: a table of its own for each setting."""
SEEDS = ("seed", "dataset.split_seed", "dataset.fold")
UNTOLD = (
    *SEEDS,
    "name",
    "resume",
    "data_root",
    "prepared",
    "cache",
    "workers",
    "logger",
    "hydra",
    "method.modality",  # stands in the row's name
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.profile",
    "trainer.detect_anomaly",
)
"""Options in which runs of one row may differ."""
STEERING = "mmeq.callbacks.scheduler."
"""The only callbacks of mmeq that change what is trained; the others watch."""
FOLLOWERS = {
    "optim.scheduler.T_max": "trainer.max_epochs",
    "callbacks.early_stopping.monitor": "monitor",
}
"""Options that by default follow another one, and then say nothing new."""
OWN_HEADS = "own heads"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a configuration by dotted path; a list is one leaf, as text.

    Examples:
        >>> flatten({"seed": 0, "dataset": {"modalities": ["a", "b"]}, "logger": {}})
        {'seed': 0, 'dataset.modalities': '[a, b]', 'logger': '{}'}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value if isinstance(value, int | float | str | None) else text(value)
    return flat


def text(value: Any) -> str:  # noqa: ANN401 - a YAML value
    """Return a value as it is written on a command line.

    Examples:
        >>> text(None), text(True), text([1, "a"]), text(0.001)
        ('null', 'true', '[1, a]', '0.001')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def within(path: str, prefixes: Iterable[str]) -> bool:
    """Say whether an option is one of these, or in one of these sections.

    Examples:
        >>> within("optim.optimizer.lr", ["optim"]), within("optimism", ["optim"])
        (True, False)
    """
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def check_ignored(ignored: Sequence[str], runs: Iterable[Run]) -> None:
    """Refuse to ignore what no run has.

    Raises:
        MmeqError: names it, and the nearest option.
    """
    known = {path for run in runs for path in run.options}
    for prefix in ignored:
        if not any(within(path, [prefix]) for path in known):
            hint = did_you_mean(prefix, known)
            raise MmeqError(f"--ignore {prefix}: no run has this option{hint}")


def group_options(run: Run, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the data of a run are: all of the dataset section but the seed of the split."""
    chosen = {
        path: value
        for path, value in run.options.items()
        if within(path, GROUP) and not within(path, (*SEEDS, *ignored))
    }
    if not within("dataset.modalities", ignored):
        chosen["dataset.modalities"] = text(list(run.modalities))  # null has told nothing
    return chosen


def row_options(run: Run, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options that tell a run from those of other rows."""
    given = run.options
    skipped = [*UNTOLD, *GROUP, *ignored]
    skipped += [path for path, leader in FOLLOWERS.items() if given.get(path) == given.get(leader)]
    skipped += ["fusion"] if run.fusion == OWN_HEADS else []
    for path, value in given.items():
        parts = path.split(".")
        if parts[0] != "callbacks" or len(parts) == 1:
            continue
        target = given.get(f"callbacks.{parts[1]}._target_", "")
        watches = str(target).startswith("mmeq.") and not str(target).startswith(STEERING)
        if watches or (len(parts) == 2 and value is None):
            skipped.append(f"callbacks.{parts[1]}")
    return {p: value for p, value in given.items() if p != "callbacks" and not within(p, skipped)}
