"""When the method helps: differences by setting, and a rule found on some and tested on others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean

from engine.figure import COLOURS, GREY
from engine.numbers import MEASURES, Estimate, Line, difference, estimate, percent, table_of
from engine.page import markdown
from engine.sweep import Sweep
from matplotlib.figure import Figure

OURS = "shapley memory"
FOUND_ON = 8
"""Settings that the rule is found on, the first of the sweep; the others test it."""
Rows = Mapping[str, Sequence[Line]]


def kept_when_missing(line: Line) -> float | None:
    return percent(line["validation"]["proper_mean"])


def gained(rows: Rows, reference: str) -> float:
    """Ours less the reference's accuracy with modalities missing, validation, mean, points."""
    return difference(rows[OURS], rows[reference], kept_when_missing).mean


def gaps(rows: Rows, reference: str) -> dict[str, Estimate]:
    """Ours less the reference, by measure, on the test part."""
    return {
        name: difference(rows[OURS], rows[reference], MEASURES[name])
        for name in ("accuracy", "EDM %", "missing", "NLL")
    }


def first(sweep: Sweep) -> list[str]:
    """The settings that the rule is found on."""
    return [data.name for data in sweep.data[:FOUND_ON]]


def helps(rows: Rows, reference: str) -> bool:
    """More accurate with modalities missing (interval above 0), and not less without."""
    gap = gaps(rows, reference)
    return gap["missing"].low > 0 and gap["accuracy"].high >= 0


def found_rule(train: Mapping[str, Rows], reference: str) -> tuple[float, int]:
    """The threshold on `gained` that errs least, and how often it errs.

    Of equals the one in the widest gap; 1 above the largest value where no setting is helped.
    """
    right = {d: helps(rows, reference) for d, rows in train.items()}
    value = {d: gained(rows, reference) for d, rows in train.items()}
    ordered = sorted(value.values())
    cuts = [ordered[0] - 1, *map(mean, itertools.pairwise(ordered)), ordered[-1] + 1]

    def errs(cut: float) -> tuple[int, float]:
        wrong = sum((value[d] > cut) != right[d] for d in train)
        return wrong, -min(abs(v - cut) for v in ordered)

    best = min(cuts, key=errs)
    return best, errs(best)[0]


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """A line a setting, then the rule and how it does."""
    found, reference = table_of(lines), sweep.reference
    train = {d: rows for d, rows in found.items() if d in first(sweep)}
    cut, wrong = found_rule(train, reference)
    body, right = [], []
    for data, rows in found.items():
        gap = gaps(rows, reference)
        base = estimate(map(MEASURES["accuracy"], rows[reference]))
        edm = estimate(line["validation"]["edm"] for line in rows[reference])
        on = gained(rows, reference) > cut
        if data not in train:
            right.append(on == helps(rows, reference))
        told = [f"**{g.text()}**" if g.apart else g.text() for k, g in gap.items() if k != "NLL"]
        nll = gap["NLL"]
        told.append(f"**{nll.text(2)}**" if nll.apart else nll.text(2))
        said = ["yes" if helps(rows, reference) else "no", "on" if on else "off"]
        body.append([data, base.text(), edm.text(0), *told, *said])
    head = ["setting", f"{reference}, accuracy", "its EDM, validation"]
    head += [f"{OURS} less it: accuracy", "EDM %", "missing", "NLL", "helps", "the rule says"]
    tested = len(found) - len(train)
    return "\n".join(
        [
            markdown(head, body),
            "It helps where it is more accurate with modalities missing (interval above 0) and "
            "not less accurate without (interval not below 0). Rule, the best threshold on the "
            f"first {len(train)} settings ({wrong} of them wrong): leave the method on where it "
            f"gains more than {cut:.1f} points on validation with modalities missing. On the "
            f"{tested} settings that it was not found on it is right in {sum(right)}.\n\n"
            f"{4 * len(found)} comparisons; bold: the bootstrap interval over 10 pairs leaves 0 "
            "out, which one in twenty does by chance.\n",
        ]
    )


def figure(lines: Sequence[Line], sweep: Sweep) -> Figure:
    """Differences in accuracy, EDM and missing accuracy, by setting."""
    found = table_of(lines)
    drawn = Figure(figsize=(10, 0.28 * len(found) + 1), layout="constrained")
    axes = drawn.subplots(1, 3, sharey=True)
    for ax, name in zip(axes, ("accuracy", "EDM %", "missing"), strict=True):
        for place, (data, rows) in enumerate(found.items()):
            value = difference(rows[OURS], rows[sweep.reference], MEASURES[name])
            colour = COLOURS[0] if data in first(sweep) else COLOURS[1]
            ax.plot([value.low, value.high], [place, place], color=colour, lw=1.8)
            ax.plot(value.mean, place, "o", color=colour, ms=4.5)
        ax.axvline(0, color=GREY, lw=0.8, ls="--")
        ax.set_title(f"{OURS} − {sweep.reference}: {name}", fontsize=9)
        ax.grid(axis="x", color="#e4e4e4")
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(found)), list(found), fontsize=8)
    axes[0].invert_yaxis()
    return drawn
