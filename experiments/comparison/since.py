"""The default as it is now, beside the table that was made before it changed.

`python experiments/comparison/run.py --rows default` trains it under the table's budget, seeds and
splits; `since.py` keeps those runs in default.jsonl and pairs them with runs.csv. `--page` only
writes the table in README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from engine.numbers import Estimate, estimate  # noqa: E402
from engine.page import markdown  # noqa: E402
from engine.spread import DRAWS, ends  # noqa: E402

from mmeq.files import write_text  # noqa: E402
from mmeq.reporting.kept import keep  # noqa: E402

MARK, END = "<!-- since -->", "<!-- /since -->"
TABLES = {"brca": "brca", "emoji": "emoji", "mfeat": "mfeat"}
TABLES["mfeat150"] = "mfeat · train_size=150"
AGAINST = ("joint · concat", "shapley · memory")
BEST = "amco"
"""The best of the methods that the tables compare, by mean rank."""
NUMBERS: dict[str, tuple[str, Callable[[dict], float], float]] = {
    "accuracy": ("accuracy", lambda test: test["accuracy"], 100),
    "EDM %": ("edm", lambda test: test["edm"], 1),
    "missing": ("missing", lambda test: test["proper_mean"], 100),
    "NLL": ("nll", lambda test: test["nll"], 1),
}
"""Column → name in runs.csv, what a kept line calls it, unit."""


def table(name: str) -> list[dict[str, str]]:
    """The rows of a CSV of the comparison."""
    with (HERE / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def gap(lines: list[dict], base: dict[tuple[str, str], dict], column: str) -> Estimate:
    """Mean paired difference to an old row."""
    there, here, unit = NUMBERS[column]
    pairs = [(line, base.get((str(line["seed"]), str(line["split_seed"])))) for line in lines]
    return estimate(unit * (here(line["test"]) - float(old[there])) for line, old in pairs if old)


def rank_of(runs: list[dict[str, str]], lines: list[dict], name: str) -> tuple[float, float, float]:
    """95 % interval of a row's mean rank, and how often it is better than that of `BEST`.

    Seeds and splits are drawn with replacement, the same of all rows; of each draw the rows of a
    data set are ranked by mean accuracy, a row being as good as tied ones.
    """
    generator, total, rival = np.random.default_rng(0), np.zeros(DRAWS), np.zeros(DRAWS)
    for data, title in TABLES.items():
        row_of: dict[str, dict[tuple[str, str], float]] = {}
        for run in runs:
            if run["table"] == title and not run["row"].startswith("unimodal"):
                key = run["seed"], run["split_seed"]
                row_of.setdefault(run["row"], {})[key] = float(run["accuracy"])
        for line in lines:
            if (line["row"], line["table"]) == (name, data):
                key = str(line["seed"]), str(line["split_seed"])
                row_of.setdefault(name, {})[key] = line["test"]["accuracy"]
        keys = sorted(row_of[name])
        accuracy_RK = np.array([[here[key] for key in keys] for here in row_of.values()])
        drawn_DK = generator.integers(0, len(keys), (DRAWS, len(keys)))
        mean_RD = accuracy_RK[:, drawn_DK].mean(-1)
        for ranks, row in ((total, name), (rival, BEST)):
            ranks += 1 + (mean_RD > mean_RD[list(row_of).index(row)] + 1e-12).sum(0)
    low, high = np.percentile(total / len(TABLES), ends(len(keys)))
    return float(low), float(high), float((total < rival).mean())


def page(lines: list[dict]) -> str:
    """A line a data set and old row; then the ranks."""
    rows, runs, body, said = table("report.csv"), table("runs.csv"), [], []
    for name in dict.fromkeys(line["row"] for line in lines):
        places = []
        for data, title in TABLES.items():
            mine = [line for line in lines if (line["row"], line["table"]) == (name, data)]
            mean = sum(line["test"]["accuracy"] for line in mine) / len(mine)
            others = [r for r in rows if r["table"] == title and r["method"] != "unimodal"]
            places.append(1 + sum(float(r["accuracy"]) > mean for r in others))
            for old in AGAINST:
                base = {
                    (r["seed"], r["split_seed"]): r
                    for r in runs
                    if (r["table"], r["row"]) == (title, old)
                }
                gaps = {c: gap(mine, base, c) for c in NUMBERS}
                told = [g.text(2 if c == "NLL" else 1) for c, g in gaps.items()]
                told = [
                    f"**{t}**" if g.apart else t for t, g in zip(told, gaps.values(), strict=True)
                ]
                body.append([name, data, old, *told])
        ranked = ", ".join(f"{data} {place}" for data, place in zip(TABLES, places, strict=True))
        low, high, better = rank_of(runs, lines, name)
        said.append(
            f"- {name}: rank in test accuracy among the {len(others)} fused rows of the tables "
            f"below and itself: {ranked}; mean {sum(places) / len(places):.2f} ({low:.1f} to "
            f"{high:.1f}), above {BEST}'s in {100 * better:.0f} % of draws."
        )
    head = ["now", "data", "less", *NUMBERS]
    return markdown(head, body) + "\n" + "\n".join(said) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--page", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    kept = HERE / "default.jsonl"
    lines = [json.loads(text) for text in kept.read_text(encoding="utf-8").splitlines()]
    if not arguments.page:
        lines = [line for line in lines if line["row"] != "default"]
        found = sorted(arguments.runs.glob("table/*/default/*/results.json"))
        if not found:
            sys.exit(
                f"{arguments.runs} has no run of the default: run.py --rows default makes them"
            )
        lines = [
            *(keep(p.parent, p.parts[-4], "default", history=False) for p in found),
            *lines,
        ]
        write_text(kept, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    readme = HERE / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition(MARK)
    tail = rest.partition(END)[2]
    write_text(readme, f"{head}{MARK}\n\n{page(lines)}\n{END}{tail}")


if __name__ == "__main__":
    main()
