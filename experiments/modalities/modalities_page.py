"""The tables of four and more modalities, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

from engine.page import markdown
from engine.spread import Interval, interval, told

Line = dict[str, Any]
Figure = Callable[[Sequence[Line], str], list[float]]
"""A figure of a strategy, run by run."""
ACCURACY, AGREEMENT, ORDERS, CELLS = range(4)
RANGES = ((2, 4), (5, 6), (7, 10))
"""Ranges of M that are told together."""
SHOWN = ("memory_guided", "cyclic", "per_sample", "sampled 8", "adaptive 64")


def parted(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The lines of strategies, and those of times by M."""
    runs, times = ([x for x in lines if x["part"] == part] for part in ("strategies", "times"))
    return runs, sorted(times, key=lambda line: line["modalities"])


def groups(runs: Sequence[Line]) -> Iterator[tuple[str, int, list[Line]]]:
    """Data, M and its runs."""
    for data in dict.fromkeys(line["data"] for line in runs):
        own = [line for line in runs if line["data"] == data]
        for size in sorted({line["modalities"] for line in own}):
            yield data, size, [line for line in own if line["modalities"] == size]


def numbers(found: Sequence[Line], name: str, what: int) -> list[float]:
    """A figure of a strategy, run by run."""
    return [line["strategies"][name][what] for line in found]


def present(runs: Sequence[Line], names: Sequence[str]) -> list[str]:
    """Those of the strategies that were measured."""
    return [name for name in names if name in runs[0]["strategies"]]


def gap(found: Sequence[Line], name: str) -> Interval:
    """Mean difference of accuracy to the reference, with its interval."""
    return interval(gaps(found, name))


def differs(found: Sequence[Line], name: str) -> bool:
    """Whether a strategy does other than the reference's mean over the same orders."""
    other = numbers(found, name, ORDERS) != numbers(found, "reference", ORDERS)
    return other or name == "per_sample"  # which weighs them


def star(ends: Interval) -> str:
    """Marks an interval that excludes 0."""
    return "*" if ends[1] > 0 or ends[2] < 0 else ""


def compared(runs: Sequence[Line]) -> Iterator[tuple[str, int, str, Interval]]:
    """Data, M, strategy and its gap: all that are compared."""
    for data, size, found in groups(runs):
        for name in found[0]["strategies"]:
            if name != "reference" and differs(found, name):
                yield data, size, name, gap(found, name)


def tables(runs: Sequence[Line], times: Sequence[Line]) -> str:
    """All of them."""
    parts = []
    if runs:
        names = [name for name in runs[0]["strategies"] if name != "reference"]
        parts += ["**Accuracy less that of the reference** (the mean over all M! orders for M ≤ 6,"]
        parts += ["over 512 beyond), paired by run, in points.", "", pooled(runs, gaps)]
        parts += [verdict(runs), ""]
        parts += ["**How many orders are enough**: predictions equal to the reference's, percent."]
        parts += ["", pooled(runs, agreed)]
        parts += ["<details><summary>Each M by itself: agreement, then accuracy</summary>", ""]
        parts += [agreements(runs, names), accuracies(runs, names), "</details>", ""]
        parts += ["**Memory cells a sample** of one prediction; adaptive: the mean.", ""]
        parts += [states(runs)]
    if times:
        parts += ["**CPU time**, median (lowest to highest) of ratios measured in turn: a"]
        parts += ["prediction from encoded features to one pass along the last order, and a"]
        parts += ["training epoch, alternating to joint.", "", seconds(times)]
    return "\n".join(parts).rstrip() + "\n"


def gaps(found: Sequence[Line], name: str) -> list[float]:
    """Accuracy less that of the reference, run by run, in points."""
    pairs = zip(*(numbers(found, x, ACCURACY) for x in (name, "reference")), strict=True)
    return [100 * (a - b) for a, b in pairs]


def agreed(found: Sequence[Line], name: str) -> list[float]:
    """Predictions that are the reference's, run by run, in percent."""
    return [100 * x for x in numbers(found, name, AGREEMENT)]


