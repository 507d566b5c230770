"""How far several ranks are from one process on the same global batches, for every method.

Trains the cases of ``tests/e2e/equal.py`` by one process, by two and by three, with and without
gaps; the largest differences go into results.json and, as a table, into README.md.
``python experiments/ddp/run.py``, some four minutes on two cores.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path

import lightning
import torch

from mmeq.files import read_lines, write_text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from e2e import equal  # noqa: E402 - of the tests, which have no package
from e2e.running import Warm, difference  # noqa: E402

MARK = "<!-- table -->"
RANKS = (2, 3)
SHOWN = ("gradients", "weights", "phi", "edm", "accuracy", "order")


def measured(place: Path) -> dict[str, dict[str, dict[str, float | bool]]]:
    """Case → number of ranks → largest differences, over data with and without gaps."""
    trees, warm = equal.composed(equal.CASES), Warm()
    rows: dict[str, dict[str, dict[str, float | bool]]] = {name: {} for name in trees}
    for gaps in (False, True):
        for ranks in (1, *RANKS):
            equal.run(warm, place / f"{ranks}-{gaps}", trees, ranks, gaps=gaps)
        for ranks in RANKS:
            for name, row in rows.items():
                [one] = equal.held(place / f"1-{gaps}", name, 1)
                each = equal.held(place / f"{ranks}-{gaps}", name, ranks)
                found = equal.compared(each[0], one, ranks)
                alike = all(difference(each[0]["weights"], x["weights"]) is None for x in each)
                past = row.get(str(ranks), {"alike": True})
                row[str(ranks)] = {
                    **{key: max(value, past.get(key, 0.0)) for key, value in found.items()},
                    "alike": alike and past["alike"],
                }
    warm.close()
    return rows


def table(rows: dict[str, dict[str, dict[str, float | bool]]]) -> list[str]:
    """A line a case and number of ranks."""
    head = ["method or case", "ranks", "gradients", "weights", "φ", "EDM", "accuracy", "order"]
    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        for ranks, found in row.items():
            values = [f"{found[key]:.0e}" if found[key] else "equal" for key in SHOWN]
            lines.append([name, ranks if found["alike"] else f"{ranks}, unlike", *values])
    return ["", *("| " + " | ".join(line) + " |" for line in lines)]


def main() -> None:
    """Train all, write results.json and the table."""
    with tempfile.TemporaryDirectory() as place:
        rows = measured(Path(place))
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {"lightning": lightning.__version__, "backend": "gloo", "device": "cpu"}
    base = [*equal.BASE, f"global batch: {equal.BATCH}", f"gaps: {equal.GAPS}"]
    told = {"environment": versions, "base": base, "cases": equal.CASES, "largest": rows}
    write_text(HERE / "results.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    before = read_lines(HERE / "README.md")
    kept = before[: before.index(MARK) + 1]
    write_text(HERE / "README.md", "\n".join([*kept, *table(rows)]) + "\n")


if __name__ == "__main__":
    main()
