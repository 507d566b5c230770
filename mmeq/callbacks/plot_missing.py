"""The figure of missing modalities as a pure function: its table in, a Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from mmeq.callbacks.plotting import COLOURS, colour, styled

Entry = Mapping[str, Any]


def _accuracies(entries: Sequence[Entry]) -> np.ndarray:
    """Values, lower and upper ends in percent: [3, K]."""
    keys = ("value", "low", "high")
    return 100 * np.asarray([[entry["accuracy"][key] for entry in entries] for key in keys])


@styled
def plot_missing(table: Mapping[str, Any]) -> Figure:
    """Draw accuracy against the rate of random absence, and each modality removed or left alone.

    Args:
        table: of `mmeq.game.missing.missing_table`.
    """
    names = list(table["unequal"][0]["rates"]) if table["unequal"] else _names(table)
    height = max(4.5, 2.5 + 0.36 * len(names))
    figure = Figure(figsize=(10.5, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _rates(left, table)
    _modalities(right, table, names)
    for axes in (left, right):
        _legend(axes, height)
    return figure


def _names(table: Mapping[str, Any]) -> list[str]:
    seen = dict.fromkeys(n for e in table["patterns"] for n in (*e["present"], *e["absent"]))
    return list(seen)


def _rates(axes: Axes, table: Mapping[str, Any]) -> None:
    entries = [{"rate": 0.0, "accuracy": table["full"], "mask_sd": 0.0}, *table["rates"]]
    entries = sorted(entries, key=lambda entry: entry["rate"])
    rates = 100 * np.asarray([entry["rate"] for entry in entries])
    value, low, high = _accuracies(entries)
    axes.fill_between(rates, low, high, color=COLOURS[0], alpha=0.15, lw=0,
                      label="95 % interval (samples)")  # fmt: skip
    spread = 196 * np.asarray([entry["mask_sd"] for entry in entries])
    axes.plot(rates, value, color=COLOURS[0], marker="o", lw=1.8, ms=5, clip_on=False,
              label="all modalities equally")  # fmt: skip
    for end, label in ((value - spread, "95 % of draws of the gaps"), (value + spread, None)):
        axes.plot(rates, end, color=COLOURS[0], lw=0.9, ls=":", label=label)
    shapes = {"the strong are absent more often": "v", "the weak are absent more often": "^"}
    for k, entry in enumerate(table["unequal"]):
        shown = _accuracies([entry])[:, 0]
        rate = 100 * float(np.mean(list(entry["rates"].values()))) + 1.2 * (k % 2) - 0.6
        shape, shade = shapes.get(entry["case"], "D"), COLOURS[3 + k % 4]
        axes.errorbar(
            [rate], shown[:1], [[shown[0] - shown[1]], [shown[2] - shown[0]]], color=shade,
            marker=shape, ms=8, lw=1.3, ls="none", label=_title(entry),
        )  # fmt: skip
    mean = 100 * table["mean"]["value"]
    axes.axhline(mean, color="#555555", ls="--", lw=1.2, label="mean of all fixed patterns")
    axes.set_xlim(0, max(rates[-1], 1))
    axes.xaxis.set_major_locator(MultipleLocator(10))
    axes.set_xlabel("rate of absence (%), one modality kept")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("Modalities missing at random", pad=16)


def _legend(axes: Axes, figure_height: float) -> None:
    below = -0.5 / (figure_height - 1.8)  # half an inch under the axes
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, below), ncols=2)


def _title(entry: Entry) -> str:
    if entry["case"] != "as given":
        return str(entry["case"])
    named = ", ".join(f"{name} {100 * rate:g} %" for name, rate in entry["rates"].items() if rate)
    return shorten(named, 34, placeholder=" …")


def _modalities(axes: Axes, table: Mapping[str, Any], names: Sequence[str]) -> None:
    count = len(names)
    removed = {e["absent"][0]: e for e in table["patterns"] if e["missing"] == 1}
    alone = {e["present"][0]: e for e in table["patterns"] if e["missing"] == count - 1}
    full = table["full"]
    axes.axvspan(100 * full["low"], 100 * full["high"], color="#DDDDDD", alpha=0.6, lw=0)
    axes.axvline(100 * full["value"], color="#555555", ls="--", lw=1.2)
    axes.annotate(
        "all", (100 * full["value"], 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
        textcoords="offset points", ha="center", va="bottom", fontsize=8, color="#555555",
    )  # fmt: skip
    for m, name in enumerate(names):
        for entry, shift, filled in ((removed[name], -0.14, True), (alone[name], 0.14, False)):
            value, low, high = _accuracies([entry])[:, 0]
            axes.errorbar(
                [value], [m + shift], xerr=[[value - low], [high - value]], color=colour(m),
                marker="o", ms=7, mfc=colour(m) if filled else "white", lw=1.5, ls="none",
            )  # fmt: skip
    for filled, label in ((True, "without it"), (False, "it alone")):
        axes.plot([], [], "o", ms=7, color="#555555", mfc="#555555" if filled else "white",
                  label=label)  # fmt: skip
    axes.set_yticks(range(count), names)
    axes.set_ylim(count - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy (%)")
    axes.set_title("Each modality removed, and alone", pad=16)
