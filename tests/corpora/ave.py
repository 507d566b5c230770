"""AVE as released: Annotations.txt, three lists of the same form, ten-second mp4 clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.corpora.kinetics import youtube_id
from tests.corpora.media import write_text, write_video
from tests.corpora.scenes import facts_of, film, noise, tune

AVE_CLASSES = ("Church bell", "Male speech, man speaking", "Frying (food)", "Helicopter", "Bus")


def write_ave(
    root: Path,
    classes: int = 3,
    train: int = 3,
    val: int = 1,
    test: int = 1,
    unlisted: int = 0,
    seconds: float = 1.2,
    size: tuple[int, int] = (96, 72),
    fps: float = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Write classes × (train + val + test) clips ``AVE/<id>.mp4``.

    Annotations.txt has the header and every clip; trainSet.txt, valSet.txt and testSet.txt have
    rows of the same form, without a header. A category may hold a comma; the rows' last two
    numbers say from which to which second the event is seen and heard.

    Args:
        root: data root.
        classes: at most 5.
        train: clips of a class.
        val: the same.
        test: the same.
        unlisted: further clips that only Annotations.txt names.
        seconds: of a clip (10 in the release).
        size: width and height.
        fps: frames a second.
        seed: of everything.

    Returns:
        The common facts (of the three lists) and, by id, ``split`` and ``spans`` (start, end).
    """
    names = AVE_CLASSES[:classes]
    labels: dict[str, str] = {}
    split: dict[str, str] = {}
    spans: dict[str, tuple[int, int]] = {}
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": [], "": []}
    counts = {"train": train * classes, "val": val * classes, "test": test * classes, "": unlisted}
    for part, count in counts.items():
        for turn in range(count):
            number = turn % classes
            name = youtube_id(seed, "ave", part, turn)
            rng = noise(seed, name)
            frames = film(number, classes, round(seconds * fps), size, rng)
            sound = tune(number, classes, seconds, rng)
            write_video(root / "AVE" / f"{name}.mp4", frames, fps, "mpeg4", sound)
            span = (int(rng.integers(0, 4)), int(rng.integers(6, 11)))
            lines[part].append(f"{names[number]}&{name}&good&{span[0]}&{span[1]}")
            if part:
                labels[name], split[name], spans[name] = names[number], part, span
    everything = [line for part in lines.values() for line in part]
    write_text(root / "Annotations.txt", ["Category&VideoID&Quality&Start&End", *everything])
    for part in ("train", "val", "test"):
        write_text(root / f"{part}Set.txt", lines[part])
    return facts_of(root, labels, split=split, spans=spans)
