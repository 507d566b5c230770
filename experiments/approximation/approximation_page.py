"""The tables and the figure of Shapley approximation, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from spread import certain, interval, ratio, replaced, root, table, told

from mmeq.files import write_bytes, write_text

Line = dict[str, Any]
ESTIMATORS = ("permutation", "antithetic", "kernel", "regression_adjusted")
METRICS = {"accuracy": (100.0, 2), "edm": (1.0, 1), "proper": (100.0, 2)}
"""What a wrong order is judged by: factor and digits."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which the colour-blind tell apart."""


def write_page(folder: Path, lines: Sequence[Line]) -> None:
    """Write what the results give: the part of README.md between its marks, and figure.png."""
    noise = [line for line in lines if line["part"] == "noise"]
    orders = [line for line in lines if line["part"] == "orders"]
    page = folder / "README.md"
    write_text(page, replaced(page.read_text(encoding="utf-8"), tables(noise, orders)))
    write_bytes(folder / "figure.png", figure(noise, orders))


def names(lines: Sequence[Line], key: str = "data") -> list[str]:
    """Distinct values, in order."""
    return list(dict.fromkeys(line[key] for line in lines))


def cells(lines: Sequence[Line], value: str, part: str, **where: Any) -> list[Line]:
    """The same cell of each run."""
    return [
        one
        for line in lines
        for one in line[value][part]
        if all(one[key] == wanted for key, wanted in where.items())
    ]


def column(found: Sequence[Line], key: str) -> list[float]:
    """A number of each run."""
    return [one[key] for one in found]


def tables(noise: Sequence[Line], orders: Sequence[Line]) -> str:
    """All of them."""
    parts = []
    if noise:
        parts += ["**Estimators, v = accuracy**: the one of least RMSE at each budget.", ""]
        parts += [best(noise, "accuracy"), "", "**Validation samples, v = accuracy.**", ""]
        parts += [samples(noise, "accuracy"), ""]
        for value, unit in (("accuracy", "points"), ("nll", "0.01 nats")):
            summary = f"All estimators, v = {value} ({unit})"
            parts += [f"<details><summary>{summary}</summary>", "", every(noise, value)]
            parts += ["", samples(noise, value), "", "</details>", ""]
    if orders:
        parts += ["**Wrong orders**, test part.", "", wrong(orders), "", verdict(orders)]
    return "\n".join(parts).strip()


def modalities(lines: Sequence[Line], data: str) -> list[Line]:
    """The runs of a data set."""
    return [line for line in lines if line["data"] == data]


def errors(found: Sequence[Line], digits: int = 2) -> list[str]:
    """RMSE, bias, τ, P(weakest found)."""
    bias = column(found, "bias2")
    return [
        told(interval(column(found, "mse"), root), digits, 100),
        "–" if None in bias else told(interval(bias, root), digits, 100),
        told(interval(column(found, "tau"))),
        told(interval(column(found, "weakest"))),
    ]


def by_budget(runs: Sequence[Line], value: str) -> Iterator[tuple[int, str, list[Line]]]:
    """Budget, estimator and the cells of all runs."""
    for budget in sorted({one["budget"] for one in cells(runs, value, "budgets")}):
        for name in ESTIMATORS:
            if found := cells(runs, value, "budgets", budget=budget, estimator=name):
                yield budget, name, found


def least(runs: Sequence[Line], value: str) -> dict[int, tuple[str, list[Line]]]:
    """The estimator of least RMSE at each budget short of all coalitions."""
    best: dict[int, tuple[str, list[Line]]] = {}
    for budget, name, found in by_budget(runs, value):
        if budget == 2 ** len(runs[0][value]["phi"]):
            continue
        if budget not in best or sum(column(found, "mse")) < sum(column(best[budget][1], "mse")):
            best[budget] = name, found
    return best


def best(noise: Sequence[Line], value: str) -> str:
    """A row a budget, and the ratio of its RMSE to that of validation samples."""
    head = ["data", "budget", "estimator", "RMSE, points", "bias, points", "Kendall τ"]
    head += ["P(weakest)", "RMSE / that of 100 samples", "/ that of 400 (mfeat: all)"]
    rows = []
    for data in names(noise):
        runs = modalities(noise, data)
        sizes = names(runs[0][value]["sizes"], "samples")
        many = "all" if 400 not in sizes else 400
        for budget, (name, found) in least(runs, value).items():
            against = [cells(runs, value, "sizes", samples=n) for n in (sizes[0:3][-1], many)]
            ratios = [told(ratio(column(found, "mse"), column(x, "mse"))) for x in against]
            rows.append([data, str(budget), name, *errors(found), *ratios])
    return table(head, rows)


