"""The page of the bench: bars.png, and the generated part of README.md, from the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from environment import HERE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measure import Line, number

from mmeq.files import write_stream, write_text

MARK, END = "<!-- bench -->", "<!-- /bench -->"
BAR, GOAL, INK = "#4477aa", "#cc3311", "#333333"
WHAT = {
    "training": "Training",
    "validation": "Validation",
    "methods": "Methods",
    "coalitions": "Coalitions, Shapley values, bootstrap, strategies",
    "loading": "Loading",
    "start": "Start",
    "record": "Record of a run",
    "memory": "Memory",
    "growth": "Growth",
    "profile": "Where the time goes",
    "device": "Device",
    "backbones": "Large backbones",
    "estimators": "Estimators",
}
FACTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "samples_per_second": ("samples/s", lambda x: rounded(x)),
    "in_products": ("by its products alone", lambda x: f"{x:.2f}"),
    "images_per_second": ("images/s", lambda x: rounded(x)),
    "of_ceiling": ("of the matrix-product ceiling", lambda x: f"{x:.0%}"),
    "mib": ("MiB", lambda x: rounded(x)),
    "tensors": ("tensors", lambda x: f"{x:,}"),
    "cells": ("cells", lambda x: f"{x:,.0f}"),
    "waiting": ("of a step spent waiting", lambda x: f"{x:.1%}"),
    "in_plain_passes": ("plain passes", lambda x: f"{x:.2f}"),
}
"""Fact of a line → its unit and form in the page."""


def write_page(folder: Path = HERE) -> None:
    """Write bars.png and the generated part of README.md.

    Args:
        folder: where results.json and results-quick.json lie, and README.md.

    Raises:
        FileNotFoundError: there are no results, see `gathered`.
        ValueError: README.md has no place for them.
    """
    results = gathered(folder)
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, mark, rest = text.partition(MARK)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{readme} has no {MARK} … {END}")
    figure = bars(results["sections"])
    body = page(results)
    if (changes := folder / "changes.json").is_file():
        body += "\n\n" + changes_page(json.loads(changes.read_text(encoding="utf-8")))
    write_stream(folder / "bars.png", lambda stream: figure.savefig(stream, dpi=110))
    write_text(readme, f"{before}{MARK}\n\n{body}\n\n{END}{after}")


def gathered(folder: Path) -> dict[str, Any]:
    """Results of a folder, of each section the full ones if there are any, else the quick ones.

    Raises:
        FileNotFoundError: there are no results.
    """
    merged: dict[str, Any] = {"sections": {}}
    for name in ("results-quick.json", "results.json"):
        if not (path := folder / name).is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        merged["environment"] = found["environment"]
        for section, one in found["sections"].items():
            merged["sections"][section] = {**one, "quick": found["quick"]}
    if "environment" not in merged:
        raise FileNotFoundError(f"{folder / 'results.json'} is not there: run the bench first")
    order = [name for name in WHAT if name in merged["sections"]]
    merged["sections"] = {name: merged["sections"][name] for name in order}
    return merged


def page(results: Mapping[str, Any]) -> str:
    """Markdown of all results."""
    about = ", ".join(
        f"{key} {value}"
        for key, value in results["environment"].items()
        if value and key != "commit"
    )
    parts = [
        f"From `results.json` (`make bench`), and where that lacks a section from "
        f"`results-quick.json` (`make bench-quick`): {about}.",
        "![ratios with ranges and aims](bars.png)",
    ]
    for name, section in results["sections"].items():
        parts.append(f"### {WHAT.get(name, name)}")
        parts += tables(section["lines"])
        if "error" in section:
            parts.append(f"**Failed:** `{section['error']}`")
        measured = f"{section['seconds']:.0f} s" if section.get("seconds") else "measured before"
        kind = "`make bench-quick`" if section["quick"] else "`make bench`"
        parts.append(f"*{kind}, {measured}, at commit {section.get('commit') or 'unknown'}*")
    return "\n\n".join(parts)


def changes_page(found: Mapping[str, Any]) -> str:
    """Markdown of what each change has brought, and all of them together."""
    rows = []
    for change in found["changes"]:
        by_job = {one["name"]: one for one in change["lines"]}
        own = by_job.pop(change["job"])
        others = "; ".join(f"{job} {number(one['ratio'])}" for job, one in by_job.items())
        what = f"{change['what']} (`{change['commit']}`)"
        rows.append([what, change["job"], change["expected"], f"**{spread(own)}**", others])
    head = ["change", "job", "expected", "after / before", "other jobs"]
    whole = [
        [one["name"], spread(one), " / ".join(map(short, one["seconds"]))] for one in found["all"]
    ]
    return "\n\n".join(
        [
            "### What each change brought",
            "From `changes.json` (`python experiments/bench/changes.py`), CPU seconds on one "
            "thread (see the script); each commit against the one before, "
            f"{found['all'][0]['repeats']} rounds. Expected is what was thought before that.",
            table(head, rows),
            f"All of them, `{found['to']}` against `{found['from']}`:",
            table(["job", "after / before", "CPU seconds, after / before"], whole),
        ]
    )


def tables(lines: Sequence[Line]) -> list[str]:
    """A table for each form of lines that there is."""
    shares = [one for one in lines if "job" in one]
    fits = [one for one in lines if "exponent" in one]
    ratios = [one for one in lines if "ratio" in one]
    rest = [one for one in lines if not {"job", "exponent", "ratio"} & one.keys()]
    out = []
    if ratios:
        out.append(ratio_table(ratios))
    if fits:
        head = ["cost", "sizes", "exponent", "expected", "since"]
        out.append(
            table(
                head,
                [
                    [
                        one["name"],
                        f"{one['sizes'][0]} to {one['sizes'][-1]}",
                        f"{one['exponent']:.2f}",
                        str(one["expected"]),
                        one["reason"],
                    ]
                    for one in fits
                ],
            )
        )
    if shares:
        out.append(share_table(shares))
    out += [f"- {one['name']}{plain(one)}" for one in rest]
    return out


def ratio_table(lines: Sequence[Line]) -> str:
    """Ratio, range, aim and whether it is met, peak, facts; columns that nobody fills go."""
    rows = [
        {
            "line": one["name"],
            "ratio (lowest to highest)": spread(one),
            "aim": f"{one['aim']:.2f}" if "aim" in one else "",
            "met": ("yes" if one["ratio"] <= one["aim"] else "**no**") if "aim" in one else "",
            "seconds": " / ".join(map(short, one.get("seconds", ()))),
            "peak MiB": f"{one['peak_mb']:,.0f}" if "peak_mb" in one else "",
            "facts": "; ".join(facts(one)),
        }
        for one in lines
    ]
    head = [key for key in rows[0] if any(row[key] for row in rows)]
    return table(head, [[row[key] for key in head] for row in rows])


def spread(one: Line) -> str:
    """Median and range, the latter where there are several."""
    median, low, high = (number(one[key]) for key in ("ratio", "lowest", "highest"))
    return median if one["repeats"] == 1 else f"{median} ({low} to {high})"


def short(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    units = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
    unit, factor = next((one for one in units if seconds * one[1] >= 1), units[-1])
    return f"{number(seconds * factor)} {unit}"


def rounded(value: float) -> str:
    """Whole numbers, one decimal of small ones."""
    return f"{value:,.{0 if value >= 20 else 1}f}"


def facts(one: Line) -> Iterator[str]:
    """What a line tells beside its ratio, where the page knows its unit."""
    for key, (unit, form) in FACTS.items():
        value = one.get(key)
        if isinstance(value, Mapping):
            yield ", ".join(f"{who} {form(x)}" for who, x in value.items()) + f" {unit}"
        elif isinstance(value, list):
            yield " / ".join(map(form, value)) + f" {unit}"
        elif value is not None:
            yield f"{form(value)} {unit}"
    if isinstance(one.get("hooks"), Mapping):
        hooks = one["hooks"]
        yield f"in its hooks {short(hooks['seconds'])}, {hooks['share']:.1%}"


def plain(one: Line) -> str:
    """What a line without ratio tells."""
    if "share" in one:
        return f": {one['share']:.1%}"
    told = ", ".join(f"{key} {value}" for key, value in one.items() if key != "name")
    return f": {told}" if told else ""


def share_table(lines: Sequence[Line]) -> str:
    """Parts by jobs, in percent."""
    jobs = list(dict.fromkeys(one["job"] for one in lines))
    parts = list(dict.fromkeys(one["part"] for one in lines))
    value = {(one["part"], one["job"]): f"{one['share']:.1%}" for one in lines}
    return table(["part", *jobs], [[p, *(value.get((p, job), "") for job in jobs)] for p in parts])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    ruled = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in ruled
    )


def bars(sections: Mapping[str, Any]) -> Figure:
    """Horizontal bars of all ratios, section by section, with ranges and aims.

    A bar begins at 1, so that it shows by how much A costs more, or less, than B.
    """
    groups = {
        name: [one for one in section["lines"] if "ratio" in one and one["ratio"] > 0]
        for name, section in sections.items()
    }
    groups = {name: lines for name, lines in groups.items() if lines}
    heights = [len(lines) + 1.2 for lines in groups.values()]
    figure = Figure(figsize=(13, 0.24 * sum(heights) + 0.6 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    if not groups:
        return figure
    axes = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (name, lines) in zip(axes, groups.items(), strict=True):
        draw(axis, WHAT.get(name, name), lines)
    return figure


def draw(axis: Any, title: str, lines: Sequence[Line]) -> None:
    """The bars of one section; on a log axis where they span much."""
    low = min(min(one["lowest"] for one in lines), 1.0)
    high = max(max(one["highest"], one.get("aim", 1.0)) for one in lines)
    wide = high / low > 5
    for row, one in enumerate(lines):
        value = one["ratio"]
        axis.barh(row, value - 1, left=1, height=0.62, color=BAR)
        axis.plot([one["lowest"], one["highest"]], [row, row], color=INK, linewidth=1.2)
        if "aim" in one:
            axis.plot([one["aim"]] * 2, [row - 0.42, row + 0.42], color=GOAL, linewidth=2.2)
        at = max(one["highest"], one.get("aim", 0.0), 1.0)
        axis.annotate(
            number(value), (at, row), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
    if wide:
        axis.set_xscale("log")
        axis.set_xlim(low / 1.3, high * 2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: "")
    else:
        room = max(high - low, 0.1)
        axis.set_xlim(low - 0.08 * room, high + 0.2 * room)
    axis.axvline(1, color=INK, linewidth=0.8)
    names = [fill(one["name"], 78) for one in lines]
    axis.set_yticks(range(len(lines)), names, fontsize=8, linespacing=0.9)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.tick_params(axis="x", labelsize=8)
    aimed = " (red: the aim, met to its left)" if any("aim" in one for one in lines) else ""
    axis.set_title(f"{title}: ratios{aimed}", fontsize=9, loc="left")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)


if __name__ == "__main__":
    write_page()
