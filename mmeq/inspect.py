"""Look at a dataset: ``python -m mmeq.inspect dataset=<name> [data_root=<folder>]``; ``--help``."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from mmeq.config import cli, conf_dir
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    from mmeq.data.inspection import Measure
    from mmeq.data.manifest import Manifest
    from mmeq.reporting.samples import Row

ENDS = 10
"""Classes of each end that are printed when there are more than three times as many."""
MOST = 100
FIGURES = ("contact.png", "counts.png", "lengths.png")
Cells = Sequence[Any]

cli.prepare()


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="inspect")
@cli.task
def inspect(cfg: DictConfig) -> None:
    """Read the dataset, print what is in it, draw it, write one folder."""
    check(cfg)
    from mmeq.config.dataset import dataset_of

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    dataset: Any = dataset_of(cfg)
    manifest: Manifest = dataset.load()
    manifest.check()
    folder = Path(cfg.output or Path("inspect") / manifest.spec.name)
    report, rows, measures = look(manifest, cfg.samples, cfg.seed)
    print("\n".join(told(report)))
    try:
        write(folder, report, rows, measures)
    except OSError as error:
        raise MmeqError(f"output={folder} cannot be written: {error.strerror}") from error
    print(f"\nwrote {', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}")


def check(cfg: DictConfig) -> None:
    """Say what is wrong with the options, before data are read."""
    for name, most in (("samples", MOST), ("seed", 2**32)):
        value = cfg[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise MmeqError(f"{name}={value}: give a whole number from 0 to {most}")
    if cfg.output is not None and Path(cfg.output).is_file():
        raise MmeqError(f"output={cfg.output} is a file: give a folder")


def look(
    manifest: Manifest, samples: int, seed: int
) -> tuple[dict[str, Any], list[Row], list[Measure]]:
    """Count, measure, draw samples and decode them; return all numbers, samples and lengths."""
    from mmeq.data.inspection import examine, measure
    from mmeq.data.media.showing import draw

    measures = measure(manifest, seed)
    report = examine(manifest, measures)
    rows = sheet(manifest, draw(manifest, samples, seed))
    report["drawn"] = [{"id": row.id, "class": row.label, "part": row.part} for row in rows]
    report["undecodable"] = undecodable(manifest, rows)
    return report, rows, measures


def sheet(manifest: Manifest, drawn: Sequence[int]) -> list[Row]:
    """Decode the drawn samples."""
    from mmeq.data.media.showing import pictures
    from mmeq.reporting.samples import Row

    return [
        Row(
            manifest.ids[row],
            str(manifest.spec.classes[int(manifest.labels[row])]),
            str(manifest.split[row]),
            shown,
        )
        for row, shown in zip(drawn, pictures(manifest, drawn), strict=True)
    ]


def undecodable(manifest: Manifest, rows: Sequence[Row]) -> list[dict[str, str]]:
    """Name what was found broken while it was decoded."""
    return [
        {"id": row.id, "modality": name, "why": one.text}
        for row in rows
        for name, one in zip(manifest.spec.names, row.pictures, strict=True)
        if one.form == "broken"
    ]


def write(
    folder: Path, report: Mapping[str, Any], rows: Sequence[Row], measures: Sequence[Measure]
) -> None:
    """Write numbers and figures; a figure of an earlier look that is not drawn now goes."""
    from mmeq.callbacks.plotting import COLOURS, save_figure, styled
    from mmeq.files import write_json, write_text
    from mmeq.reporting import counts, samples

    name, drawn = report["dataset"]["name"], {}
    if rows:
        heads = [(one["name"], _form(one)) for one in report["modalities"]]
        title = f"{name}: {len(rows)} samples as their encoders see them"
        drawn["contact.png"] = styled(samples.contact_sheet)(title, heads, rows, COLOURS)
    drawn["counts.png"] = styled(counts.plot_counts)(report, (*COLOURS[:3], COLOURS[9]))
    uneven = [one for one in measures if one.values.min() < one.values.max()]
    if uneven:
        given = [(f"{m.modality}: {m.what}", m.what, m.values, m.in_batch) for m in uneven]
        drawn["lengths.png"] = styled(counts.plot_lengths)(given, COLOURS)
    for file in FIGURES:
        if file in drawn:
            save_figure(drawn[file], folder / file)
        else:
            (folder / file).unlink(missing_ok=True)
    write_text(folder / "classes.csv", classes_csv(report))
    write_json(folder / "inspect.json", report)


def classes_csv(report: Mapping[str, Any]) -> str:
    """Return a line a class: its samples in each part."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["name", *report["parts"], "total"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(report["classes"])
    return stream.getvalue()


