"""A question's sweep.yaml: data × rows × seeds × splits, each a run of `python -m mmeq.train`.

question: …?
reference: joint concat        # the row that others are paired with
seeds: [0, 1, 2, 3, 4]
splits: [0, 1]                 # dataset.split_seed
paired: true                   # seed and split of one place belong together (optional; else all)
history: true                  # keep every epoch of a run (optional)
always: [callbacks=probe]      # options of every run (optional)
data: [mfeat, brca]            # names of ../data.yaml
rows:                          # label → options; {modality} makes one row of each modality
  joint concat: [method=joint, fusion=concat]
cross:                         # optional: every combination is a row more
  - {shapley order: [method.order=shapley], random order: [method.order=random]}
  - {sequential: [method.supervise=sequential], unimodal: [method.supervise=unimodal]}
except: {emoji: [label]}       # optional: rows that a data set does not have
settings:                      # optional: data of its own, or in place of ../data.yaml's
  two: {options: [dataset=mfeat, "dataset.modalities=[fou,mor]"], modalities: [fou, mor]}
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mmeq.errors import MmeqError, did_you_mean

HERE = Path(__file__).resolve().parents[1]
QUIET = ["callbacks.console=null", "callbacks.figures=null", "callbacks.progress=null"]
"""What no run of a sweep needs: its figures are drawn over all of them."""
NEEDED = ("question", "reference", "seeds", "splits", "data")
KEYS = (*NEEDED, "paired", "history", "always", "rows", "cross", "except", "settings")


@dataclass(frozen=True)
class Data:
    """A dataset with the options of its runs."""

    name: str
    options: Sequence[str]
    modalities: Sequence[str]


@dataclass(frozen=True)
class Job:
    """One run."""

    table: str
    row: str
    seed: int
    split: int
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.table}, {self.row}, seed {self.seed}, split {self.split}"

    @property
    def key(self) -> tuple[str, str, int, int, tuple[str, ...]]:
        """What makes two runs the same: with other options a kept line is stale."""
        return self.table, self.row, self.seed, self.split, self.options

    def folder(self, runs: Path) -> Path:
        """Where it runs; other options, another folder."""
        mark = hashlib.sha256("\n".join(self.options).encode()).hexdigest()[:8]
        name = f"{slug(self.row)}-{mark}"
        return runs / slug(self.table) / name / f"seed-{self.seed}_split-{self.split}"


@dataclass(frozen=True)
class Sweep:
    """What sweep.yaml says."""

    name: str
    question: str
    reference: str
    data: Sequence[Data]
    rows: dict[str, list[str]]
    seeds: Sequence[int]
    splits: Sequence[int]
    always: Sequence[str] = ()
    history: bool = False
    lacking: dict[str, list[str]] = field(default_factory=dict)
    paired: bool = False
    home: Path = HERE
    """The question's folder."""

    @property
    def replicates(self) -> list[tuple[int, int]]:
        """Seed and split of each run of a row."""
        if self.paired:
            return list(zip(self.seeds, self.splits, strict=True))
        return list(itertools.product(self.seeds, self.splits))

    def labels(self, data: Data) -> dict[str, list[str]]:
        """Rows of a data set, those of single modalities written out."""
        out = {}
        for label, options in self.rows.items():
            each = "{modality}" in label
            if each and not data.modalities:
                raise MmeqError(
                    f"row {label!r}: name the modalities of {data.name}, as in "
                    "'dataset.modalities=[audio,video]'"
                )
            names: Sequence[str] = data.modalities if each else [""]
            for name in names:
                out[label.replace("{modality}", name)] = [
                    option.replace("{modality}", name) for option in options
                ]
        return {k: v for k, v in out.items() if k not in self.lacking.get(data.name, ())}

    def jobs(self) -> list[Job]:
        """Every run; those of one seed and split lie together, so that pairs are whole early."""
        return [
            Job(
                data.name, row, seed, split,
                (
                    *data.options, *self.always, *options, *QUIET,
                    f"seed={seed}", f"dataset.split_seed={split}",
                ),
            )
            for data in self.data
            for seed, split in self.replicates
            for row, options in self.labels(data).items()
        ]  # fmt: skip


