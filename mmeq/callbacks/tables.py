"""What a person reads of a report: pure functions from its entry to lines and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

Entry = Mapping[str, Any]
PERCENT = ("accuracy", "macro_f1")
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "nll": "NLL"}
BAR = 20  # characters of the bar of a modality's share
SHOWN = 63  # coalitions listed in full: six modalities


def number(value: float | None, metric: str, unit: bool = True) -> str:
    """Return a metric as printed: accuracy and F1 in percent, others as they are; NaN ``n/a``.

    Examples:
        >>> number(0.8421, "accuracy"), number(0.5, "nll"), number(None, "accuracy")
        ('84.2 %', '0.500', 'n/a')
    """
    if value is None:
        return "n/a"
    if metric == "edm":
        return f"{value:.1f} %" if unit else f"{value:.1f}"
    if metric not in PERCENT:
        return f"{value:.3f}"
    return f"{100 * value:.1f} %" if unit else f"{100 * value:.1f}"


def interval(entry: Entry, metric: str) -> str:
    """Return ``value (low … high)``."""
    low, high = (number(entry[end], metric, unit=False) for end in ("low", "high"))
    return f"{number(entry['value'], metric)} ({low} … {high})"


def shares(entry: Entry) -> dict[str, float | None]:
    """Return each modality's share of the clipped Shapley values; None where the sum is 0."""
    clipped = {name: max(phi["value"] or 0.0, 0.0) for name, phi in entry["phi"].items()}
    total = sum(clipped.values())
    return {name: value / total if total > 1e-12 else None for name, value in clipped.items()}


def share_bar(share: float | None, fair: float) -> Text:
    """Draw a share as a bar, with a mark at the fair share 1/M; its colour says how far it is off.

    Full length is twice the fair share (or all, for two modalities), so that the mark stands in the
    middle: in balance every bar ends at the mark.
    """
    if share is None:
        return Text("n/a")
    mark = BAR // 2
    halves = min(round(share / fair * BAR), 2 * BAR)
    off = abs(share - fair) / fair
    colour = "green" if off < 0.15 else "yellow" if off < 0.5 else "red"
    bar = Text()
    for place in range(BAR):
        if place == mark:
            bar.append("│", style="bold")
        left = halves - 2 * place
        cell = "█" if left >= 2 else "▌" if left == 1 else "░"
        bar.append(cell, style="dim" if cell == "░" else colour)
    bar.append(f" {100 * share:5.1f} %", style=colour)
    return bar


