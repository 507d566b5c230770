"""Decode a dataset's media once: ``python -m mmeq.prepare dataset=… data_root=…``; ``--help``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import hydra
from omegaconf import DictConfig

from mmeq.config import cli, conf_dir, groups
from mmeq.errors import MmeqError, did_you_mean

if TYPE_CHECKING:
    from mmeq.data.media.accounts import Report

LEFT = 1
"""Exit status where another run has work left."""
SHOWN = 20
"""Files that are listed on the terminal."""
COLUMNS = {
    "ok": "ok",
    "absent": "absent (no track)",
    "broken": "broken",
    "missing": "missing",
    "unreadable": "could not be read",
    "open": "not done",
}

cli.prepare()


@dataclass
class Options:
    """The section ``prepare`` of ``conf/prepare.yaml``, where each is explained."""

    workers: int | None
    part: str | None
    on_broken: Literal["report", "raise"]


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="prepare")
@cli.task
def main_task(cfg: DictConfig) -> None:
    """Check the options, decode what is open, print what became of all."""
    options = check(cfg)
    from mmeq.config.dataset import dataset_of
    from mmeq.data.media.preparing import prepare, read_part

    part = read_part(options.part)
    dataset: Any = dataset_of(cfg)
    if not getattr(dataset, "formats", {}):
        raise MmeqError(
            f"dataset={chosen()} with modalities {', '.join(dataset.modalities)} has no media "
            f"files: there is nothing to prepare (datasets with media: {', '.join(with_media())})"
        )
    report = prepare(dataset, workers=options.workers, part=part, on_broken=options.on_broken)
    print("\n".join(told(report)))
    if report.stopped is not None:
        sys.exit(128 + report.stopped)
    if report.deaths or not report.finished:
        sys.exit(LEFT)


def check(cfg: DictConfig) -> Options:
    """Say what is wrong with the options of this main, before anything is built."""
    from mmeq.config.validate import plain_tree, typed

    tree = plain_tree(cfg)
    known = ("dataset", "backbone", "data_root", "prepared", "prepare")
    problems = [
        f"there is no option {key}" + did_you_mean(str(key), known)
        for key in tree
        if key not in known
    ]
    section = tree["prepare"]
    if not isinstance(section, dict):
        raise MmeqError(f"prepare={section}: give its options, such as prepare.workers=8")
    problems += typed(section, Options, "prepare.")
    if problems:
        raise MmeqError("\n  - ".join(problems))
    return Options(**section)


def chosen() -> str:
    """Return the name of the dataset's YAML file."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices["dataset"])


def with_media() -> list[str]:
    """Return the datasets whose YAML file names a format of media."""
    names = groups()["dataset"]
    return [
        name
        for name in names
        if "mmeq.data.media." in (conf_dir() / "dataset" / f"{name}.yaml").read_text("utf-8")
    ]


def told(report: Report) -> Iterator[str]:
    """Say in lines what was done, what is there, and what is lost."""
    from mmeq.data.media.progress import span

    yield from (f"note: {note}" for note in report.notes)
    shown = [
        key for key in COLUMNS if key == "ok" or any(row.counts.get(key) for row in report.rows)
    ]
    lines = [["", "clips", *(COLUMNS[key] for key in shown), "media", "on disk"]]
    for row in report.rows:
        counts = [str(row.counts.get(key, 0)) for key in shown]
        length = span(row.seconds) if row.seconds else "–"
        lines.append([row.modality, str(row.total), *counts, length, megabytes(row.size)])
    yield from aligned(lines)
    for folder in dict.fromkeys(row.folder for row in report.rows):
        yield f"in {folder}"
    yield f"{report.decoded} clips decoded in {span(report.elapsed)}"
    if report.lost:
        yield ""
        yield f"{len(report.lost)} clips cannot be used:"
        yield from (f"  {one}" for one in report.lost[:SHOWN])
        more = f"{len(report.lost) - SHOWN} more; " if len(report.lost) > SHOWN else ""
        yield f"  {more}all are in {report.path}"
    yield from report.deaths
    if report.stopped is not None:
        yield "ended early: the same command goes on from here"
    elif not report.finished or report.deaths:
        yield "not all is done: the same command tries the rest again"


def aligned(rows: list[list[str]]) -> Iterator[str]:
    """Pad the cells of a table; its first column is text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([row[0].ljust(widths[0]), *rest]).rstrip()


def megabytes(size: int) -> str:
    """Write a size.

    Examples:
        >>> megabytes(0), megabytes(12_340_000), megabytes(626_000_000_000)
        ('0.0 MB', '12.3 MB', '626.0 GB')
    """
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def main() -> None:
    """Entry point of ``mmeq-prepare``."""
    cli.call(main_task, config_name="prepare")


if __name__ == "__main__":
    main()
