"""Run folders written by hand, as small as a report can read. Not a test."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import yaml

from mmeq.reporting import read_folders

CONFIG = {
    "seed": 0,
    "batch_size": 64,
    "workers": 0,
    "inference": "auto",
    "missing": None,
    "value": "accuracy",
    "name": None,
    "dataset": {
        "_target_": "mmeq.data.mfeat.Mfeat",
        "modalities": ["a", "b"],
        "split_seed": 0,
        "fractions": [0.6, 0.2, 0.2],
        "train_size": None,
    },
    "backbone": {"name": "small", "dim": 64},
    "fusion": {"_target_": "mmeq.fusions.concat.Concat", "absence": "mean"},
    "method": {"_target_": "mmeq.methods.joint.Joint", "weight": 0.0},
    "optim": {
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001},
        "scheduler": {
            "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
            "T_max": 20,
            "eta_min": 0.0,
        },
    },
    "trainer": {"max_epochs": 20, "accelerator": "auto", "devices": 1},
    "callbacks": {
        "scheduler": {"_target_": "mmeq.callbacks.scheduler.ShapleyScheduler", "subset": None},
        "figures": {"_target_": "mmeq.callbacks.figures.Figures"},
    },
    "logger": {},
}


def write_run(
    folder: Path,
    accuracy: float = 0.8,
    *,
    method: str = "joint",
    fusion: str = "concat",
    seed: int = 0,
    split: int | None = 0,
    finished: bool = True,
    options: dict | None = None,
    results: dict | None = None,
    **test: object,
) -> Path:
    """A run folder; ``options`` by dotted path, ``results`` and ``test`` replace entries there."""
    config = copy.deepcopy(CONFIG)
    if method != "joint":
        config["method"] = {"_target_": f"mmeq.methods.{method}.{method.title()}"}
    config["fusion"]["_target_"] = f"mmeq.fusions.{fusion}.{fusion.title()}"
    config["seed"], config["dataset"]["split_seed"] = seed, split
    for path, value in (options or {}).items():
        *parents, leaf = path.split(".")
        node = config
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[leaf] = value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "history.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n{"torn', encoding="utf-8")
    if not finished:
        return folder
    names = config["dataset"]["modalities"]
    told = {
        "dataset": "mfeat",
        "protocol": f"stratified 60/20/20 split_seed={split}",
        "fusion": fusion,
        "method": method,
        "seed": seed,
        "split_seed": split,
        "modalities": names,
        "test": {
            "game": "accuracy",
            "accuracy": {"value": accuracy},
            "macro_f1": {"value": accuracy - 0.01},
            "nll": {"value": 1 - accuracy},
            "edm": {"value": 20.0},
            "phi": {name: {"value": (accuracy - 0.2) / len(names)} for name in names},
            "proper_mean": accuracy - 0.1,
            "values": {
                "none": {"accuracy": 0.2, "nll": 1.6, "macro_f1": 0.1},
                **{name: {"accuracy": 0.5 - 0.1 * m} for m, name in enumerate(names)},
            },
            **test,
        },
        "epochs": 20,
        "seconds": 10.0,
        **(results or {}),
    }
    (folder / "results.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def read(folder: Path) -> list:
    """The finished runs in a folder."""
    return read_folders([str(folder)]).runs
