"""Own media as a table of files, for the predictions of a trained model; labels are not needed.

Shape suffixes: N samples, M modalities.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmeq.data.arrays import UNKNOWN, absent_column
from mmeq.data.columns import Column, SequenceColumn, Statistics, TextColumn, VectorColumn
from mmeq.data.manifest import TEST, Manifest
from mmeq.data.media.formats import Format
from mmeq.data.own.decodable import Found, decodable
from mmeq.data.own.folder import Folder
from mmeq.data.own.kinds import Source
from mmeq.data.own.npy import read_array, stacked
from mmeq.data.own.numbers import vectors_of
from mmeq.data.own.parts import names_of
from mmeq.data.own.table import read_table
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.errors import MmeqError, did_you_mean

SHOWN = 20
"""Files that a note names."""
NEAR = 0.8
"""A column whose name is so like that of a modality without one is a slip of the pen."""


class OwnTable:
    """A CSV, JSON Lines or Parquet file with a row for each sample to predict.

    Columns are called as the run's modalities, or as in the table that the run was trained on:
    paths of media or array files (.npy) from the folder of the table, or texts. ``id`` and
    ``label`` may be there. No column, an empty cell, and a file that is missing or broken are a
    modality that is absent.

    Args:
        path: of the table.
        dataset: of the run: its formats read the media.

    Raises:
        MmeqError: for what is wrong with the table itself; files are looked at by `manifest`.
    """

    def __init__(self, path: str | Path, dataset: Any) -> None:  # noqa: ANN401 - any of mmeq's
        names, plan = tuple(dataset.modalities), getattr(dataset, "plan", None)
        roles: Mapping[str, str] = getattr(dataset, "roles", {})
        planned = {} if plan is None else plan.sources
        marks = {"id", "label", *names, *roles.values()}
        marks |= {column for source in planned.values() for column in _columns(source)}
        self.table = read_table(path, sorted(marks), option="data")
        self.said = f"data={path}"
        columns = self.table.columns
        kinds: Mapping[str, str] = getattr(dataset, "kinds", {})
        self.sources: dict[str, Source] = {}
        for name in names:
            source = planned.get(name)
            if source is not None and set(_columns(source)) <= set(columns):
                self.sources[name] = source
            elif name in columns:
                self.sources[name] = Source(kinds.get(name, ""), name)
        taken = {column for source in self.sources.values() for column in _columns(source)}
        self.roles = {}
        for role in ("id", "label"):
            options = [one for one in (roles.get(role), role) if one in columns]
            free = [one for one in options if one == roles.get(role) or one not in taken]
            if free:
                self.roles[role] = free[0]
        self.unused = [name for name in columns if name not in {*taken, *self.roles.values()}]
        self._check(names)
        root = self.table.path.parent
        trained_on = getattr(dataset, "data_root", None)
        same = trained_on is not None and Path(trained_on).resolve() == root.resolve()
        # elsewhere a file of the same name, size and time may be another one
        self.prepared = dataset.prepared if same else root / "mmeq-prepared"
        self.formats: Mapping[str, Format] = getattr(dataset, "formats", {})
        self._folder = Folder(
            root,
            getattr(dataset, "allow_outside", False),
            f"write {self.table.path.name} into a folder above all of its files",
        )

    def _check(self, names: Sequence[str]) -> None:
        """Refuse a table without modalities, and a column that seems to be one."""
        if not self.sources:
            raise MmeqError(
                f"{self.said} has no modality of the run: give a column for at least one of "
                f"{', '.join(names)} (it has: {', '.join(self.table.columns)})"
            )
        for name in names:
            like = difflib.get_close_matches(name, self.unused, 1, NEAR)
            if name not in self.sources and like:
                raise MmeqError(
                    f"{self.said}: there is no column {name!r}, and {like[0]!r} is nothing that "
                    "the run knows: is it the same? Rename it, or leave it out"
                )

    def manifest(self, spec: DatasetSpec, statistics: Mapping[str, Statistics]) -> Manifest:
        """Look at the files, decode the media once to see that it can be done.

        Args:
            spec: of the dataset that the model was trained on.
            statistics: mean and scale of its train part (`DataModule.statistics`).

        Returns:
            Manifest with every sample that has something in the test part; unknown labels are -1.

        Raises:
            MmeqError: names row and cell of an id twice, an unknown label, a path out of the
                folder; or there is no sample that can be predicted.
        """
        count, labels, ids = len(self.table), self._labels(spec.classes), self._ids()
        notes = self._unused()
        columns: dict[str, Column] = {}
        present_NM = torch.zeros(count, len(spec.modalities), dtype=torch.bool)
        lost: dict[int, str] = {}
        for m, modality in enumerate(spec.modalities):
            column, here_N, why = self._column(modality)
            if isinstance(column, VectorColumn | SequenceColumn):
                column = column.scaled(statistics[modality.name])
            present_NM[:, m] = torch.from_numpy(here_N)
            columns[modality.name] = column.masked(present_NM[:, m])
            if why:
                shown = "; ".join(list(why.values())[:SHOWN]) + (" …" if len(why) > SHOWN else "")
                notes.append(f"modality {modality.name!r}: {len(why)} files are absent: {shown}")
            lost |= why
        keep_N = present_NM.any(1)
        rows = keep_N.nonzero().flatten()
        if not len(rows):
            first = min(lost, default=None)
            why_not = "every cell is empty" if first is None else f"the first: {lost[first]}"
            raise MmeqError(f"{self.said}: no sample has a modality that can be used ({why_not})")
        if empty := [ids[row] for row in (~keep_N).nonzero().flatten().tolist()]:
            notes.append(
                f"{len(empty)} samples are left out, since none of their modalities can be used: "
                + ", ".join(empty)
            )
        present = present_NM[rows]
        return Manifest(
            spec=replace(spec, protocol=self.said, complete=bool(present.all())),
            ids=[ids[row] for row in rows.tolist()],
            labels=labels[rows],
            split=np.full(len(rows), TEST),
            columns={name: column.take(rows) for name, column in columns.items()},
            present=present,
            notes=tuple(notes),
        )

    def _ids(self) -> list[str]:
        return names_of(self.table, self.roles.get("id"))

    def _labels(self, classes: tuple[str, ...]) -> torch.Tensor:
        """int64 [N]; -1 where the cell is empty."""
        labels = torch.full((len(self.table),), UNKNOWN)
        if "label" not in self.roles:
            return labels
        number = {str(name): label for label, name in enumerate(classes)}
        for row, cell in enumerate(self.table.columns[self.roles["label"]]):
            if cell is not None and cell not in number:
                raise MmeqError(
                    f"{self.table.place(row)}: the label {cell!r} is no class of the run"
                    + did_you_mean(cell, number)
                )
            if cell is not None:
                labels[row] = number[cell]
        return labels

    def _unused(self) -> list[str]:
        return [f"columns that are not used: {', '.join(self.unused)}"] if self.unused else []

    def _column(self, modality: Modality) -> Found:
        """One modality of all samples."""
        count, source = len(self.table), self.sources.get(modality.name)
        format = self.formats.get(modality.name)
        if source is None and format is None:
            return absent_column(modality, count), np.zeros(count, dtype=bool), {}
        if format is not None:
            nowhere = [None] * count
            places = nowhere if source is None else self._places(source.column or "")
            return decodable(places, format, self.prepared)
        assert source is not None
        if source.column is None:
            self._check_width(modality, len(source.numbers), self.table.path.name)
            return *vectors_of(self.table, source), {}
        cells = self.table.columns[source.column]
        if modality.kind == "text":
            here_N = np.array([cell is not None for cell in cells])
            return TextColumn([cell or "" for cell in cells]), here_N, {}
        if modality.kind in ("vector", "sequence"):
            return self._arrays(modality, self._places(source.column))
        raise MmeqError(
            f"{self.said}: the run has the modality {modality.name!r} ({modality.kind}) in memory, "
            "not as files: give data=<npz> (see --help)"
        )

    def _arrays(self, modality: Modality, places: Sequence[tuple[Path, str] | None]) -> Found:
        """Vectors or sequences of .npy files."""
        arrays: list[np.ndarray | None] = [None] * len(places)
        why: dict[int, str] = {}
        for row, place in enumerate(places):
            if place is None:
                continue
            try:
                array = read_array(place, modality.kind)
                self._check_width(modality, array.shape[-1], place[1])
            except (FileNotFoundError, NotADirectoryError):
                why[row] = f"{place[1]} is missing"
            except MmeqError as error:
                why[row] = str(error)
            else:
                arrays[row] = array
        here_N = np.array([array is not None for array in arrays])
        return stacked(arrays, modality.kind, modality.shape[-1]), here_N, why

    def _check_width(self, modality: Modality, width: int, name: str) -> None:
        if width != modality.shape[-1]:
            raise MmeqError(
                f"{name} has {width} features, the run's {modality.name!r} {modality.shape[-1]}"
            )

    def _places(self, column: str) -> list[tuple[Path, str] | None]:
        """Files of a column."""
        out: list[tuple[Path, str] | None] = []
        for row, cell in enumerate(self.table.columns[column]):
            try:
                out.append(None if cell is None else self._folder.find(cell))
            except MmeqError as error:
                raise MmeqError(f"{self.table.place(row)}: {error}") from error
        return out


def _columns(source: Source) -> tuple[str, ...]:
    return source.numbers if source.column is None else (source.column,)