def every(noise: Sequence[Line], value: str) -> str:
    """A row a budget and estimator."""
    rows = [
        [data, str(budget), name, *errors(found)]
        for data in names(noise)
        for budget, name, found in by_budget(modalities(noise, data), value)
    ]
    head = ["data", "budget", "estimator", "RMSE", "bias", "Kendall τ", "P(weakest)"]
    return table(head, rows)


def samples(noise: Sequence[Line], value: str) -> str:
    """A row a number of validation samples."""
    rows = []
    for data in names(noise):
        runs = modalities(noise, data)
        for one in runs[0][value]["sizes"]:
            found = cells(runs, value, "sizes", samples=one["samples"])
            rmse, _, tau, weakest = errors(found)
            size = f"all {one['n']}" if one["samples"] == "all" else str(one["n"])
            rows.append([data, size, rmse, told(interval(column(found, "edm")), 1), tau, weakest])
    return table(["data", "samples", "RMSE", "error of EDM", "Kendall τ", "P(weakest)"], rows)


def settings(orders: Sequence[Line]) -> Iterator[tuple[str, str, dict[str, list[Line]]]]:
    """Data, loss and the runs of each rule, by seed and split, those that all rules have."""
    rules = names(orders, "rule")
    for data in names(orders):
        for supervise in names(orders, "supervise"):
            runs = {
                rule: {
                    (x["seed"], x["split"]): x
                    for x in orders
                    if (x["data"], x["supervise"], x["rule"]) == (data, supervise, rule)
                }
                for rule in rules
            }
            common = sorted(set.intersection(*map(set, runs.values())))
            if common:
                yield data, supervise, {r: [runs[r][key] for key in common] for r in rules}


def differences(
    orders: Sequence[Line],
) -> Iterator[tuple[str, str, str, dict[str, list[float]]]]:
    """Data, loss, rule and, by metric, run by run the difference to the first rule."""
    for data, supervise, runs in settings(orders):
        first, *others = runs
        for rule in others:
            pairs = list(zip(runs[rule], runs[first], strict=True))
            yield data, supervise, rule, {m: [a[m] - b[m] for a, b in pairs] for m in METRICS}


def wrong(orders: Sequence[Line]) -> str:
    """A row a setting and rule: the first one's own figures, then paired differences."""
    head = ["data", "supervise", "order", "τ to exact φ", "accuracy %", "EDM %", "missing %"]
    rows = []
    gaps = {row[:3]: row[3] for row in differences(orders)}
    for data, supervise, runs in settings(orders):
        for number, (rule, found) in enumerate(runs.items()):
            row = [data, supervise, rule, told(interval(column(found, "tau")))]
            for metric, (scale, digits) in METRICS.items():
                if number == 0:
                    row.append(told(interval(column(found, metric)), digits, scale))
                else:
                    gap = gaps[data, supervise, rule][metric]
                    row.append(told(interval(gap), digits, scale, sign=True) + stars(gap, orders))
            rows.append(row)
    return table(head, rows)


def stars(gap: Sequence[float], orders: Sequence[Line]) -> str:
    """How sure a difference is: * by itself, ** for all comparisons together."""
    _, low, high = interval(gap)
    return "*" * ((low > 0 or high < 0) + certain(gap, comparisons(orders)))


def comparisons(orders: Sequence[Line]) -> int:
    """How many differences the table of orders holds."""
    return len(METRICS) * sum(1 for _ in differences(orders))


def verdict(orders: Sequence[Line]) -> str:
    """How many there are, and of which size one would have been seen."""
    count = comparisons(orders)
    gaps = [gap for *_, gap in differences(orders)]
    ends = [interval(gap["accuracy"])[1:] for gap in gaps]
    half = sorted(50 * (high - low) for low, high in ends)
    chance = f"{0.05 * count:.1f}"
    return (
        f"{count} comparisons, about {chance} intervals of which miss 0 by chance; \\* the 95 % "
        f"interval excludes 0, \\*\\* also a t interval of level 1 − 0.05/{count}. Half widths of "
        f"the {len(gaps)} intervals of accuracy: {half[0]:.2f} to {half[-1]:.2f} points."
    )


