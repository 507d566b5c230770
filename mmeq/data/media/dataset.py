"""What every dataset of media on disk shares: a listing of the release, and the manifest of it.

Shape suffixes: N samples, M modalities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mmeq.data.columns import Column, TextColumn
from mmeq.data.manifest import UNUSED, Manifest
from mmeq.data.media.clip import Clip, used
from mmeq.data.media.column import MediaColumn
from mmeq.data.media.formats import Format
from mmeq.data.media.presence import Found, look
from mmeq.data.media.store import Store
from mmeq.data.options import choose
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.errors import MmeqError

EXAMPLES = 3
"""Names that a note gives of what it counts."""

Cells = Sequence[Clip | None] | Sequence[str | None] | Column
"""One modality of a listing: clips, texts (None: absent), or a column that is in memory already."""


@dataclass
class Listing:
    """What an official release says: read from its label files, no media decoded.

    Attributes:
        protocol: of the split, with its seed where one was drawn; printed with every result.
        classes: names in the order of the labels.
        ids: N names, unique.
        labels: int [N].
        split: N of train, validation, test, unused.
        cells: modality → its samples, in the order of every M axis.
        groups: N names of what belongs together (a speaker, a video), or None.
        grouped: the protocol promises that no group has samples in two parts.
        notes: what the user shall know: files that are missing, counts that are not the known ones.
        present: modality → bool [N] for columns in memory; missing: all are there.
    """

    protocol: str
    classes: tuple[str, ...]
    ids: list[str]
    labels: np.ndarray
    split: np.ndarray
    cells: dict[str, Cells]
    groups: list[str] | None = None
    grouped: bool = False
    notes: list[str] = field(default_factory=list)
    present: dict[str, np.ndarray] = field(default_factory=dict)


class MediaDataset(ABC):
    """Base of the datasets that lie on disk as media files.

    A subclass sets `name` and `all_kinds`, and reads its layout in `listing`; decoding, shards and
    missing files are dealt with here.

    Args:
        data_root: folder of the release.
        prepared: folder of what `mmeq.prepare` made; None: ``<data_root>/mmeq-prepared``.
        modalities: any subset, in any order; None takes all.
        formats: modality → format, for those that are media files.

    Attributes:
        name: of the dataset.
        all_kinds: modality → kind, of all that the release has.
        modalities: those chosen.
        kinds: modality → kind, of those chosen.
    """

    name: str
    all_kinds: Mapping[str, str]

    def __init__(
        self,
        data_root: str | None,
        prepared: str | None,
        modalities: Sequence[str] | None,
        formats: Mapping[str, Format],
    ) -> None:
        self.data_root = None if data_root is None else Path(data_root).expanduser().absolute()
        self._prepared = None if prepared is None else Path(prepared).expanduser().absolute()
        self.modalities = choose(self.name, modalities, tuple(self.all_kinds))
        self.kinds = {name: self.all_kinds[name] for name in self.modalities}
        self.formats = {name: formats[name] for name in self.modalities if name in formats}

    @abstractmethod
    def listing(self) -> Listing:
        """Read the release's label files.

        Raises:
            MmeqError: for a folder that is no such release, and for label files that cannot be
                understood; names file and line.
        """

    @property
    def prepared(self) -> Path:
        """Folder of prepared formats."""
        return self._prepared or self.root() / "mmeq-prepared"

    def root(self, *marks: str, beneath: Sequence[str] = ()) -> Path:
        """Return the folder of the release: `data_root`, or one of its subfolders.

        Args:
            marks: files or folders that a release has (all of them).
            beneath: names of subfolders that people leave the release in.

        Raises:
            MmeqError: says what is missing where.
        """
        if self.data_root is None:
            raise MmeqError(
                f"data_root is missing: give data_root=<folder of {self.name}>"
                + (f", which has {', '.join(marks)}" if marks else "")
            )
        if not self.data_root.is_dir():
            raise MmeqError(f"data_root={self.data_root}: there is no such folder")
        places = [self.data_root, *(self.data_root / name for name in beneath)]
        for place in places:
            if all((place / mark).exists() for mark in marks):
                return place
        lost = [mark for mark in marks if not (self.data_root / mark).exists()]
        raise MmeqError(
            f"data_root={self.data_root} is no release of {self.name}: it has no {', '.join(lost)}"
        )

    def load(self) -> Manifest:
        """List the release, look which clips can be used, return the manifest.

        A file that is missing, broken or has no such track makes its modality absent; a sample of
        which nothing is left is left out. Both are told by the manifest's notes.
        """
        return self.manifest(self.listing())

    def manifest(self, listing: Listing) -> Manifest:
        """Return the manifest of a listing, see `load`."""
        notes, columns, modalities = list(listing.notes), dict[str, Column](), []
        count = len(listing.ids)
        present_NM = torch.ones(count, len(self.modalities), dtype=torch.bool)
        lost: dict[str, dict[int, str]] = {}
        unprepared = total = 0
        for m, name in enumerate(self.modalities):
            cells, kind = listing.cells[name], self.kinds[name]
            if name in self.formats:
                clips = used(cells, listing.split)  # type: ignore[arg-type]
                format = self.formats[name]
                store = Store(self.prepared, format)
                found = look(clips, format, store, self.prepared)
                columns[name], lost[name] = _media(clips, found, format, store), found.lost
                here_N = [key is not None for key in found.keys]
                total, unprepared = total + sum(here_N), unprepared + found.unprepared
                modalities.append(Modality(name, kind, format.shape, augmented=format.augments))
                notes += found.notes(name, EXAMPLES)
            elif isinstance(cells, list):
                here_N = [text is not None for text in cells]
                columns[name] = TextColumn([text or "" for text in cells])  # type: ignore[misc]
                modalities.append(Modality(name, kind))
            else:
                here_N = listing.present.get(name, np.ones(count, bool)).tolist()
                columns[name] = cells
                modalities.append(Modality(name, kind, cells.shape))
            present_NM[:, m] = torch.tensor(here_N, dtype=torch.bool)
        if unprepared:
            notes.append(
                f"dataset {self.name!r}: {unprepared} of {total} clips are not prepared, and are "
                "decoded whenever they are read; python -m mmeq.prepare with the same dataset and "
                "backbone options decodes them once"
            )
        return _without_empty(self.name, listing, columns, modalities, present_NM, lost, notes)


def _media(clips: list[Clip | None], found: Found, format: Format, store: Store) -> MediaColumn:
    kept = [c if k is not None else None for c, k in zip(clips, found.keys, strict=True)]
    return MediaColumn(kept, format, found.keys, store if len(store) else None, found.seconds)


def _without_empty(
    name: str,
    listing: Listing,
    columns: dict[str, Column],
    modalities: list[Modality],
    present_NM: torch.Tensor,
    lost: dict[str, dict[int, str]],
    notes: list[str],
) -> Manifest:
    """Leave out the samples that have nothing, say so, and build the manifest."""
    keep_N = present_NM.any(1)
    # what no part uses need not be there
    used_N = torch.from_numpy(np.asarray(listing.split) != UNUSED)
    dropped = (~keep_N & used_N).nonzero().flatten().tolist()
    if dropped:
        shown = ", ".join(listing.ids[row] for row in dropped[:EXAMPLES])
        notes.append(
            f"dataset {name!r}: {len(dropped)} samples are left out, since none of their "
            f"modalities can be used: {shown}{' …' if len(dropped) > EXAMPLES else ''}"
        )
    rows = (keep_N & used_N).nonzero().flatten()
    if not len(rows):
        why = next((reason for rows_ in lost.values() for reason in rows_.values()), "none listed")
        raise MmeqError(f"dataset {name!r}: no sample can be used (the first: {why})")
    kept = rows.tolist()
    present = present_NM[rows]
    spec = DatasetSpec(
        name, listing.protocol, listing.classes, tuple(modalities), bool(present.all())
    )
    return Manifest(
        spec=spec,
        ids=[listing.ids[row] for row in kept],
        labels=torch.from_numpy(np.asarray(listing.labels, dtype=np.int64))[rows],
        split=np.asarray(listing.split)[kept],
        columns={key: column.take(rows) for key, column in columns.items()},
        present=present,
        groups=None if listing.groups is None else [listing.groups[row] for row in kept],
        grouped=listing.grouped,
        notes=tuple(notes),
    )
