"""VGGSound as released: one CSV without header, mp4 clips named by video and second."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tests.corpora.kinetics import youtube_id
from tests.corpora.media import write_video
from tests.corpora.scenes import facts_of, film, noise, tune

VGG_CLASSES = (
    "dog barking",
    "female speech, woman speaking",
    "playing harp",
    "people eating noodle",
)


def write_vggsound(
    root: Path,
    classes: int = 3,
    train: int = 3,
    test: int = 2,
    silent: int = 1,
    seconds: float = 1.2,
    size: tuple[int, int] = (96, 72),
    fps: float = 10,
    codec: str = "mpeg4",
    folder: str = "video",
    seed: int = 0,
) -> dict[str, Any]:
    """Write classes × (train + test) clips and ``vggsound.csv``.

    Rows are youtube_id,start_second,label,split (no header; labels with a comma are quoted).

    Args:
        root: data root.
        classes: at most 4; the second has a comma in it.
        train: clips of a class.
        test: the same.
        silent: clips without sound track, the first of the train part.
        seconds: of a clip (10 in the release).
        size: width and height.
        fps: frames a second.
        codec: ``mpeg4`` or ``libx264``; sound is aac.
        folder: of the clips, relative to the root (``.``: beside the CSV).
        seed: of everything.

    Returns:
        The common facts (ids: file names without suffix), ``split`` and ``paths`` by id, and
        ``silent``: ids without sound.
    """
    labels: dict[str, str] = {}
    split: dict[str, str] = {}
    paths: dict[str, Path] = {}
    mute, rows = [], []
    for part, count in (("train", train), ("test", test)):
        for turn in range(count):
            for number, label in enumerate(VGG_CLASSES[:classes]):
                video = youtube_id(seed, "vgg", part, turn, number)
                rng = noise(seed, video)
                start = int(rng.integers(0, 300))
                name = f"{video}_{start:06d}"
                frames = film(number, classes, round(seconds * fps), size, rng)
                sound = tune(number, classes, seconds, rng) if len(labels) >= silent else None
                paths[name] = root / folder / f"{name}.mp4"
                write_video(paths[name], frames, fps, codec, sound)
                labels[name], split[name] = label, part
                rows.append((video, start, label, part))
                if sound is None:
                    mute.append(name)
    with (root / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return facts_of(root, labels, split=split, paths=paths, silent=mute)