def slug(text: str) -> str:
    """A folder's name, which needs no quotes as an override."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)


def known_data(settings: dict[str, Any]) -> dict[str, Data]:
    """The data sets of data.yaml, and a question's own."""
    told = yaml.safe_load((HERE / "data.yaml").read_text(encoding="utf-8")) | settings
    return {
        name: Data(name, tuple(map(str, entry["options"])), tuple(entry["modalities"]))
        for name, entry in told.items()
    }


def folder_of(name: str, questions: Path) -> Path:
    """The question's folder.

    Raises:
        MmeqError: for an unknown question.
    """
    if not (questions / name / "sweep.yaml").is_file():
        known = sorted(path.parent.name for path in questions.glob("*/sweep.yaml"))
        raise MmeqError(f"there is no question {name!r}{did_you_mean(name, known)}")
    return questions / name


def load(name: str, questions: Path) -> dict[str, Any]:
    """The question's sweep.yaml, its keys checked.

    Raises:
        MmeqError: for an unknown question, and wrong keys.
    """
    path = folder_of(name, questions) / "sweep.yaml"
    told: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if lacking := [key for key in NEEDED if key not in told]:
        raise MmeqError(f"{path} lacks {', '.join(lacking)}")
    for key in told:
        if key not in KEYS:
            raise MmeqError(f"{path}: {key!r} is unknown{did_you_mean(key, KEYS)}")
    if told.get("paired") and len(told["seeds"]) != len(told["splits"]):
        many = f"{len(told['seeds'])} seeds and {len(told['splits'])} splits"
        raise MmeqError(f"{path}: paired needs as many seeds as splits, not {many}")
    return told


def read(name: str, own: Sequence[str] = (), questions: Path = HERE) -> Sweep:
    """Read a question's sweep.

    Args:
        name: of its folder.
        own: options of data of one's own, such as ``dataset=cremad data_root=…``, in place of
            those that the sweep names.
        questions: where the folders are.

    Raises:
        MmeqError: for an unknown question, key, data set or row.
    """
    told, path = load(name, questions), questions / name / "sweep.yaml"
    rows = dict(told.get("rows") or {})
    for each in itertools.product(*(level.items() for level in told.get("cross") or [{}])):
        if each:
            rows[" · ".join(label for label, _ in each)] = [o for _, some in each for o in some]
    known = known_data(told.get("settings") or {})
    for one in [*told["data"], *(told.get("except") or ())]:
        if one not in known:
            raise MmeqError(f"{path}: data {one!r} is unknown{did_you_mean(one, known)}")
    sweep = Sweep(
        name, told["question"], told["reference"],
        [_own(own)] if own else [known[one] for one in told["data"]],
        rows, told["seeds"], told["splits"], told.get("always") or (),
        bool(told.get("history")), {}, bool(told.get("paired")), questions / name,
    )  # fmt: skip
    for one, labels in (told.get("except") or {}).items():
        have = sweep.labels(known[one])
        for label in labels:
            if label not in have:
                raise MmeqError(
                    f"{path}: except: row {label!r} is unknown{did_you_mean(label, have)}"
                )
    sweep = replace(sweep, lacking=told.get("except") or {})
    for data in sweep.data:
        if sweep.reference not in (have := sweep.labels(data)):
            hint = did_you_mean(sweep.reference, have)
            raise MmeqError(
                f"{path}: {data.name} has no row {sweep.reference!r}, the reference{hint}"
            )
    return sweep


def _own(options: Sequence[str]) -> Data:
    """Data of one's own: the composed configuration tells their name and modalities."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    from mmeq.config import conf_dir

    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("train", list(options))
    except HydraException as error:
        raise MmeqError(str(error).splitlines()[0]) from error
    name = next((o.partition("=")[2] for o in options if o.startswith("dataset=")), "mfeat")
    return Data(name, tuple(options), tuple(cfg.dataset.get("modalities") or ()))
