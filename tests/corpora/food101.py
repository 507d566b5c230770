"""UPMC Food-101 as released: titles in two CSV files without header, images by part and class."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tests.corpora.media import write_image
from tests.corpora.scenes import facts_of, noise, picture, sentence

FOOD_CLASSES = ("apple_pie", "baby_back_ribs", "baklava", "beef_carpaccio", "creme_brulee")
_ENDINGS = ("| Recipes, Dinners", '"the best"', "– Crème & more", "")


def write_food101(
    root: Path,
    classes: int = 3,
    train: int = 4,
    test: int = 2,
    size: tuple[int, int] = (64, 48),
    seed: int = 0,
) -> dict[str, Any]:
    """Write classes × (train + test) pairs.

    ``texts/{train,test}_titles.csv`` have rows image_name,title,class (UTF-8, no header; titles
    with commas and quotes), the images stand in ``images/{train,test}/<class>/<class>_<n>.jpg``.

    Returns:
        The common facts (ids: image names without suffix), and by id ``split``, ``texts``,
        ``paths``.
    """
    names = FOOD_CLASSES[:classes]
    labels: dict[str, str] = {}
    split: dict[str, str] = {}
    texts: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for part, count in (("train", train), ("test", test)):
        rows = []
        for turn in range(count):
            for number, label in enumerate(names):
                name = f"{label}_{turn + (train if part == 'test' else 0)}"
                rng = noise(seed, name)
                title = f"{sentence(number, rng)} {_ENDINGS[turn % len(_ENDINGS)]}".strip()
                paths[name] = root / "images" / part / label / f"{name}.jpg"
                write_image(paths[name], picture(number, classes, size, rng))
                labels[name], split[name], texts[name] = label, part, title
                rows.append((f"{name}.jpg", title, label))
        path = root / "texts" / f"{part}_titles.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return facts_of(root, labels, split=split, texts=texts, paths=paths)
