"""UCF-101 as released: avi without sound, three train/test lists, and TV-L1 flow as JPEG pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.corpora.media import write_image, write_text, write_video
from tests.corpora.scenes import facts_of, film, noise

# The third folder and its files are spelt differently, as in the release.
UCF_CLASSES = ("ApplyEyeMakeup", "Archery", "HandstandPushups", "PlayingDaf", "YoYo")
_FILES = {"HandstandPushups": "HandStandPushups"}
_GROUPS = (
    1,
    14,
    21,
    22,
    7,
    8,
    15,
    23,
    2,
    9,
    16,
    24,
    3,
    10,
    17,
    25,
    4,
    11,
    18,
    5,
    12,
    19,
    6,
    13,
    20,
)


def write_ucf101(
    root: Path,
    classes: int = 3,
    groups: int = 3,
    clips: int = 2,
    frames: int = 12,
    size: tuple[int, int] = (80, 60),
    fps: float = 25,
    flow: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Write classes × groups × clips films ``UCF-101/<Class>/v_<Class>_g01_c01.avi``.

    Lists 01, 02 and 03 test on groups 1–7, 8–14 and 15–21, as the release's do. The flow lies in
    ``tvl1_flow/{u,v}/v_<Class>_g01_c01/frame000001.jpg``, one picture fewer than the film has,
    grey, 128 for no motion; its folders are named after the class as the folder of films spells
    it (v_HandstandPushups_g01_c01), the films after the other spelling (v_HandStandPushups_…).

    Args:
        root: data root.
        classes: at most 5; the third is HandstandPushups.
        groups: 1 to 25; the first three fall into the test part of lists 01, 02 and 03.
        clips: of a group.
        frames: of a film.
        size: width and height.
        fps: frames a second.
        flow: write ``tvl1_flow``.
        seed: of everything.

    Returns:
        The common facts (ids: file names without suffix) and, by id: ``groups`` (class and number),
        ``flow`` (name of the flow's folders), ``split1``, ``split2``, ``split3`` (train or test).
    """
    names = UCF_CLASSES[:classes]
    labels: dict[str, str] = {}
    group_of: dict[str, tuple[str, int]] = {}
    flow_of: dict[str, str] = {}
    splits: tuple[dict[str, str], ...] = ({}, {}, {})
    for number, label in enumerate(names):
        for group in sorted(_GROUPS[:groups]):
            for clip in range(1, clips + 1):
                tail = f"g{group:02d}_c{clip:02d}"
                name = f"v_{_FILES.get(label, label)}_{tail}"
                rng = noise(seed, name)
                shown = film(number, classes, frames, size, rng)
                write_video(
                    root / "UCF-101" / label / f"{name}.avi", shown, fps, "mpeg4", tag="XVID"
                )
                labels[name], group_of[name] = label, (label, group)
                flow_of[name] = f"v_{label}_{tail}"
                if flow:
                    _flow(root / "tvl1_flow", flow_of[name], number, classes, frames, size, rng)
                for fold, split in enumerate(splits):
                    split[name] = "test" if (group - 1) // 7 == fold else "train"
    folder = root / "ucfTrainTestlist"
    write_text(
        folder / "classInd.txt", [f"{i} {label}" for i, label in enumerate(names, 1)], end="\r\n"
    )
    for fold, split in enumerate(splits, 1):
        rows: dict[str, list[str]] = {"train": [], "test": []}
        for name, part in split.items():
            mark = f" {names.index(labels[name]) + 1}" if part == "train" else ""
            rows[part].append(f"{labels[name]}/{name}.avi{mark}")
        for part, lines in rows.items():
            write_text(folder / f"{part}list{fold:02d}.txt", lines)
    parts = {f"split{fold}": split for fold, split in enumerate(splits, 1)}
    return facts_of(root, labels, groups=group_of, flow=flow_of, **parts)


def _flow(
    folder: Path,
    name: str,
    number: int,
    classes: int,
    frames: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """A square moves as the class does: its motion in u (to the right) and v (down)."""
    width, height = size
    angle = 2 * np.pi * number / classes + rng.normal(0, 0.2)
    left, top = int(rng.integers(width // 2)), int(rng.integers(height // 2))
    for axis, motion in (("u", np.cos(angle)), ("v", np.sin(angle))):
        for time in range(1, frames):
            field = 128 + rng.normal(0, 4, (height, width))
            field[top : top + height // 2, left : left + width // 2] += 70 * motion
            picture = np.clip(field, 0, 255).astype(np.uint8)
            write_image(folder / axis / name / f"frame{time:06d}.jpg", picture)
