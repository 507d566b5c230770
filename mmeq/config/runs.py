"""Run folders: a fresh one belongs to one run; ``resume=<folder>`` takes an old one up again."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from mmeq.config.hold import child_rank
from mmeq.config.validate import plain_tree
from mmeq.config.whole import check_history, damage, trained_epochs
from mmeq.errors import MmeqError

LAST, BEFORE, BEST = "last.ckpt", "before.ckpt", "best.ckpt"
"""The last checkpoint, the one before it and that of the best epoch, in ``checkpoints``."""

MARKS = ("checkpoints", "history.jsonl", "results.json", "metrics.csv")
"""What shows that a folder belongs to a run already."""

HARMLESS = (
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "workers",
    "compile",
    "data_root",
    "prepared",
    "cache",
)
"""What may change when a run goes on, without making it another run."""


def anchored(cfg: DictConfig) -> DictConfig:
    """Return the configuration with absolute paths: a run can be opened from any folder.

    Those of the data, and every option of an encoder that is the path, with a slash, of something
    that is there (so a package or a model of the hub stays what it is).

    Args:
        cfg: as composed.
    """
    cfg = cfg.copy()
    for key in ("data_root", "prepared", "dataset.path"):
        given = OmegaConf.select(cfg, key)
        if isinstance(given, str) and given != "???":
            OmegaConf.update(cfg, key, str(Path(given).expanduser().absolute()))
    for encoder in cfg.backbone.encoders.values():
        for key in map(str, encoder if isinstance(encoder, DictConfig) else ()):
            given = None if OmegaConf.is_interpolation(encoder, key) else encoder.get(key)
            if isinstance(given, str) and "/" in given and Path(given).expanduser().exists():
                encoder[key] = str(Path(given).expanduser().absolute())
    return cfg


def resumed(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the configuration to train: ``cfg`` itself, or the one of the resumed folder.

    Args:
        cfg: as composed from the command line.
        overrides: of the command line; on resume only `HARMLESS` ones may stand beside it.

    Raises:
        MmeqError: when the folder cannot be resumed, or an override would make another run.
    """
    if cfg.resume is None:
        return cfg
    folder = Path(cfg.resume)
    old = read_config(folder, option="resume")
    for override in overrides:
        key, _, _ = override.partition("=")
        if key == "resume":
            continue
        if key not in HARMLESS:
            raise MmeqError(
                f"{override} cannot be given with resume=: a resumed run keeps the configuration "
                f"of its folder (only these may change: {', '.join(HARMLESS)})"
            )
        OmegaConf.update(old, key, OmegaConf.select(cfg, key))
    if not child_rank():  # the first rank has looked, and has taken the folder up since
        _resumable(folder, old)
    return old


def _resumable(folder: Path, cfg: DictConfig) -> None:
    check_history(folder)
    resumable(folder)
    epochs, asked = trained_epochs(folder), int(cfg.trainer.max_epochs)
    trained = read_config(folder, option="resume").trainer
    before, complete = int(trained.max_epochs), (folder / "results.json").is_file()
    if asked < epochs:
        raise MmeqError(
            f"trainer.max_epochs={asked}: {folder} has trained {epochs} epochs already; give more"
        )
    if complete and epochs < asked and trained.get("max_time") is not None:
        if cfg.trainer.max_time == trained.max_time:
            raise MmeqError(
                f"resume={folder}: trainer.max_time={trained.max_time} ended this run after "
                f"{epochs} of {asked} epochs; give a larger one (for both parts), or null"
            )
    elif complete and asked <= before:
        raise MmeqError(
            f"resume={folder}: this run is complete ({epochs} of {before} epochs, results.json is "
            f"written); to train on give a larger trainer.max_epochs, such as {before * 2}"
        )
    schedule = cfg.optim.scheduler or {}
    if asked > before and before in schedule.values():
        warnings.warn(
            f"optim.scheduler was laid out for {before} epochs and goes on by its own formula "
            f"up to epoch {asked}: a cosine rises again",
            stacklevel=2,
        )


