"""Where the clips of Kinetics-400 lie: with CSV lists, or in folders of classes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmeq.data.releases.kinetics_classes import KINETICS_400
from mmeq.data.releases.known import examples
from mmeq.data.releases.release import entries, text_lines
from mmeq.errors import MmeqError, did_you_mean

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
LISTS = {"train": ("train.csv",), "val": ("val.csv", "validate.csv", "validation.csv")}
FOLDERS = {"train": ("train",), "val": ("val", "validate", "validation")}
REPLACED = "replacement/replacement_for_corrupted_k400"
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
_SPAN = re.compile(r"_\d{6}_\d{6}$")


@dataclass(frozen=True)
class Row:
    """One clip.

    Attributes:
        id: unique.
        part: train or val.
        label: one of the 400.
        video: of YouTube.
        path: of the file.
        name: the same relative to the data root.
    """

    id: str
    part: str
    label: str
    video: str
    path: Path
    name: str


def find_lists(root: Path) -> dict[str, Path]:
    """Return the list of each part, or nothing where there are no lists.

    Raises:
        MmeqError: when one of the two is missing.
    """
    for folder in (root, root / "annotations", root / "kinetics400"):
        found = {
            part: path
            for part, names in LISTS.items()
            for path in [folder / name for name in names]
            if path.is_file()
        }
        if len(found) == 1:
            gone = next(part for part in LISTS if part not in found)
            raise MmeqError(f"{folder}: a list is missing: {' or '.join(LISTS[gone])}")
        if found:
            return found
    return {}


def on_disk(root: Path, lists: dict[str, Path], dataset: str) -> tuple[list[Row], list[str]]:
    """Return the listed clips that are on disk, and notes on those that are not.

    Raises:
        MmeqError: names the line of a list that cannot be understood.
    """
    replaced = _index(root / REPLACED)
    rows, notes = [], []
    for part, path in lists.items():
        files: dict[str, Path] = {}
        for name in FOLDERS[part]:
            files |= _index(root / name) | _index(root / "videos" / name)
        listed: dict[str, tuple[str, int]] = {}
        gone, twice = [], []
        for number, label, video, start, end in _read(path):
            stem = f"{video}_{start:06d}_{end:06d}"
            if stem in listed:
                if listed[stem][0] != label:
                    raise MmeqError(
                        f"{path}, line {number}: {stem} is {label!r}, in line {listed[stem][1]} "
                        f"it is {listed[stem][0]!r}"
                    )
                twice.append(stem)
                continue
            listed[stem] = (label, number)
            where = next(
                (d[key] for key in (stem, video) for d in (replaced, files) if key in d), None
            )
            if where is None:
                gone.append(stem)
            else:
                name = where.relative_to(root).as_posix()
                rows.append(Row(f"{part}/{stem}", part, label, video, where, name))
        if gone:
            notes.append(
                f"dataset {dataset!r}: {len(gone):,} of {len(listed):,} clips that {path.name} "
                f"lists are not on disk: {examples(gone)}"
            )
        if twice:
            notes.append(
                f"dataset {dataset!r}: {path.name} lists {len(twice)} clips twice: "
                f"{examples(twice)}"
            )
    return rows, notes


def in_folders(root: Path, dataset: str) -> tuple[list[Row], list[str]]:
    """Return the clips in folders of classes, and notes on folders that are none.

    Raises:
        MmeqError: when there are no such folders.
    """
    classes = {_plain(label): label for label in KINETICS_400}
    rows, odd = [], []
    for part, names in FOLDERS.items():
        places = [root / above / name for above in ("", "videos") for name in names]
        place = next((one for one in places if one.is_dir()), None)
        if place is None:
            raise MmeqError(
                f"data_root={root} is no release of {dataset}: it has neither lists "
                f"({', '.join(LISTS[part])}, also in annotations/) nor a folder {part}"
            )
        for folder in (one for one in entries(place) if one.is_dir()):
            label = classes.get(_plain(folder.name))
            if label is None:
                odd.append(f"{part}/{folder.name}")
                continue
            for path in entries(folder):
                if _is_clip(path):
                    video = _SPAN.sub("", path.stem)
                    name = path.relative_to(root).as_posix()
                    key = f"{part}/{label}/{path.stem}"
                    rows.append(Row(key, part, label, video, path, name))
    notes = []
    if odd:
        notes.append(
            f"dataset {dataset!r}: {len(odd)} folders are left out, since they are no class of "
            f"Kinetics-400: {examples(odd)}"
        )
    return rows, notes


def _plain(name: str) -> str:
    """A class's name without what folders spell in different ways."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "")).strip()


def _is_clip(path: Path) -> bool:
    """A video, and not what a Mac writes beside it (``._name.mp4``)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _index(folder: Path) -> dict[str, Path]:
    """Stem → file, in a folder and its subfolders."""
    if not folder.is_dir():
        return {}
    found = {}
    for path in entries(folder):
        if _is_clip(path):
            found[path.stem] = path
        elif path.suffix.lower() not in SUFFIXES and path.is_dir():
            found |= {one.stem: one for one in entries(path) if _is_clip(one)}
    return found


def _read(path: Path) -> Iterator[tuple[int, str, str, int, int]]:
    """Yield line number, label, video, start and end of each row."""
    reader = csv.DictReader(text_lines(path))
    header = reader.fieldnames or []
    if any(column not in header for column in COLUMNS):
        raise MmeqError(
            f"{path}: the header is {','.join(header)!r}, expected {','.join(COLUMNS)!r}, …"
        )
    for row in reader:
        place = f"{path}, line {reader.line_num}"
        label, video, start, end = ((row[column] or "").strip() for column in COLUMNS)
        if label not in KINETICS_400:
            raise MmeqError(
                f"{place}: {label!r} is no class of Kinetics-400"
                + did_you_mean(label, KINETICS_400)
            )
        if not video:
            raise MmeqError(f"{place}: the youtube_id is missing")
        try:
            yield reader.line_num, label, video, int(float(start)), int(float(end))
        except (ValueError, OverflowError):
            raise MmeqError(
                f"{place}: time_start={start!r}, time_end={end!r}: expected seconds"
            ) from None