def _table(*heads: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", width=1)
    for head, side in heads:
        table.add_column(head, justify=side)  # type: ignore[arg-type]
    return table


def modality_table(entry: Entry, order: Sequence[str] = (), following: Sequence[str] = ()) -> Table:
    """Return the table of modalities: alone, φ with its interval, share, place now → next.

    The order's head tells how certain the ranking by φ is (`mmeq.game.certainty`).
    """
    game = entry["game"]
    part = shares(entry)
    heads = [("modality", "left"), ("alone", "right"), ("φ (95 % interval)", "left")]
    heads.append((f"share (│ fair: {100 / len(part):.0f} %)", "left"))
    if order:
        certainty = (entry.get("subset") or entry).get("certainty", {}).get("order")
        sure = "" if certainty is None else f" ({100 * certainty:.0f} % certain)"
        heads.append((f"order{sure}", "left"))
    table = _table(*heads)
    for name, phi in entry["phi"].items():
        row: list[Any] = [
            "",
            Text(name, style="bold", overflow="ellipsis"),
            number(entry["values"][name][game], game),
            interval(phi, game),
            share_bar(part[name], 1 / len(part)),
        ]
        if order:
            now, then = order.index(name) + 1, (following or order).index(name) + 1
            place = Text(str(now))
            if then != now:
                place.append(f" → {then}", style="bold cyan")
            row.append(place)
        table.add_row(*row)
    return table


def subset_text(entry: Entry) -> str:
    """Say what setting the order by a part of the validation samples costs; empty without one.

    Examples:
        >>> whole, part = {"order": 0.62}, {"samples": 80, "certainty": {"order": 0.3}}
        >>> subset_text({"certainty": whole, "subset": part})
        'order by 80 samples 30 % certain, by all 62 %'
    """
    part = entry.get("subset")
    if not part:
        return ""
    shares = [found["certainty"]["order"] for found in (part, entry)]
    if None in shares:
        return ""
    few, whole = (f"{100 * share:.0f} %" for share in shares)
    return f"order by {part['samples']} samples {few} certain, by all {whole}"


def epoch_line(
    entry: Entry, *, label: str, losses: Mapping[str, float], time: str, best: bool
) -> list[Text]:
    """Return the epoch's head line and its losses."""
    game = entry["game"]
    head = Text(overflow="fold")
    head.append(label, style="bold")
    for metric in dict.fromkeys(("accuracy", game)):
        head.append(f"  {metric} ").append(interval(entry[metric], metric), style="bold")
    head.append("  EDM ").append(interval(entry["edm"], "edm"), style="bold")
    if best:
        head.append("  ★ best", style="bold green")
    named = [f"{name} {value:.4f}" for name, value in losses.items()]
    subset = [text] if (text := subset_text(entry)) else []
    tail = Text(
        "  " + " · ".join([*(["loss " + ", ".join(named)] if named else []), *subset, time])
    )
    tail.stylize("dim")
    return [head, tail]


def test_lines(entry: Entry, title: str) -> list[Text | Table]:
    """Return the final table: metrics with intervals, modalities, every coalition."""
    head = Text(title, style="bold")
    table = _table(("", "left"), ("value (95 % interval)", "left"))
    for metric, name in ({entry["game"]: entry["game"]} | METRICS).items():
        table.add_row("", name, interval(entry[metric], metric))
    normalised = number(entry["edm"]["normalised"], "macro_f1")
    edm = f"{interval(entry['edm'], 'edm')}; {normalised} of the worst case"
    table.add_row("", "EDM", edm)
    estimator = entry.get("estimator", {})
    if estimator.get("name", "exact") != "exact":
        how = estimator["reason"] or f"{estimator['name']}, as chosen"
        table.add_row("", "φ estimated", f"{how} ({estimator['evaluations']} coalitions)")
    if entry["proper_mean"] is not None:
        table.add_row("", "accuracy, mean of parts", number(entry["proper_mean"], "accuracy"))
    return [head, table, Text(), modality_table(entry), Text(), *coalition_table(entry)]


def coalition_table(entry: Entry) -> list[Text | Table]:
    """Return the metrics of every coalition by size; beyond six modalities of the telling ones."""
    names = list(entry["phi"])
    game = entry["game"]
    rows = [(key.split("+") if key != "none" else [], key) for key in entry["values"]]
    rows.sort(key=lambda row: len(row[0]))  # stable: the binary order stays within a size
    metrics = METRICS | ({} if game in METRICS else {game: game})
    skipped = len(rows) - 1 > SHOWN
    if skipped:
        rows = [row for row in rows if len(row[0]) in (0, 1, len(names) - 1, len(names))]
    table = _table(
        ("coalition", "left"),
        *((name, "right") for name in metrics.values()),
        (f"95 % interval ({game})", "left"),
    )
    for members, key in rows:
        values = entry["values"][key]
        label = key if members else "none (best constant)"
        if len(names) > 3 and len(members) == len(names) - 1:
            label = "all but " + next(name for name in names if name not in members)
        elif len(names) > 3 and len(members) == len(names):
            label = "all"
        ends = [number(values[end], game, unit=False) for end in ("low", "high")]
        table.add_row(
            "",
            Text(label, style="bold" if len(members) == len(names) else ""),
            *(number(values[metric], metric) for metric in metrics),
            "" if ends == ["n/a", "n/a"] else " … ".join(ends),
        )
    note = f"  {len(entry['values'])} coalitions in all; the others are in results.json"
    return [table, *([Text(note, style="dim")] if skipped else [])]