def figure(noise: Sequence[Line], orders: Sequence[Line]) -> bytes:
    """Sampling and validation noise, what the latter does to the ranking, and wrong orders."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plot, axes = plt.subplots(2, 2, figsize=(9, 7.4), dpi=110, layout="constrained")
    for ax, data in zip(axes[0], names(noise)[-2:], strict=False):
        draw_budgets(ax, data, modalities(noise, data))
    draw_samples(axes[1][0], noise)
    draw_orders(axes[1][1], orders)
    buffer = BytesIO()
    plot.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(plot)
    return buffer.getvalue()


def draw_budgets(ax: Any, data: str, runs: Sequence[Line]) -> None:
    """RMSE against budget, and lines for the noise of validation samples."""
    for name, colour, marker in zip(ESTIMATORS, COLOURS, "osD^", strict=False):
        found = [
            (budget, interval(column(each, "mse"), root))
            for budget, estimator, each in by_budget(runs, "accuracy")
            if estimator == name and budget < 2 ** len(runs[0]["accuracy"]["phi"])
        ]
        ends = [[100 * abs(x[k] - x[0]) for _, x in found] for k in (1, 2)]
        y = [100 * x[0] for _, x in found]
        ax.errorbar(
            [b for b, _ in found], y, ends, color=colour, marker=marker, ms=4, lw=1.3, capsize=2,
            label=name.replace("_", " "),
        )  # fmt: skip
    for one in runs[0]["accuracy"]["sizes"]:
        size = one["samples"]
        if size not in (25, 100, 400, "all"):
            continue
        found = cells(runs, "accuracy", "sizes", samples=size)
        level = 100 * interval(column(found, "mse"), root)[0]
        ax.axhline(level, color="0.45", lw=0.9, ls="--", zorder=0)
        ax.text(1.0, level, f" n={one['n']}", transform=ax.get_yaxis_transform(), va="center",
                fontsize=8, color="0.3")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="coalitions evaluated", title=data)
    budgets = sorted(least(runs, "accuracy"))
    ax.set_xticks(budgets, [str(b) if b != 42 else "" for b in budgets], fontsize=8)
    ax.minorticks_off()
    ax.set_ylabel("RMSE of φ, points\n(dashed: exact φ of n validation samples)", fontsize=8.5)
    ax.legend(fontsize=8, frameon=False, loc="lower left")


def draw_samples(ax: Any, noise: Sequence[Line]) -> None:
    """P(weakest found) and τ against the number of validation samples."""
    for data, colour in zip(names(noise), COLOURS, strict=False):
        runs = modalities(noise, data)
        sizes = runs[0]["accuracy"]["sizes"]
        for key, style, what in (("weakest", "-", "P(weakest found)"), ("tau", "--", "Kendall τ")):
            found = [
                interval(column(cells(runs, "accuracy", "sizes", samples=one["samples"]), key))
                for one in sizes
            ]
            ends = [[abs(x[k] - x[0]) for x in found] for k in (1, 2)]
            ax.errorbar(
                [one["n"] for one in sizes], [x[0] for x in found], ends, color=colour, ls=style,
                marker="o", ms=3, lw=1.3, capsize=2, label=f"{data}: {what}",
            )  # fmt: skip
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="validation samples, all coalitions exact")
    ax.legend(fontsize=7.5, frameon=False, loc="lower right")


def draw_orders(ax: Any, orders: Sequence[Line]) -> None:
    """Accuracy of wrong orders less that of the right one."""
    marks: dict[tuple[str, str], Any] = {}
    rules = names(orders, "rule")[1:]
    for data, supervise, rule, gap in differences(orders):
        place = marks.setdefault((data, supervise), len(marks))
        mean, low, high = (100 * x for x in interval(gap["accuracy"]))
        y = rules.index(rule) + 0.18 * place - 0.27
        ax.errorbar(
            mean, y, xerr=[[mean - low], [high - mean]], color=COLOURS[place], marker="osD^"[place],
            ms=5, capsize=2, lw=1.3, label=f"{data}, {supervise}" if rule == rules[0] else None,
        )  # fmt: skip
    ax.axvline(0, color="0.45", lw=0.9, ls="--", zorder=0)
    ax.set_yticks(range(len(rules)), rules, fontsize=8.5)
    ax.set_ylim(len(rules) + 0.3, -0.6)
    ax.set_xlabel("test accuracy less that of the right order, points")
    if marks:
        ax.legend(fontsize=7.5, frameon=False, ncols=2, loc="lower center")
