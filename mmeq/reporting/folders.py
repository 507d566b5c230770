"""Where runs are: in the folders and files that were given, each once, none silently left out."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmeq.errors import MmeqError
from mmeq.reporting.kept import read_kept
from mmeq.reporting.runs import CONFIG, HISTORY, RESULTS, Run, progress, read_config, read_run

FOREIGN = {"wandb", "checkpoints", "predictions", "figures", "aside"}
"""Folders that are not looked into, beside hidden ones: W&B keeps a config.yaml of its own, and a
sweep what a run without a checkpoint has left in ``aside``."""

KEPT = ".jsonl"
"""How a file of kept runs ends."""


@dataclass(frozen=True)
class Found:
    """What lies in the given folders and files.

    Attributes:
        runs: finished ones.
        unfinished: folder → how far it has come.
        damaged: folder, or file and line → what is wrong, with the file's name.
        empty: what was given and holds no run.
    """

    runs: list[Run] = field(default_factory=list)
    unfinished: dict[Path, str] = field(default_factory=dict)
    damaged: dict[Path, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)


def read_folders(given: Sequence[str]) -> Found:
    """Read every run in the given folders and files.

    Args:
        given: run folders, folders that hold runs at any depth, files of kept runs (``*.jsonl``,
            see `mmeq.reporting.kept`), or globs.

    Raises:
        MmeqError: when something is not there, or no run is finished.
    """
    files, others = kept_files(given)
    folders, empty = run_folders(others) if others else ([], [])
    found = Found(empty=empty)
    for file in files:
        try:
            runs, damaged = read_kept(file)
            found.runs.extend(runs)
            found.damaged.update(damaged)
        except MmeqError as error:
            found.damaged[file] = str(error)
    for folder in folders:
        try:
            config = read_config(folder)
            if (folder / RESULTS).is_file():
                found.runs.append(read_run(folder, config))
            else:
                found.unfinished[folder] = progress(folder, config)
        except MmeqError as error:
            found.damaged[folder] = str(error)
    if not found.runs:
        broken = "".join(f"\n{text}" for text in found.damaged.values())
        raise MmeqError(
            f"{' '.join(given)}: no run is finished (no {RESULTS} that can be read; "
            f"{len(found.unfinished)} unfinished, {len(found.damaged)} damaged){broken}"
        )
    return found


def kept_files(given: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the files of kept runs, each once, and what else was given.

    Args:
        given: as for `read_folders`; a run's own history is no such file.

    Raises:
        MmeqError: when a file is not there.
    """
    files: dict[Path, Path] = {}
    others = []
    for text in given:
        path = Path(text)
        if path.suffix != KEPT or path.name == HISTORY or path.is_dir():
            others.append(text)
            continue
        places = [path]
        if glob.has_magic(text) and not path.exists():
            places = sorted(Path(path.anchor).glob(text[len(path.anchor) :]))
        if not places or not all(place.is_file() for place in places):
            raise MmeqError(f"{text} is not there: give a file of kept runs")
        for place in places:
            files.setdefault(place.resolve(), place)
    return list(files.values()), others


def run_folders(given: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the run folders, each once, and what was given and holds none.

    Args:
        given: run folders, folders that hold runs at any depth, or globs.

    Raises:
        MmeqError: when something is not there, or there is no run at all.
    """
    folders: dict[Path, Path] = {}
    empty = []
    for text in given:
        places = [Path(text)]
        if glob.has_magic(text) and not places[0].exists():
            anchor = places[0].anchor
            named = set(Path(text).parts)
            places = sorted(Path(anchor).glob(text[len(anchor) :]))
            places = [p for p in places if not any(map(foreign, set(p.parts) - named))]
        elif not places[0].exists():
            raise MmeqError(
                f"{text} is not there: give run folders, folders that hold some, or globs"
            )
        here = [folder for place in places if place.is_dir() for folder in walk(place)]
        for folder in here:
            folders.setdefault(folder.resolve(), folder)
        if not here and not Path(text).is_file():  # as a shell's * may name
            empty.append(text)
    if not folders:
        raise MmeqError(
            f"{' '.join(given)}: there is no run in it (no folder with {CONFIG}); give run "
            "folders, folders that hold some, or globs"
        )
    return list(folders.values()), empty


def walk(top: Path) -> Iterator[Path]:
    """Yield the run folders in a folder, itself included; links are followed, once."""
    seen: set[str] = set()
    for root, below, files in os.walk(top, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        if CONFIG in files or (RESULTS in files and HISTORY in files):
            yield Path(root)
        below[:] = sorted(name for name in below if not foreign(name))


def foreign(name: str) -> bool:
    """Say whether a folder of this name holds no runs."""
    return name.startswith(".") or name in FOREIGN
