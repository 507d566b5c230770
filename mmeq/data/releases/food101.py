"""Dataset food101: UPMC Food-101, pictures of 101 dishes and the titles of their web pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmeq.data.manifest import TEST, TRAIN
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.media.image import ImageFormat
from mmeq.data.options import one_of
from mmeq.data.releases.known import Carving, compare, examples
from mmeq.data.releases.release import csv_rows, entries
from mmeq.errors import MmeqError

FILES = {TRAIN: "texts/train_titles.csv", TEST: "texts/test_titles.csv"}
KNOWN = {"classes": 101, TRAIN: 67988, TEST: 22716}
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})


class Food101(MediaDataset):
    """``images/{train,test}/<class>/<file>`` and ``texts/{train,test}_titles.csv``.

    The lists have no header (one that says so is passed over): ``file,title,class``; titles hold
    commas and quotes [established from released loaders]. 67,988 / 22,716 samples [second-hand],
    101 classes in alphabetical order, noisy by design: whatever a search engine gave for the dish.

    A title without image lacks the image, an image without title lacks the text: both are kept as
    samples with a missing modality and counted in a note; so is an empty title.

    There is no official validation part: it is carved from train, stratified by class.

    Args:
        data_root: folder with ``images`` and ``texts``, or the one above it (``UPMC_Food101``).
        prepared: see `MediaDataset`.
        modalities: any subset of image, text, in any order; None takes both.
        protocol: official.
        validation: share of the train part.
        split_seed: of the validation part and the draw of `train_size`.
        train_size: so many training samples, stratified; None keeps all.
        image: how pictures are read; None: shorter side 256, crop of 224 pixels.
    """

    name = "food101"
    all_kinds: ClassVar[dict[str, str]] = {"image": "image", "text": "text"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "official",
        validation: float = 0.1,
        split_seed: int = 0,
        train_size: int | None = None,
        image: ImageFormat | None = None,
    ) -> None:
        super().__init__(data_root, prepared, modalities, {"image": image or ImageFormat()})
        one_of("protocol", protocol, ["official"])
        self.carving = Carving(validation, False, split_seed, train_size)

    def listing(self) -> Listing:
        """Read the titles, and which images are in the folders."""
        needed = [*["images"] * ("image" in self.modalities), *FILES.values()]
        root = self.root(*needed, beneath=["UPMC_Food101", "food101", "Food101"])
        ids, labels, parts = list[str](), list[str](), list[str]()
        clips, titles = list[Clip | None](), list[str | None]()
        notes, no_image, no_title = list[str](), list[str](), list[str]()
        for part, file in FILES.items():
            rows = read_titles(root / file)
            images = _images(root / "images" / part)
            for label, name in [*rows, *sorted(images - rows.keys())]:
                place, title = f"images/{part}/{label}/{name}", rows.get((label, name)) or None
                here = (label, name) in images
                no_image += [] if here else [place]
                no_title += [] if title else [place]
                clips.append(Clip(root / place, place) if here else None)
                titles.append(title)
                ids.append(f"{part}/{label}/{name}")
                labels.append(label)
                parts.append(part)
        classes = tuple(sorted(set(labels)))
        counts = {"classes": len(classes)} | {part: parts.count(part) for part in FILES}
        notes += compare(self.name, "samples and classes", counts, KNOWN)
        for modality, rows_, what in (
            ("image", no_image, "titles have no image"),
            ("text", no_title, "images have no title"),
        ):
            if rows_ and modality in self.modalities:
                notes.append(f"dataset 'food101': {len(rows_)} {what}: {examples(rows_)}")
        numbers = {label: number for number, label in enumerate(classes)}
        label_N = np.array([numbers[label] for label in labels], dtype=np.int64)
        split = np.array(parts, dtype="<U10")
        self.carving.apply(split, label_N, classes, None)
        return Listing(
            protocol=self.carving.describe("official"),
            classes=classes,
            ids=ids,
            labels=label_N,
            split=split,
            cells={"image": clips, "text": titles},
            notes=notes,
        )


def read_titles(path: Path) -> dict[tuple[str, str], str]:
    """Read a list: (class, file) → title, in the order of the list.

    Raises:
        MmeqError: names file and line of what cannot be understood or occurs twice.
    """
    out: dict[tuple[str, str], str] = {}
    for number, cells in csv_rows(path, 3):
        file, title, label = (cell.strip() for cell in cells)
        where = f"{path}, line {number}"
        if number == 1 and Path(file).suffix.lower() not in SUFFIXES:
            continue
        for cell, what in ((file, "file name"), (label, "class")):
            if not cell or Path(cell).name != cell:
                raise MmeqError(f"{where}: {cell!r} is no {what}")
        if (label, file) in out:
            raise MmeqError(f"{where}: {label}/{file} is listed twice")
        out[label, file] = title
    if not out:
        raise MmeqError(f"{path} lists no image")
    return out


def _images(folder: Path) -> set[tuple[str, str]]:
    """Return (class, file) of the pictures below a folder."""
    if not folder.is_dir():
        return set()
    return {
        (place.name, one.name)
        for place in entries(folder)
        if place.is_dir()
        for one in entries(place)
        # a Mac writes ._<name> beside a file
        if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")
    }