def resumable(folder: Path) -> Path | None:
    """Return the checkpoint to go on from: the last, or the one before when the last is damaged.

    None when the run ended before its first epoch did, and so begins anew.

    Args:
        folder: the run folder.

    Raises:
        MmeqError: when there are none any more, or none that is whole, or that of the best epoch is
            damaged: the test would need it.
    """
    last, before = (folder / "checkpoints" / name for name in (LAST, BEFORE))
    there = [path for path in (last, before) if path.is_file()]
    if not there:
        # the line of the first epoch is written before its checkpoint
        if trained_epochs(folder) > 1 or (folder / "results.json").is_file():
            raise MmeqError(
                f"resume={folder}: there is no checkpoint in {folder / 'checkpoints'}, though "
                f"{trained_epochs(folder)} epochs were trained: start another run"
            )
        warnings.warn(f"{folder}: no epoch had ended, so the run begins anew", stacklevel=2)
        return None
    found = [damage(path) for path in there]
    whole = next((path for path, bad in zip(there, found, strict=True) if bad is None), None)
    if whole is None:
        damaged = " and ".join(
            f"{path} ({bad} cannot be read)" for path, bad in zip(there, found, strict=True)
        )
        raise MmeqError(
            f"resume={folder}: no checkpoint is whole: damaged: {damaged}; train again, in another "
            "folder"
        )
    if (best := last.with_name(BEST)).is_file() and (bad := damage(best)) is not None:
        raise MmeqError(
            f"resume={folder}: {best} is damaged ({bad} cannot be read), and it would be tested; "
            "put a copy of it back, or train again, in another folder"
        )
    if whole == before:
        why = f"is damaged ({found[0]} cannot be read)" if last in there else "is not there"
        warnings.warn(
            f"{last} {why}: the run goes on from {BEFORE}, one epoch earlier", stacklevel=2
        )
    return whole


def read_config(folder: Path, option: str) -> DictConfig:
    """Return the ``config.yaml`` of a run folder.

    Args:
        folder: the run folder.
        option: the option that named it, for the message.

    Raises:
        MmeqError: when there is no such folder, or no run in it.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise MmeqError(f"{option}={folder}: there is no run (no {path}); give a run folder")
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise MmeqError(f"{path} is not a configuration of mmeq")
    return cfg


def check_free(run_dir: Path) -> None:
    """Refuse a folder that belongs to another run.

    Raises:
        MmeqError: says what it has.
    """
    found = [mark for mark in MARKS if (run_dir / mark).exists()]
    if found and not child_rank():  # the first rank may have begun to write
        raise MmeqError(
            f"hydra.run.dir={run_dir}: the folder belongs to a run already (it has "
            f"{', '.join(found)}); choose another, or go on with that run by resume={run_dir}"
        )


def claim(run_dir: Path, cfg: DictConfig, overrides: list[str], *, resume: bool) -> None:
    """Take the folder for this run and write ``config.yaml`` and ``overrides.txt``.

    Args:
        run_dir: the run folder.
        cfg: the configuration.
        overrides: of the command line.
        resume: the folder is taken up again; it is no longer complete.
    """
    from mmeq.files import write_text

    if child_rank():
        return
    tree = {**plain_tree(cfg), "resume": None}
    tree.pop("jobs_per_gpu", None)  # how a sweep is run, nothing of the run
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    write_text(run_dir / "config.yaml", text)
    given = run_dir / "overrides.txt"
    before = given.read_text(encoding="utf-8") if resume and given.is_file() else ""
    write_text(given, before + "".join(f"{override}\n" for override in overrides))
    if resume:
        (run_dir / "results.json").unlink(missing_ok=True)
        _put_right(run_dir)


def _put_right(run_dir: Path) -> None:
    """Put the last whole checkpoint in the place of a damaged one; remove what a kill has left."""
    last, before = (run_dir / "checkpoints" / name for name in (LAST, BEFORE))
    if before.is_file() and (not last.is_file() or damage(last) is not None):
        before.replace(last)
    for name in ("", "checkpoints", "figures", "predictions"):
        for left in (run_dir / name).glob(".*.tmp"):
            left.unlink(missing_ok=True)


def remove_if_empty(run_dir: Path) -> None:
    """Remove the folder that Hydra made, and the two above it, when the run never began."""
    if child_rank():  # the first rank may be about to write into it
        return
    for folder in (run_dir, *run_dir.parents[:2]):
        if folder.is_dir() and folder != Path.cwd() and not any(folder.iterdir()):
            with contextlib.suppress(OSError):  # it was there before, and its place is read-only
                folder.rmdir()
