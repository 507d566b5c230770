"""Dataset manifest: people's own samples, one row of a table each.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmeq.data.manifest import Manifest
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Clip
from mmeq.data.media.dataset import EXAMPLES, Cells, Listing, MediaDataset
from mmeq.data.media.formats import Format
from mmeq.data.media.image import ImageFormat
from mmeq.data.media.video import VideoFormat
from mmeq.data.own import parts
from mmeq.data.own.folder import Folder
from mmeq.data.own.kinds import Source, plan
from mmeq.data.own.npy import read_arrays_of
from mmeq.data.own.numbers import vectors_of
from mmeq.data.own.table import DELIMITERS, read_table
from mmeq.data.split import Split
from mmeq.errors import MmeqError


class OwnData(MediaDataset):
    """A CSV, JSON Lines or Parquet file with a row for each sample.

    Columns: ``label``; ``id`` (else rows are numbered from 1), ``split`` (else one is made) and
    ``group``, where there are such; every other one is a modality: paths of audio, video, image
    or array files (.npy: [F] a vector, [T, F] a sequence), or texts. An empty cell is a missing
    modality. Kinds follow from the endings of the files; columns of numbers are left out unless
    `vectors` takes them. The first note of the manifest shows what was understood.

    Args:
        path: of the table.
        data_root: folder that its paths start from; None: the folder of the table.
        prepared: folder of what `mmeq.prepare` made; None: ``mmeq-prepared`` in the former.
        name: of the dataset in results; None: the table's name without ending.
        modalities: any subset, in any order; None takes all.
        kinds: column → kind, where it shall not follow from the cells; → list of kinds for files
            with several tracks (``{clip: [video, audio]}`` makes clip_video and clip_audio);
            → {modality: kind} to name them too.
        vectors: modality → columns of numbers that it is made of.
        columns: role (id, label, split, group) → name of its column; null: there is none.
        classes: in order, no others allowed; None: those found, sorted.
        allow_outside: let paths leave the root.
        validation: share of the train part that is carved out when the table's split has no
            validation part.
        grouped: a part that is made takes groups as a whole.
        split_seed: another seed, another split.
        fractions: of train, validation and test, when the table has no split.
        train_size: so many training samples, stratified; None keeps all.
        audio: how sound is read; None: `AudioFormat` by its defaults.
        video: the same of videos.
        image: the same of images.

    Raises:
        MmeqError: for what is wrong with the table itself; files are looked at by `load`.
    """

    def __init__(
        self,
        path: str,
        data_root: str | None = None,
        prepared: str | None = None,
        name: str | None = None,
        modalities: Sequence[str] | None = None,
        kinds: Mapping[str, Any] | None = None,
        vectors: Mapping[str, Any] | None = None,
        columns: Mapping[str, str | None] | None = None,
        classes: Sequence[Any] | None = None,
        allow_outside: bool = False,
        validation: float = 0.1,
        grouped: bool = True,
        split_seed: int = 0,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        train_size: int | None = None,
        audio: AudioFormat | None = None,
        video: VideoFormat | None = None,
        image: ImageFormat | None = None,
    ) -> None:
        self.table = read_table(path, [*parts.ROLES, *map(str, (columns or {}).values())])
        self.roles = parts.roles_of(self.table, columns or {})
        self.name = name or self.table.path.stem
        if "/" in self.name or self.name.startswith("."):  # files are called by it
            raise MmeqError(f"dataset.name={self.name!r}: give a word without '/' and leading '.'")
        root = Path(data_root or self.table.path.parent).absolute()
        if not root.is_dir():
            raise MmeqError(f"data_root={root}: there is no such folder")
        self.allow_outside = allow_outside
        self._folder = Folder(root, allow_outside)
        taken = [
            *self.roles.values(),
            *(role for role in parts.ROLES if role in self.table.columns),
        ]
        self.plan = plan(self.table, taken, kinds or {}, vectors or {}, modalities, self._place)
        for role in ("label", "split"):
            for modality, source in self.plan.sources.items():
                if role in self.roles and self.roles[role] in (source.column, *source.numbers):
                    raise MmeqError(f"modality {modality!r} is the column of the {role}s")
        if modalities is not None:
            self.plan.check(self.name, modalities)
        self.all_kinds = {key: source.kind for key, source in self.plan.sources.items()}
        super().__init__(
            str(root), prepared, modalities, _formats(self.all_kinds, audio, video, image)
        )
        self.classes = None if classes is None else [str(one) for one in classes]
        self.validation, self.grouped = validation, grouped
        if not 0 < validation < 1:
            raise MmeqError(f"dataset.validation={validation:g}: give a share between 0 and 1")
        self.split = Split(split_seed, tuple(fractions), train_size)

    def _place(self, cell: str, row: int) -> tuple[Path, str]:
        try:
            return self._folder.find(cell)
        except MmeqError as error:
            raise MmeqError(f"{self.table.place(row)}: {error}") from error

    def listing(self) -> Listing:
        """Check every row, read array files, decode no media."""
        table = self.table
        notes = [self._understood()]
        classes, labels = parts.classes_of(table, self.roles["label"], self.classes)
        groups = parts.whole(table, self.roles["group"], "group") if "group" in self.roles else None
        by = groups if self.grouped else None
        if "split" in self.roles:
            split, protocol = parts.given(
                table, self.roles["split"], self.split, labels, classes, self.validation, by
            )
        else:
            split = parts.made(table, self.split, labels, classes, by)
            protocol = self.split.describe(by is not None)
        cells: dict[str, Cells] = {}
        present: dict[str, np.ndarray] = {}
        for modality, kind in self.kinds.items():
            source = self.plan.sources[modality]
            if source.column is None:
                cells[modality], present[modality] = vectors_of(table, source)
            elif kind == "text":
                texts = table.columns[source.column]
                cells[modality] = texts
                if parts.telling(texts, labels):
                    notes.append(
                        f"dataset {self.name!r}: modality {modality!r} has one text for each "
                        "class: it gives the label away; leave it out by dataset.modalities"
                    )
            elif modality in self.formats:
                cells[modality] = [
                    None if place is None else Clip(*place) for place in self._places(source)
                ]
            else:
                column, present[modality], missing = read_arrays_of(self._places(source), kind)
                cells[modality] = column
                if missing:
                    shown = ", ".join(missing[:EXAMPLES]) + (
                        " …" if len(missing) > EXAMPLES else ""
                    )
                    notes.append(
                        f"modality {modality!r}: {len(missing)} files are missing: {shown}"
                    )
        return Listing(
            protocol=protocol,
            classes=classes,
            ids=parts.names_of(table, self.roles.get("id")),
            labels=labels,
            split=split,
            cells=cells,
            groups=groups,
            grouped="split" not in self.roles and by is not None,
            notes=notes,
            present=present,
        )

    def manifest(self, listing: Listing) -> Manifest:
        """Return the manifest of a listing; a modality that no sample has is an error.

        Raises:
            MmeqError: also for what `MediaDataset.manifest` does not understand.
        """
        for name, here_N in listing.present.items():
            self._refuse_empty(name, bool(here_N.any()), listing.notes)
        manifest = super().manifest(listing)
        for name, here in zip(self.modalities, manifest.present.any(0).tolist(), strict=True):
            self._refuse_empty(name, here, manifest.notes)
        return manifest

    def _refuse_empty(self, name: str, here: bool, notes: Sequence[str]) -> None:
        if not here:
            why = next((one for one in notes if f"modality {name!r}: " in one), "")
            raise MmeqError(
                f"dataset {self.name!r}: no sample has the modality {name!r} ({why}); paths start "
                f"from data_root={self.data_root}"
            )

    def _places(self, source: Source) -> list[tuple[Path, str] | None]:
        cells = self.table.columns[source.column or ""]
        return [None if cell is None else self._place(cell, row) for row, cell in enumerate(cells)]

    def _understood(self) -> str:
        """Say what the table was taken for."""
        shown = ", ".join(f"{name} ({kind})" for name, kind in self.kinds.items())
        said = f"dataset {self.name!r}: {len(self.table)} rows, modalities {shown}"
        if self.table.delimiter is not None and self.table.delimiter != ",":
            said += f"; cells divided by {DELIMITERS[self.table.delimiter]}"
        if left := self.plan.left_out():
            said += f"; left out: {left}"
        sound = {s.column for s in self.plan.sources.values() if s.kind == "audio"}
        for source in self.plan.sources.values():
            if source.kind == "video" and source.column not in sound:
                said += (
                    f"; the sound of {source.column!r} is a modality too by "
                    f"dataset.kinds={{{source.column}: [video, audio]}}"
                )
        return said


def _formats(
    kinds: Mapping[str, str],
    audio: AudioFormat | None,
    video: VideoFormat | None,
    image: ImageFormat | None,
) -> dict[str, Format]:
    """Modality → format, of those that are media files."""
    found: dict[str, Format] = {}
    for name, kind in kinds.items():
        if kind == "audio":
            found[name] = AudioFormat() if audio is None else audio
        elif kind == "video":
            found[name] = VideoFormat() if video is None else video
        elif kind == "image":
            found[name] = ImageFormat() if image is None else image
    return found
