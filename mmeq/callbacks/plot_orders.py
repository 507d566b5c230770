"""What a person sees of the strategies' comparison: a table and a figure, from the finding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from mmeq.callbacks.plotting import COLOURS, new_figure, numbers, styled
from mmeq.callbacks.tables import interval, number


def strategy_lines(entry: Mapping[str, Any]) -> list[Text | Table]:
    """Return the table of strategies: accuracy, part of the gap, cost; oracle and control."""
    if "note" in entry:
        return [Text(f"inference   {entry['note']}")]
    tried, reference = entry["orders"]["tried"], entry["reference"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    heads = ("", "inference", "accuracy (95 % interval)", "part of the gap closed")
    for head in heads:
        table.add_column(head)
    for head in ("orders", "cells"):
        table.add_column(head, justify="right")
    for name, row in entry["strategies"].items():
        table.add_row(
            "", Text(name, style="bold"), interval(row["accuracy"], "accuracy"),
            "–" if name == reference else _part(row["closed"]),
            f"{row['orders']:.1f}", f"{row['cells']:.1f}",
        )  # fmt: skip
    for name in ("oracle", "control"):
        label = {"oracle": "any order", "control": "… by chance"}[name]
        table.add_row("", label, interval(entry[name], "accuracy"), "", str(tried), "")
    head = Text(f"inference   {entry['samples']} samples, oracle over {tried} orders", style="bold")
    excess = Text(f"  oracle above chance {interval(entry['excess'], 'accuracy')}", style="dim")
    lines: list[Text | Table] = [head, table, excess]
    if held := entry["strategies"]["router"].get("validation"):
        lines.append(
            Text(
                f"  router, cross-fitted on validation: {number(held['accuracy'], 'accuracy')}; "
                f"plain mean {number(held['mean'], 'accuracy')}; orders disagree about the right "
                f"class on {held['mixed']} of {held['samples']}",
                style="dim",
                overflow="fold",
            )
        )
    return lines


def _part(entry: Mapping[str, Any]) -> str:
    """Return a part of the gap with its interval."""
    if entry["value"] is None:
        return "no gap"
    low, high = (number(entry[end], "accuracy", unit=False) for end in ("low", "high"))
    return f"{number(entry['value'], 'accuracy')} ({low} … {high})"


@styled
def plot_strategies(entry: Mapping[str, Any]) -> Figure:
    """Draw each strategy's accuracy with its interval and cost, beside oracle and control."""
    rows = entry["strategies"]
    figure, axes = new_figure(8, 1.7 + 0.42 * len(rows))
    places = np.arange(len(rows))
    ends = ("value", "low", "high")
    value, low, high = (
        100 * numbers([row["accuracy"][end] for row in rows.values()]) for end in ends
    )
    axes.hlines(places, low, high, color=COLOURS[0], lw=2)
    axes.scatter(value, places, color=COLOURS[0], s=42, zorder=3)
    for place, row, end in zip(places, rows.values(), high, strict=True):
        axes.annotate(
            f"{row['cells']:.0f} cells", (end, place), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8, color="#555555",
        )  # fmt: skip
    for name, label, shade in (
        ("oracle", "any order right", COLOURS[2]),
        ("control", "… by chance alone", COLOURS[4]),
    ):
        style = "-" if name == "oracle" else "--"
        axes.axvline(100 * entry[name]["value"], color=shade, lw=1.8, ls=style, label=label)
        axes.axvspan(100 * entry[name]["low"], 100 * entry[name]["high"], color=shade, alpha=0.12)
    axes.set_yticks(places, list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("accuracy (%)")
    axes.set_title("Test: inference strategies and the any-order oracle", pad=26)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    return figure
