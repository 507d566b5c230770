"""Kinetics-400 as its mirrors have it: mp4 clips with CSV lists, or in folders of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.corpora.media import write_text, write_video
from tests.corpora.scenes import facts_of, film, noise, tune

SOUNDS = (
    "playing drums",
    "tap dancing",
    "chopping wood",
    "bowling",
    "playing piano",
    "laughing",
    "playing violin",
    "singing",
)
OTHERS = ("abseiling", "yoga", "zumba")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def youtube_id(*key: int | str) -> str:
    """Eleven letters as YouTube's; some begin with a dash or an underscore."""
    return "".join(_LETTERS[i] for i in noise(*key).integers(0, 64, 11))  # type: ignore[arg-type]


def write_kinetics(
    root: Path,
    layout: str = "csv",
    classes: int = 3,
    others: int = 0,
    train: int = 3,
    val: int = 1,
    test: int = 1,
    silent: int = 1,
    seconds: float = 1.2,
    size: tuple[int, int] = (96, 72),
    fps: float = 10,
    codec: str = "mpeg4",
    underscores: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Write classes × (train + val + test) clips ``<youtube_id>_%06d_%06d.mp4``.

    Args:
        root: data root.
        layout: ``csv``: ``annotations/{train,val,test}.csv`` and flat folders train, val, test;
            ``folders``: ``{train,val,test}/<class>/*.mp4`` and no lists.
        classes: of Kinetics-Sounds, at most 8.
        others: further classes that are not among Kinetics-Sounds, at most 3.
        train: clips of a class.
        val: the same.
        test: the same.
        silent: clips without sound track, the first of the train part.
        seconds: of a clip, give or take a tenth.
        size: width and height.
        fps: frames a second.
        codec: ``mpeg4`` or ``libx264``; sound is aac.
        underscores: the folders spell ``playing_drums``.
        seed: of everything.

    Returns:
        The common facts (ids: file names without suffix), and by id: ``split``, ``paths``.
        ``silent``: ids without sound; ``lists``: part -> Path of the CSV; ``sounds``: ids of the
        Kinetics-Sounds classes.
    """
    names = [*SOUNDS[:classes], *OTHERS[:others]]
    labels: dict[str, str] = {}
    split: dict[str, str] = {}
    paths: dict[str, Path] = {}
    mute: list[str] = []
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for part, count in (("train", train), ("val", val), ("test", test)):
        for turn in range(count):
            for number, label in enumerate(names):
                video = youtube_id(seed, part, turn, number)
                video = "-" + video[1:] if not labels else video
                rng = noise(seed, video)
                start = int(rng.integers(0, 200))
                name = f"{video}_{start:06d}_{start + 10:06d}"
                folder = root / part
                if layout == "folders":
                    folder = folder / (label.replace(" ", "_") if underscores else label)
                length = float(seconds * rng.uniform(0.9, 1.1))
                frames = film(number, len(names), round(length * fps), size, rng)
                sound = tune(number, len(names), length, rng) if len(labels) >= silent else None
                write_video(folder / f"{name}.mp4", frames, fps, codec, sound)
                labels[name], split[name], paths[name] = label, part, folder / f"{name}.mp4"
                if sound is None:
                    mute.append(name)
                row_split = "validate" if part == "val" else part
                rows[part].append(f"{label},{video},{start},{start + 10},{row_split},{turn % 2}")
    lists = {}
    if layout == "csv":
        for part, lines in rows.items():
            lists[part] = root / "annotations" / f"{part}.csv"
            write_text(lists[part], ["label,youtube_id,time_start,time_end,split,is_cc", *lines])
    sounds = [name for name, label in labels.items() if label in SOUNDS]
    return facts_of(root, labels, split=split, paths=paths, silent=mute, lists=lists, sounds=sounds)
