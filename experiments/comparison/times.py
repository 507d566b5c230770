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
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra import compose, initialize_config_dir

from mmeq.config import build, conf_dir, validate
from mmeq.files import write_json, write_text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bench"))
from measure import ratio  # noqa: E402
from run import rows  # noqa: E402

MARK, END = "<!-- times -->", "<!-- /times -->"
QUIET = [f"callbacks.{name}=null" for name in ("console", "figures", "missing")]
QUIET += ["callbacks.record=null", "callbacks.predictions=null", "callbacks.monitor=null"]


class Clock(lightning.Callback):
    """Seconds of an epoch, the mean over those of a fit."""

    seconds = 0.0

    def on_train_start(self, trainer: Any, *args: Any) -> None:
        """Start."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Any, *args: Any) -> None:
        """Stop."""
        self.seconds = (time.perf_counter() - self._start) / trainer.current_epoch


def epochs_of(options: list[str], epochs: int) -> Callable[[], float]:
    """A function that trains anew and gives the seconds of an epoch."""
    given = ["dataset=mfeat", *options, f"trainer.max_epochs={epochs}", *QUIET]
    if "+experiment=paper" in given:
        given = [o for o in given if o != "+method=shapley"]
        given[given.index("+experiment=paper")] = "experiment=paper"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", given)
    validate(cfg)

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            made, clock = build(cfg, Path(folder)), Clock()
            made.trainer.callbacks.append(clock)
            made.trainer.fit(made.module, datamodule=made.datamodule)
        return clock.seconds

    return run


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    table = rows("mfeat", arguments.epochs)
    reference = epochs_of(table["joint-concat"], arguments.epochs)
    lines = [
        ratio(name, epochs_of(options, arguments.epochs), reference, arguments.repeats)
        for name, options in table.items()
        if not name.startswith("alone-") and name != "joint-concat"
    ]
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
