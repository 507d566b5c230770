"""When the method helps: differences by setting, and a rule found on some and tested on others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from engine.figure import COLOURS, GREY
from engine.numbers import MEASURES, Estimate, Line, difference, estimate, table_of
from engine.page import markdown
from engine.sweep import Sweep
from matplotlib.figure import Figure

OURS = "shapley memory"
FOUND_ON = 8
"""Settings that the rule is found on, the first of the sweep; the others test it."""
Rows = Mapping[str, Sequence[Line]]


def synergy(line: Line) -> float:
    """What is lost by knowing no modality together, in points of validation accuracy.

    The full coalition's Shapley sum less what the best modality brings alone is not in a line;
    the proper coalitions' mean is: v(N) − mean of v over proper coalitions.
    """
    value = line["validation"]
    return 100 * (value["accuracy"] - value["proper_mean"])


FEATURES = {
    "EDM of joint concat, validation": ("joint concat", lambda line: line["validation"]["edm"]),
    "v(N) − proper mean of ours, validation": (OURS, synergy),
    "ours − joint concat, validation": ("", None),
}
"""What a rule may look at: validation alone."""


def feature(rows: Rows, name: str, reference: str) -> float:
    """A feature's mean over runs."""
    row, of = FEATURES[name]
    if of is None:
        return difference(rows[OURS], rows[reference], MEASURES["validation"]).mean
    return estimate(map(of, rows[row])).mean


def gaps(rows: Rows, reference: str) -> dict[str, Estimate]:
    """Ours less the reference, by measure, on the test part."""
    return {
        name: difference(rows[OURS], rows[reference], MEASURES[name])
        for name in ("accuracy", "EDM %", "missing", "NLL")
    }


def found_rule(train: Mapping[str, Rows], reference: str) -> tuple[str, float, int]:
    """The feature and threshold, leaving off where it lies beyond, that errs least in sign.

    A setting counts as hurt where the mean test difference in accuracy is below 0. Of equals the
    first feature in the list and the threshold in the widest gap.
    """
    hurt = {d: gaps(rows, reference)["accuracy"].mean < 0 for d, rows in train.items()}
    best: tuple[int, float, str, float] | None = None
    for name in FEATURES:
        sign = -1.0 if name.startswith("ours") else 1.0
        value = {d: sign * feature(rows, name, reference) for d, rows in train.items()}
        ordered = sorted(value.values())
        cuts = [(a + b) / 2 for a, b in itertools.pairwise(ordered)]
        cuts = [ordered[0] - 1, *cuts, ordered[-1] + 1]
        for cut in cuts:
            wrong = sum((value[d] > cut) != hurt[d] for d in train)
            room = min(abs(v - cut) for v in ordered)
            if best is None or (wrong, -room) < (best[0], -best[1]):
                best = (wrong, room, name, sign * cut)
    assert best is not None
    return best[2], best[3], best[0]


def says_off(rows: Rows, rule: tuple[str, float, int], reference: str) -> bool:
    """Whether the rule leaves the method off."""
    name, cut, _ = rule
    value = feature(rows, name, reference)
    return value < cut if name.startswith("ours") else value > cut


def first(sweep: Sweep) -> list[str]:
    """The settings that the rule is found on."""
    return [data.name for data in sweep.data[:FOUND_ON]]


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """A line a setting, then the rule and how it does."""
    found, reference = table_of(lines), sweep.reference
    train = {d: rows for d, rows in found.items() if d in first(sweep)}
    rule = found_rule(train, reference)
    body, right = [], []
    for data, rows in found.items():
        gap = gaps(rows, reference)
        base = estimate(map(MEASURES["accuracy"], rows[reference]))
        edm = estimate(line["validation"]["edm"] for line in rows[reference])
        off = says_off(rows, rule, reference)
        if data not in train:
            right.append(off == (gap["accuracy"].mean < 0))
        told = [f"**{g.text()}**" if g.apart else g.text() for k, g in gap.items() if k != "NLL"]
        nll = gap["NLL"]
        told.append(f"**{nll.text(2)}**" if nll.apart else nll.text(2))
        body.append([data, base.text(), edm.text(0), *told, "off" if off else "on"])
    head = ["setting", f"{reference}, accuracy", "its EDM, validation"]
    head += [f"{OURS} less it: accuracy", "EDM %", "missing", "NLL", "the rule says"]
    name, cut, wrong = rule
    side = "below" if name.startswith("ours") else "above"
    tested = len(found) - len(train)
    return "\n".join(
        [
            markdown(head, body),
            f"Rule, the best of one threshold on one of {len(FEATURES)} validation figures on the "
            f"first {len(train)} settings ({wrong} of them wrong in sign): leave the method off "
            f"where “{name}” is {side} {cut:.1f}. On the {tested} settings that it was not found "
            f"on it is right in {sum(right)}.\n\n"
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