def ranges(runs: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Data with a range of M, and its runs."""
    for data in dict.fromkeys(line["data"] for line in runs):
        for low, high in RANGES:
            own = [x for x in runs if x["data"] == data and low <= x["modalities"] <= high]
            if own:
                yield f"{data}, M={low}–{min(high, max(x['modalities'] for x in own))}", own


def by_seed(runs: Sequence[Line], name: str, figure: Figure) -> list[float]:
    """Means over M, one a seed and split: runs of one seed and split are not independent.

    Runs in which the strategy looks at the reference's own orders are left out.
    """
    kept: dict[tuple[int, int], list[Line]] = {}
    for line in runs:
        if differs([line], name):
            kept.setdefault((line["seed"], line["split"]), []).append(line)
    return [mean(figure(found, name)) for found in kept.values()]


def pooled(runs: Sequence[Line], figure: Figure) -> str:
    """A row a strategy, a column a range of M."""
    signed, rows = figure is gaps, []
    columns = dict(ranges(runs))
    for name in [name for name in runs[0]["strategies"] if name != "reference"]:
        row = [name]
        for own in columns.values():
            if values := by_seed(own, name, figure):
                ends = interval(values)
                cell = told(ends, 2 if signed else 1, sign=signed)
                row.append(cell + star(ends) if signed else cell)
            else:
                row.append("all orders")
        rows.append(row)
    return markdown(["orders", *columns], rows)


def accuracies(runs: Sequence[Line], names: Sequence[str] = SHOWN) -> str:
    """A row an M."""
    rows, names = [], present(runs, names)
    for data, size, found in groups(runs):
        row = [data, str(size), told(interval(numbers(found, "reference", ACCURACY)), 1, 100)]
        for name in names:
            ends = gap(found, name)
            same = not differs(found, name)
            row.append("all orders" if same else told(ends, sign=True) + star(ends))
        rows.append(row)
    return markdown(["data", "M", "reference %", *names], rows)


def agreements(runs: Sequence[Line], names: Sequence[str]) -> str:
    """A row an M."""
    rows, names = [], present(runs, names)
    for data, size, found in groups(runs):
        row = [data, str(size)]
        for name in names:
            agreed = told(interval(numbers(found, name, AGREEMENT)), 1, 100)
            row.append(agreed if differs(found, name) else "all orders")
        rows.append(row)
    return markdown(["data", "M", *names], rows)


def verdict(runs: Sequence[Line]) -> str:
    """How many comparisons there are, and what their intervals say."""
    cells = [
        interval(values)
        for _, own in ranges(runs)
        for name in runs[0]["strategies"]
        if name != "reference" and (values := by_seed(own, name, gaps))
    ]
    single = [ends for *_, ends in compared(runs)]
    told_of = []
    for what, found in (("in this table", cells), ("at each M by itself", single)):
        beyond = [ends for ends in found if star(ends)]
        below = sum(ends[0] < 0 for ends in beyond)
        told_of.append(
            f"{len(found)} comparisons {what}, {0.05 * len(found):.0f} of whose intervals miss 0 "
            f"by chance: {len(beyond)} exclude it (\\*), {below} of them below it"
        )
    half = sorted((high - low) / 2 for _, low, high in cells)
    return (
        f"{'; '.join(told_of)}. Half widths of the intervals of the table: {half[0]:.2f} to "
        f"{half[-1]:.2f} points, means over seeds and splits."
    )


def states(runs: Sequence[Line]) -> str:
    """A row an M: the cells of each strategy; both data sets alike but where samples stop."""
    names = ["reference", "memory_guided", "cyclic", "per_sample", "sampled 8", "sampled 64"]
    names.append("adaptive 64")
    rows, names = [], present(runs, names)
    for data, size, found in groups(runs):
        row = [data, str(size)]
        for name in names:
            cells = numbers(found, name, CELLS)
            same = max(cells) - min(cells) < 0.5
            row.append(f"{cells[0]:.0f}" if same else told(interval(cells), 0))
        used = present(runs, ["adaptive 64"])
        rows.append([*row, *(told(interval(numbers(found, x, ORDERS)), 1) for x in used)])
    heads = [f"{name}: orders used" for name in present(runs, ["adaptive 64"])]
    return markdown(["data", "M", *names, *heads], rows)


def seconds(times: Sequence[Line]) -> str:
    """A row an M."""
    names = ["reference", "cyclic", "per_sample", "sampled 8", "sampled 64", "adaptive 64"]
    rows = []
    for line in times:
        row = [str(line["modalities"])]
        for name in names:
            row.append(told(line["predictions"][name], 1) if name in line["predictions"] else "–")
        rows.append([*row, told(line["epoch"])])
    return markdown(["M", "hybrid", *names[1:], "epoch, alternating / joint"], rows)
