"""Dataset ucf101: UCF-101, 13,320 clips of 101 actions, as pictures and as optical flow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from mmeq.data.manifest import TEST, TRAIN
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.media.flow import FlowClip, FlowFormat
from mmeq.data.media.formats import Format
from mmeq.data.media.video import VideoFormat
from mmeq.data.options import one_of
from mmeq.data.releases.known import Carving, compare, examples
from mmeq.data.releases.release import entries, text_lines
from mmeq.errors import MmeqError, did_you_mean

LISTS, CLASS_FILE = "ucfTrainTestlist", "classInd.txt"
VIDEOS, FLOW = "UCF-101", "tvl1_flow"
KNOWN = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}
_NAME = re.compile(r"v_([A-Za-z]+)_g(\d{2})_c(\d{2})")


class Ucf101(MediaDataset):
    """``UCF-101/<Class>/v_<Class>_gNN_cNN.avi`` and ``tvl1_flow/{u,v}/<clip>/frame%06d.jpg``.

    The lists are those of the release: ``ucfTrainTestlist/classInd.txt``, ``trainlist01.txt`` (path
    and class number) and ``testlist01.txt`` (path), 01 to 03; 9,537 / 3,783, 9,586 / 3,734 and
    9,624 / 3,696 clips [second-hand]. The flow is the one that Feichtenhofer and others give away,
    grey pictures of u and v. Films of class HandstandPushups are named ``v_HandStandPushups_…``,
    the flow after the other spelling [established]: upper and lower case are not told apart.

    Clips of a class with the same group number (g01 to g25) are cut from one film. The official
    lists keep groups whole, and so does the validation part, which is carved from train by groups.
    Groups are ``<Class>_gNN``.

    A clip without folders of flow lacks that modality.

    Args:
        data_root: folder with ``UCF-101``, ``ucfTrainTestlist`` and, for flow, ``tvl1_flow``.
        prepared: see `MediaDataset`.
        modalities: any subset of rgb, flow, in any order; None takes both.
        protocol: official.
        fold: which of the three lists, 1 to 3.
        validation: share of the train part, in whole groups.
        split_seed: of the validation part and the draw of `train_size`.
        train_size: so many training samples, stratified; None keeps all.
        rgb: how frames are read; None: 3 of 10 frames, one a second, at 224 pixels.
        flow: how flow is read; None: 3 of 10 instants at 224 pixels.
    """

    name = "ucf101"
    all_kinds: ClassVar[dict[str, str]] = {"rgb": "video", "flow": "video"}

    def __init__(
        self,
        data_root: str | None = None,
        prepared: str | None = None,
        modalities: Sequence[str] | None = None,
        protocol: str = "official",
        fold: int = 1,
        validation: float = 0.1,
        split_seed: int = 0,
        train_size: int | None = None,
        rgb: VideoFormat | None = None,
        flow: FlowFormat | None = None,
    ) -> None:
        formats: dict[str, Format] = {"rgb": rgb or VideoFormat(), "flow": flow or FlowFormat()}
        super().__init__(data_root, prepared, modalities, formats)
        one_of("protocol", protocol, ["official"])
        one_of("fold", fold, tuple(KNOWN))
        self.fold = fold
        self.carving = Carving(validation, True, split_seed, train_size)

    def listing(self) -> Listing:
        """Read the lists of the fold."""
        marks = (
            [LISTS] + [VIDEOS] * ("rgb" in self.modalities) + [FLOW] * ("flow" in self.modalities)
        )
        root = self.root(*marks)
        classes = read_classes(root / LISTS / CLASS_FILE)
        films, labels, parts = list[PurePosixPath](), list[int](), list[str]()
        seen: dict[str, str] = {}
        for part, word in ((TRAIN, "train"), (TEST, "test")):
            path = root / LISTS / f"{word}list{self.fold:02d}.txt"
            for number, film, label in read_list(path, classes):
                where = f"{path.name}, line {number}"
                if film.stem in seen:
                    raise MmeqError(f"{path}, line {number}: {film} stands in {seen[film.stem]}")
                seen[film.stem] = where
                films.append(film)
                labels.append(label)
                parts.append(part)
        counts = {part: parts.count(part) for part in (TRAIN, TEST)}
        known = dict(zip((TRAIN, TEST), KNOWN[self.fold], strict=True))
        notes = compare(self.name, "clips", counts, known)
        notes += compare(self.name, "classes", {"all": len(classes)}, {"all": 101})
        # …_gNN_cNN, as read_list has made sure
        groups = [f"{classes[n]}_{f.stem[-7:-4]}" for n, f in zip(labels, films, strict=True)]
        label_N, split = np.array(labels, dtype=np.int64), np.array(parts, dtype="<U10")
        self.carving.apply(split, label_N, classes, groups)
        cells: dict[str, list[Clip | None]] = {}
        if "rgb" in self.modalities:
            cells["rgb"] = [Clip(root / VIDEOS / film, f"{VIDEOS}/{film}") for film in films]
        if "flow" in self.modalities:
            cells["flow"], lost = _flow(root, films)
            if lost:
                notes.append(
                    f"modality 'flow': {len(lost)} clips have no folder below {FLOW}/u: "
                    f"{examples(lost)}"
                )
        return Listing(
            protocol=self.carving.describe(f"official fold {self.fold}"),
            classes=classes,
            ids=[film.stem for film in films],
            labels=label_N,
            split=split,
            cells=dict(cells),
            groups=groups,
            grouped=True,
            notes=notes,
        )


def read_classes(path: Path) -> tuple[str, ...]:
    """Read ``<number> <Class>`` lines; numbers go from 1.

    Raises:
        MmeqError: names file and line.
    """
    out = list[str]()
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        cells = line.split()
        if len(cells) != 2 or cells[0] != str(len(out) + 1):
            raise MmeqError(f"{path}, line {number}: {line!r}, expected '{len(out) + 1} <Class>'")
        out.append(cells[1])
    if not out:
        raise MmeqError(f"{path} lists no class")
    return tuple(out)


def read_list(path: Path, classes: Sequence[str]) -> list[tuple[int, PurePosixPath, int]]:
    """Read a list of films: line number, path below ``UCF-101``, label from 0.

    Raises:
        MmeqError: names file and line of an unknown class, a class number that is not the
            folder's, and a name that is not v_<Class>_gNN_cNN.avi.
    """
    out = []
    for number, line in enumerate(text_lines(path), 1):
        cells = line.split()
        if not cells:
            continue
        where, film = f"{path}, line {number}", PurePosixPath(cells[0])
        name = _NAME.fullmatch(film.stem)
        folder = film.parent.name
        if len(cells) > 2 or len(film.parts) != 2 or name is None or ".." in film.parts:
            raise MmeqError(f"{where}: {line!r}, expected <Class>/v_<Class>_gNN_cNN.avi")
        if folder not in classes:
            raise MmeqError(f"{where}: unknown class {folder!r}" + did_you_mean(folder, classes))
        label = classes.index(folder)
        if len(cells) == 2 and cells[1] != str(label + 1):
            raise MmeqError(f"{where}: {folder} has the number {label + 1}, not {cells[1]}")
        if name[1].lower() != folder.lower():
            raise MmeqError(f"{where}: a film of {name[1]} in the folder of {folder}")
        out.append((number, film, label))
    return out


def _flow(root: Path, films: Sequence[PurePosixPath]) -> tuple[list[Clip | None], list[str]]:
    """Return the folders of u, and the names of films that have none."""
    place = root / FLOW / "u"
    if not place.is_dir():
        raise MmeqError(
            f"data_root={root}: {FLOW} has no folder u; dataset.modalities=[rgb] does without"
        )
    folders = {one.name.lower(): one.name for one in entries(place)}
    clips, lost = list[Clip | None](), list[str]()
    for film in films:
        name = folders.get(film.stem.lower())
        lost += [film.stem] if name is None else []
        clips.append(None if name is None else FlowClip(place / name, f"{FLOW}/u/{name}"))
    return clips, lost
