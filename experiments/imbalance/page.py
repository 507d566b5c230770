"""What each encoder knows, by a linear probe: trained alone, jointly, and by alternation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.figure import COLOURS
from engine.numbers import MEASURES, Estimate, Line, difference, estimate, percent, table_of
from engine.page import markdown, tables
from engine.sweep import Sweep
from matplotlib.figure import Figure

FUSED = ("joint concat", "joint memory", "shapley memory", "shapley concat")


def probe(modality: str, line: Line) -> float | None:
    return percent((line.get("probe") or {}).get(modality))


def suppressed(rows: Mapping[str, Sequence[Line]], row: str, modality: str) -> Estimate:
    """Probe of a fused model's encoder less that of the encoder trained alone, in points."""
    return difference(rows[row], rows[f"{modality} alone"], lambda line: probe(modality, line))


def modalities(rows: Mapping[str, Sequence[Line]]) -> list[str]:
    return [row.removesuffix(" alone") for row in rows if row.endswith(" alone")]


def best_alone(rows: Mapping[str, Sequence[Line]]) -> str:
    """The modality that is most accurate alone, by validation."""
    value = {m: estimate(map(MEASURES["validation"], rows[f"{m} alone"])).mean
             for m in modalities(rows)}  # fmt: skip
    return max(value, key=lambda m: value[m])


def text(lines: Sequence[Line], sweep: Sweep) -> str:
    """The page: dominant alone against fused, then probes."""
    out, compared = [], 0
    for data, rows in table_of(lines).items():
        best, body = best_alone(rows), []
        for row in FUSED:
            gap = difference(rows[row], rows[f"{best} alone"], MEASURES["accuracy"])
            body.append([f"{row} − {best} alone", gap.text()])
        for m in modalities(rows):
            alone = estimate(probe(m, line) for line in rows[f"{m} alone"])
            cells = [suppressed(rows, row, m) for row in FUSED]
            told = [f"**{c.text()}**" if c.apart else c.text() for c in cells]
            body.append([m, alone.text(), *told])
            compared += len(cells)
        fused = [[line, value] for line, value in (b for b in body if len(b) == 2)]
        probes = [b for b in body if len(b) > 2]
        compared += len(fused)
        out.append(f"### {data}\n\n{markdown(['accuracy, points', ''], fused)}")
        head = ["probe of", "alone", *(f"{row}, less alone" for row in FUSED)]
        out.append(markdown(head, probes))
    out.append(
        f"Probes: accuracy on the test part of a linear probe of the frozen encoder, fitted on the "
        f"training part; below 0 the encoder knows less than when it was trained alone. The best "
        f"modality was named by validation. {compared} comparisons, bootstrap over pairs.\n"
    )
    return "\n".join([*out, tables(lines, sweep.reference)])


def figure(lines: Sequence[Line], sweep: Sweep) -> Figure:
    """Suppression of each encoder, by row."""
    found = table_of(lines)
    drawn = Figure(figsize=(3 * len(found), 3.2), layout="constrained")
    axes = drawn.subplots(1, len(found), squeeze=False)[0]
    for ax, (data, rows) in zip(axes, found.items(), strict=True):
        names = modalities(rows)
        for shift, row in enumerate(FUSED):
            for place, m in enumerate(names):
                value = suppressed(rows, row, m)
                x = place + 0.18 * (shift - 1.5)
                ax.plot([x, x], [value.low, value.high], color=COLOURS[shift], lw=1.8)
                ax.plot(x, value.mean, "o", color=COLOURS[shift], ms=5,
                        label=row if not place else None)  # fmt: skip
        ax.axhline(0, color="#7F7F7F", lw=0.8, ls="--")
        ax.set_xticks(range(len(names)), names, fontsize=8)
        ax.set_title(data, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    axes[0].set_ylabel("probe, fused − alone (points)", fontsize=8)
    axes[-1].legend(fontsize=7, frameon=False)
    return drawn


def figures(lines: Sequence[Line], sweep: Sweep) -> dict[str, Figure]:
    """Balance as it happens: each modality's φ over the epochs, jointly and by alternation."""
    found = table_of(lines)
    shown = ("joint concat", "shapley memory")
    drawn = Figure(figsize=(2.6 * len(found), 4.6), layout="constrained")
    axes = drawn.subplots(len(shown), len(found), squeeze=False, sharex="col", sharey="col")
    for line, row in zip(axes, shown, strict=True):
        for ax, (data, rows) in zip(line, found.items(), strict=True):
            for m, name in enumerate(rows[row][0]["modalities"]):
                runs = [history["phi"][name] for r in rows[row] if (history := r.get("history"))]
                points = [
                    estimate(percent(value) for value in epoch) for epoch in zip(*runs, strict=True)
                ]
                x = range(1, len(points) + 1)
                ax.plot(x, [p.mean for p in points], color=COLOURS[m], label=name)
                low, high = [p.low for p in points], [p.high for p in points]
                ax.fill_between(x, low, high, color=COLOURS[m], alpha=0.18, lw=0)
            ax.set_title(f"{data}: {row}", fontsize=8)
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right"]].set_visible(False)
            if row == shown[0]:
                ax.legend(fontsize=6.5, frameon=False)
            else:
                ax.set_xlabel("epoch", fontsize=8)
        line[0].set_ylabel("φ on validation, points", fontsize=8)
    return {"balance": drawn}
