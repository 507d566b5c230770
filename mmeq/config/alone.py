"""The runs that were trained on one modality alone, to which a fused run is compared."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mmeq.config import runs
from mmeq.config.signatures import resolve
from mmeq.config.validate import plain_tree
from mmeq.errors import MmeqError

OPTION = "unimodal"


def alone_runs(
    given: str | Sequence[str], trained: DictConfig, names: Sequence[str]
) -> dict[str, Path]:
    """Find for every modality the run that was trained on it alone.

    Args:
        given: run folders; or a folder that holds runs, at any depth; or a glob.
        trained: configuration of the fused run.
        names: its modalities.

    Returns:
        Modality → run folder.

    Raises:
        MmeqError: for a folder without a run, a run that is not complete, not of one modality or
            on other data; for two runs of a modality, and for a modality without one.
    """
    found: dict[str, Path] = {}
    for folder in run_folders(given):
        name = checked(folder, trained, names)
        if name in found:
            raise MmeqError(
                f"{OPTION}: {found[name]} and {folder} were both trained on {name}: give one run a "
                "modality"
            )
        found[name] = folder
    if lost := [name for name in names if name not in found]:
        raise MmeqError(
            f"{OPTION}: no run was trained on {', '.join(lost)} alone (there are runs for "
            f"{', '.join(found)}): train it by method={OPTION} method.modality={lost[0]}"
        )
    return {name: found[name] for name in names}


def run_folders(given: str | Sequence[str]) -> list[Path]:
    """Return the run folders that a list, a folder or a glob names.

    Raises:
        MmeqError: when there is none.
    """
    if not isinstance(given, str):
        folders = [Path(str(one)) for one in given]
    elif glob.has_magic(given):
        anchor = Path(given).anchor
        pattern = given[len(anchor) :]
        folders = sorted(one for one in Path(anchor).glob(pattern) if one.is_dir())
    elif (Path(given) / "config.yaml").is_file():
        folders = [Path(given)]
    else:
        folders = sorted(path.parent for path in Path(given).glob("**/config.yaml"))
    if not folders:
        raise MmeqError(
            f"{OPTION}={given}: there is no run; give run folders, or one that has some"
        )
    return folders


def checked(folder: Path, trained: DictConfig, names: Sequence[str]) -> str:
    """Return the modality that a run was trained on, if it can be compared.

    Args:
        folder: the run folder.
        trained: configuration of the fused run.
        names: its modalities.
    """
    cfg = runs.read_config(folder, option=OPTION)
    here, there = plain_tree(trained), plain_tree(cfg)
    method: Any = resolve(there["method"]["_target_"])
    if not getattr(method, "single", False):
        raise MmeqError(
            f"{OPTION}: {folder} was not trained on one modality alone, but by "
            f"{method.title()}: give runs of method={OPTION}"
        )
    name = str(there["method"]["modality"])
    if name not in names:
        raise MmeqError(
            f"{OPTION}: {folder} was trained on {name!r}, which is no modality of the run "
            f"(those are {', '.join(names)})"
        )
    for part in ("dataset", "missing"):
        if odd := difference(there.get(part), here.get(part), part):
            raise MmeqError(f"{OPTION}: {folder} saw other data than the run: {odd}")
    if there.get("missing") is not None and there["seed"] != here["seed"]:
        raise MmeqError(f"{OPTION}: {folder} has other gaps than the run: seed differs")
    for need in ("results.json", "checkpoints/best.ckpt"):
        if not (folder / need).is_file():
            raise MmeqError(f"{OPTION}: {folder} is not complete (no {need}): train it to its end")
    return name


def difference(there: Any, here: Any, path: str) -> str:  # noqa: ANN401 - YAML values
    """Say in which option two sections differ first; ``modalities`` may.

    Examples:
        >>> difference({"seed": 1}, {"seed": 0}, "dataset")
        'dataset.seed is 1 there and 0 here'
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(set(there) | set(here)):
            if key != "modalities" and (odd := difference(
                there.get(key), here.get(key), f"{path}.{key}"
            )):  # fmt: skip
                return odd
        return ""
    return "" if there == here else f"{path} is {there} there and {here} here"