def told(report: Mapping[str, Any]) -> Iterator[str]:
    """Say all that was found, line by line."""
    dataset, parts = report["dataset"], report["parts"]
    sizes = ", ".join(f"{size} {part}" for part, size in parts.items())
    yield f"{dataset['name']}: {report['samples']} samples ({sizes})"
    yield f"protocol: {dataset['protocol']}"
    yield from headed("Modalities", modality_lines(report))
    yield from headed("Classes", class_lines(report))
    yield from headed("Groups", group_lines(report))
    yield from headed("Lengths", length_lines(report))
    yield from headed("Look at", look_lines(report))


def headed(title: str, lines: Iterator[str]) -> Iterator[str]:
    """Put a title over lines, if there are any."""
    found = list(lines)
    if found:
        yield from ("", title, *(f"  {line}" for line in found))


def modality_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Kinds, shapes, what is there and what is missing."""
    parts = report["parts"]
    gaps = any(any(one["missing"].values()) for one in report["modalities"])
    rows: list[Cells] = [["", "kind", "shape", *([f"{p} missing" for p in parts] if gaps else ())]]
    for one in report["modalities"]:
        row = [one["name"], one["kind"], " × ".join(map(str, one["shape"])) or "–"]
        if gaps:
            row += [f"{one['missing'][part]} of {size}" for part, size in parts.items()]
        rows.append(row)
    yield from aligned(rows, left=3)
    if not gaps:
        yield "every sample has every modality"
    for pattern, count in list(report["patterns"].items())[: ENDS if gaps else 0]:
        yield f"{count} × {pattern}"


def class_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Samples of each class and part; of many classes the ends. Then how uneven they are."""
    classes, parts = report["classes"], list(report["parts"])
    rows: list[Cells] = [["", *parts, "total"]]
    ends = len(classes) > 3 * ENDS
    shown = sorted(classes, key=lambda entry: -entry["total"]) if ends else classes
    for k, entry in enumerate(shown):
        if ends and k == ENDS:
            rest = shown[ENDS:-ENDS]
            sums = [sum(one[key] for one in rest) for key in (*parts, "total")]
            rows.append([f"… {len(rest)} more (all: classes.csv)", *sums])
        if not ends or k < ENDS or k >= len(shown) - ENDS:
            rows.append([entry["name"], *(entry[key] for key in (*parts, "total"))])
    yield from aligned(rows)
    yield ""
    rows = [["", "largest", "share", "smallest", "ratio", "classes without a sample"]]
    for part, one in report["balance"].items():
        share, ratio = f"{100 * one['largest_share']:.1f} %", f"{one['ratio']:.3g} : 1"
        least = "(all alike)" if one["ratio"] == 1 else one["smallest"]
        rows.append([part, one["largest"], share, least, ratio, one["empty"]])
    yield from aligned(rows)


def group_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Groups of each part."""
    groups = report["groups"]
    if groups is None:
        return
    yield ", ".join(f"{count} in {part}" for part, count in groups["parts"].items()) + (
        f"; {groups['count']} in all, the largest {groups['largest']!r} with "
        f"{groups['largest_size']} samples"
    )
    whole = "as the protocol promises" if groups["promised_whole"] else "no promise is made"
    yield f"{groups['in_several_parts']} groups stand in several parts ({whole})"


def length_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Quantiles."""
    if not report["lengths"]:
        return
    keys = ("min", "p5", "median", "p95", "max")
    rows: list[Cells] = [
        ["", "", "min", "5 %", "median", "95 %", "max", "of samples", "in a batch"]
    ]
    for one in report["lengths"]:
        known = str(one["known"]) if one["known"] == one["of"] else f"{one['known']} of {one['of']}"
        numbers = [
            f"{one[key]:.2f}" if one["what"] == "seconds" else f"{one[key]:g}" for key in keys
        ]
        batch = "all" if one["in_batch"] is None else f"{one['in_batch']:g}"
        rows.append([one["modality"], one["what"], *numbers, known, batch])
    yield from aligned(rows, left=2)


def look_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What deserves a look."""
    yield from report["notes"]
    yield from report["warnings"]
    same = report["duplicates"]
    if same["samples"]:
        examples = "; ".join(", ".join(ids) for ids in same["examples"])
        yield f"{same['samples']} samples equal another one, in {same['sets']} sets: {examples}"
    for name, count in same["modalities"].items():
        if count > same["samples"]:
            yield f"modality {name!r}: {count} samples have what another one has"
    for one in report["undecodable"]:
        yield f"{one['id']}: {one['modality']}: {one['why']}"


def aligned(rows: Sequence[Cells], left: int = 1) -> Iterator[str]:
    """Pad the cells of a table so that columns stand under each other.

    Args:
        rows: of equal length.
        left: so many columns are text, the others numbers.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _form(one: Mapping[str, Any]) -> str:
    return " ".join([one["kind"], "×".join(map(str, one["shape"]))]).strip()


def main() -> None:
    """Entry point of ``mmeq-inspect``."""
    cli.call(inspect, config_name="inspect")


if __name__ == "__main__":
    main()
