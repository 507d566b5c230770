"""The tables and the figure of four and more modalities, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

from spread import Interval, interval, replaced, table, told

from mmeq.files import write_bytes, write_text

Line = dict[str, Any]
Figure = Callable[[Sequence[Line], str], list[float]]
"""A figure of a strategy, run by run."""
ACCURACY, AGREEMENT, ORDERS, CELLS = range(4)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which the colour-blind tell apart."""
RANGES = ((2, 4), (5, 6), (7, 10))
"""Ranges of M that are told together."""
SHOWN = ("memory_guided", "cyclic", "per_sample", "sampled 8", "adaptive 64")


def write_page(folder: Path, lines: Sequence[Line]) -> None:
    """Write what the results give: the part of README.md between its marks, and figure.png."""
    runs = [line for line in lines if line["part"] == "strategies"]
    times = sorted(
        (line for line in lines if line["part"] == "times"), key=lambda line: line["modalities"]
    )
    page = folder / "README.md"
    write_text(page, replaced(page.read_text(encoding="utf-8"), tables(runs, times)))
    write_bytes(folder / "figure.png", figure(runs, times))


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
        parts += ["over 512 beyond), paired by run, in points.", "", pooled(runs, gaps), ""]
        parts += [verdict(runs), ""]
        parts += ["**How many orders are enough**: predictions equal to the reference's, percent."]
        parts += ["", pooled(runs, agreed), ""]
        parts += ["<details><summary>Each M by itself: agreement, then accuracy</summary>", ""]
        parts += [agreements(runs, names), "", accuracies(runs, names), "", "</details>", ""]
        parts += ["**Memory cells a sample** of one prediction; adaptive: the mean.", ""]
        parts += [states(runs), ""]
    if times:
        parts += ["**CPU time**, median (lowest to highest) of ratios measured in turn: a"]
        parts += ["prediction from encoded features to one pass along the last order, and a"]
        parts += ["training epoch, alternating to joint.", "", seconds(times), ""]
    return "\n".join(parts).strip()


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
    return table(["orders", *columns], rows)


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
    return table(["data", "M", "reference %", *names], rows)


def agreements(runs: Sequence[Line], names: Sequence[str]) -> str:
    """A row an M."""
    rows, names = [], present(runs, names)
    for data, size, found in groups(runs):
        row = [data, str(size)]
        for name in names:
            agreed = told(interval(numbers(found, name, AGREEMENT)), 1, 100)
            row.append(agreed if differs(found, name) else "all orders")
        rows.append(row)
    return table(["data", "M", *names], rows)


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
        rows.append(row)
    return table(["data", "M", *names], rows)


def seconds(times: Sequence[Line]) -> str:
    """A row an M."""
    names = ["reference", "cyclic", "per_sample", "sampled 8", "sampled 64", "adaptive 64"]
    rows = []
    for line in times:
        row = [str(line["modalities"])]
        for name in names:
            row.append(told(line["predictions"][name], 1) if name in line["predictions"] else "–")
        rows.append([*row, told(line["epoch"])])
    return table(["M", "hybrid", *names[1:], "epoch, alternating / joint"], rows)


def figure(runs: Sequence[Line], times: Sequence[Line]) -> bytes:
    """Agreement and accuracy against orders, cost of predictions and of training against M."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plot, axes = plt.subplots(2, 2, figsize=(9, 7.4), dpi=110, layout="constrained")
    draw_orders(axes[0][0], runs)
    draw_gaps(axes[0][1], runs)
    draw_predictions(axes[1][0], times)
    draw_epochs(axes[1][1], times)
    buffer = BytesIO()
    plot.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(plot)
    return buffer.getvalue()


def bars(ax: Any, x: Sequence[float], found: Sequence[Interval], **style: Any) -> None:
    """Estimates with their intervals."""
    ends = [[abs(one[k] - one[0]) for one in found] for k in (1, 2)]
    ax.errorbar(x, [one[0] for one in found], ends, capsize=2, lw=1.3, ms=4, **style)


def draw_orders(ax: Any, runs: Sequence[Line]) -> None:
    """Predictions that agree with the reference, against the number of orders."""
    drawn = [x for x in groups(runs) if x[:2] in (("synthetic", 4), ("synthetic", 6),
             ("synthetic", 8), ("synthetic", 10), ("mfeat", 4), ("mfeat", 6))]  # fmt: skip
    for number, (data, size, found) in enumerate(drawn):
        names = ["memory_guided", *(n for n in found[0]["strategies"] if n.startswith("sampled"))]
        names = [name for name in names if differs(found, name)]
        agreed = [interval([100 * x for x in numbers(found, name, AGREEMENT)]) for name in names]
        orders = [numbers(found, name, ORDERS)[0] for name in names]
        style = "--" if data == "mfeat" else "-"
        bars(ax, orders, agreed, color=COLOURS[number], ls=style, marker="o",
             label=f"{data}, M={size}")  # fmt: skip
    ax.set(xscale="log", xlabel="orders averaged (1: memory_guided)")
    ax.set_xticks([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64])
    ax.minorticks_off()
    ax.set_ylabel("predictions equal to all (or 512) orders, %")
    ax.legend(fontsize=8, frameon=False)


def draw_gaps(ax: Any, runs: Sequence[Line]) -> None:
    """Accuracy less that of the reference, against M, synthetic data."""
    own = [(size, found) for data, size, found in groups(runs) if data == "synthetic"]
    for number, name in enumerate(SHOWN):
        if name not in present(runs, SHOWN):
            continue
        found = [(size, gap(lines, name)) for size, lines in own if differs(lines, name)]
        bars(ax, [size + 0.11 * (number - 2) for size, _ in found], [x for _, x in found],
             color=COLOURS[number], ls="", marker="osD^v"[number], label=name)  # fmt: skip
    ax.axhline(0, color="0.45", lw=0.9, ls="--", zorder=0)
    ax.set(xlabel="modalities (synthetic)", ylabel="accuracy less that of the reference, points")
    ax.legend(fontsize=8, frameon=False, ncols=2)


def draw_predictions(ax: Any, times: Sequence[Line]) -> None:
    """Seconds of predictions to those of one pass."""
    names = ("reference", "cyclic", "per_sample", "sampled 8", "sampled 64", "adaptive 64")
    for number, name in enumerate(names):
        found = [(x["modalities"], x["predictions"].get(name)) for x in times]
        found = [(size, ends) for size, ends in found if ends]
        bars(ax, [size for size, _ in found], [ends for _, ends in found], color=COLOURS[number],
             marker="osD^vP"[number],
             label="hybrid" if name == "reference" else name)  # fmt: skip
    ax.set(yscale="log", xlabel="modalities", ylabel="CPU time of a prediction / one pass")
    ax.set_yticks([1, 2, 5, 10, 20, 50, 100, 200], [1, 2, 5, 10, 20, 50, 100, 200])
    ax.legend(fontsize=8, frameon=False)


def draw_epochs(ax: Any, times: Sequence[Line]) -> None:
    """Seconds of an alternating epoch to those of a joint one."""
    sizes = [line["modalities"] for line in times]
    bars(ax, sizes, [line["epoch"] for line in times], color=COLOURS[0], marker="o",
         label="measured")  # fmt: skip
    ax.plot(sizes, sizes, color="0.45", ls="--", lw=0.9, label="M steps for one")
    ax.set(xlabel="modalities (MLP encoders)", ylabel="epoch, alternating / joint")
    ax.legend(fontsize=8, frameon=False)
