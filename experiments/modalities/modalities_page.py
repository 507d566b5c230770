"""The tables and the figure of four and more modalities, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from spread import Interval, interval, replaced, table, told

from mmeq.files import write_bytes, write_text

Line = dict[str, Any]
ACCURACY, AGREEMENT, ORDERS, CELLS = range(4)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which the colour-blind tell apart."""
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
    """Accuracy less that of the reference, paired by run, in points."""
    pairs = zip(*(numbers(found, x, ACCURACY) for x in (name, "reference")), strict=True)
    return interval([100 * (a - b) for a, b in pairs])


def differs(found: Sequence[Line], name: str) -> bool:
    """Whether a strategy looks at other orders than the reference."""
    return numbers(found, name, ORDERS) != numbers(found, "reference", ORDERS) or name in (
        "per_sample",
    )


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
        strategies = [name for name in runs[0]["strategies"] if name != "reference"]
        parts += ["**Accuracy**: of the mean over all M! orders (M ≤ 6) or 512 orders, and paired"]
        parts += ["differences to it, in points.", "", accuracies(runs), "", verdict(runs), ""]
        parts += ["**How many orders**: predictions that agree with the reference, in percent."]
        parts += ["", agreements(runs, SHOWN), ""]
        parts += ["<details><summary>All strategies: agreement and accuracy</summary>", ""]
        parts += [agreements(runs, strategies), "", accuracies(runs, strategies), ""]
        parts += ["</details>", ""]
        parts += ["**Memory cells a sample** of one prediction; adaptive: the mean.", ""]
        parts += [states(runs), ""]
    if times:
        parts += ["**CPU time**, median (lowest to highest) of ratios measured in turn: a"]
        parts += ["prediction from encoded features to one pass along the last order, and a"]
        parts += ["training epoch, alternating to joint.", "", seconds(times), ""]
    return "\n".join(parts).strip()


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
    found = list(compared(runs))
    beyond = [x for x in found if star(x[3])]
    means = [x[3][0] for x in found]
    half = sorted((high - low) / 2 for *_, (_, low, high) in found)
    return (
        f"{len(found)} comparisons with the reference (all strategies), {0.05 * len(found):.0f} of "
        f"whose 95 % intervals miss 0 by chance; {len(beyond)} exclude it (\\*), "
        f"{sum(x[3][0] < 0 for x in beyond)} below. Differences are {min(means):+.2f} to "
        f"{max(means):+.2f} points, half widths of the intervals {half[0]:.2f} to {half[-1]:.2f}."
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
