"""What each method's epoch costs, relative to plain joint training: measured in turn, in one run.

An epoch is what a run's is: training, the method's sweeps over the data, validation with all
coalitions. Every method trains mfeat (3 views, small encoders) for a few epochs, its schedules
scaled to them, in turn with joint training of a linear concatenation. `make times` writes
times.json and the table in README.md. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

import torch

from mmeq.files import write_json, write_text

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "bench"))
from measure import told  # noqa: E402
from methods import against_joint  # noqa: E402

MARK, END = "<!-- times -->", "<!-- /times -->"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lines = []
    for line in against_joint(arguments.epochs, arguments.repeats):
        lines.append(line)
        print(told(line), flush=True)
    made = {"torch": torch.__version__, "cores": os.cpu_count(), "epochs": arguments.epochs}
    write_json(HERE / "times.json", {"environment": made, "lines": lines})
    head = ["| row | epoch / joint concat's | range |", "|---|---|---|"]
    body = [
        f"| {line['name']} | {line['ratio']:.2f} | {line['lowest']:.2f} to {line['highest']:.2f} |"
        for line in sorted(lines, key=lambda line: line["ratio"])
    ]
    page = HERE / "README.md"
    before, _, after = page.read_text(encoding="utf-8").partition(MARK)
    after = after.partition(END)[2]
    write_text(page, f"{before}{MARK}\n\n" + "\n".join([*head, *body]) + f"\n\n{END}{after}")


if __name__ == "__main__":
    main()
