"""The tables of Shapley approximation, from the lines of results.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine.page import markdown
from engine.spread import certain, interval, ratio, root, told

Line = dict[str, Any]
ESTIMATORS = ("permutation", "antithetic", "kernel", "regression_adjusted")
METRICS = {"accuracy": (100.0, 2), "edm": (1.0, 1), "proper": (100.0, 2)}
"""What a wrong order is judged by: factor and digits."""


def parted(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The lines of noise, and those of orders."""
    noise, orders = ([x for x in lines if x["part"] == part] for part in ("noise", "orders"))
    return noise, orders


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
        parts += [best(noise, "accuracy"), "**Validation samples, v = accuracy.**", ""]
        parts += [samples(noise, "accuracy")]
        for value, unit in (("accuracy", "points"), ("nll", "0.01 nats")):
            summary = f"All estimators, v = {value} ({unit})"
            parts += [f"<details><summary>{summary}</summary>", "", every(noise, value)]
            parts += [samples(noise, value), "</details>", ""]
    if orders:
        parts += ["**Wrong orders**, test part.", "", wrong(orders), verdict(orders)]
    return "\n".join(parts).rstrip() + "\n"


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
    return markdown(head, rows)


def every(noise: Sequence[Line], value: str) -> str:
    """A row a budget and estimator."""
    rows = [
        [data, str(budget), name, *errors(found)]
        for data in names(noise)
        for budget, name, found in by_budget(modalities(noise, data), value)
    ]
    head = ["data", "budget", "estimator", "RMSE", "bias", "Kendall τ", "P(weakest)"]
    return markdown(head, rows)


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
    return markdown(["data", "samples", "RMSE", "error of EDM", "Kendall τ", "P(weakest)"], rows)


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
    return markdown(head, rows)


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
