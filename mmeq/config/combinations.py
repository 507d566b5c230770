"""Options that are right by themselves and impossible together; checked by small dry builds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from mmeq.config.instantiate import instantiate
from mmeq.config.schema import MONITORS
from mmeq.config.signatures import resolve
from mmeq.errors import MmeqError, did_you_mean

Tree = dict[str, Any]
TIME = r"\d+:\d\d:\d\d:\d\d"
EPOCHS = 1000
"""Most steps of a schedule that are tried out."""


def combinations(tree: Tree, *, begun: bool = False) -> list[str]:
    """Return what cannot work in a configuration whose names and types are right.

    Args:
        tree: the configuration.
        begun: see `mmeq.config.validate.validate`.
    """
    problems = [*ranges(tree), *hardware(tree["trainer"])]
    if problems:  # what is built below would fall over these numbers
        return problems
    dataset = dry(problems, "dataset", lambda: instantiate(tree["dataset"], **roots(tree)))
    if dataset is not None:
        problems += modalities(tree, dataset)
    if not begun:
        problems += inference(tree)
    problems += optimizer(tree)
    return problems


def roots(tree: Tree) -> dict[str, Any]:
    """Return what the dataset is given at run time, if it takes it."""
    given = {key: tree.get(key) for key in ("data_root", "prepared")}
    return {key: value for key, value in given.items() if value is not None}


def dry(problems: list[str], path: str, build: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Build something small; collect its complaint and return None when it refuses."""
    try:
        return build()
    except (ValueError, TypeError, ArithmeticError) as error:
        text = str(error)
        if isinstance(error, ArithmeticError):
            text = f"one of its numbers cannot be ({text})"
        named = text.startswith((f"{path}.", f"{path}="))
        problems.append(text if named else f"{path}: {text}")
        return None


def ranges(tree: Tree) -> Iterator[str]:
    """Check the numbers that no constructor sees."""
    lowest = {
        "seed": 0,
        "workers": 0,
        "batch_size": 1,
        "backbone.dim": 1,
        "optim.accumulate": 1,
        "trainer.max_epochs": 1,
        "trainer.num_nodes": 1,
    }
    for path, least in lowest.items():
        value: Any = tree
        for key in path.split("."):
            value = value[key]
        if value < least:
            yield f"{path}={value} is too small: give {least} or more"
    clip = tree["optim"]["clip_norm"]
    if clip is not None and clip <= 0:
        yield f"optim.clip_norm={clip} stops training: give a positive number, or null for none"
    for part in ("train", "val", "test"):
        limit = tree["trainer"][f"limit_{part}_batches"]
        if limit is not None and not (limit >= 1 if isinstance(limit, int) else 0 < limit <= 1):
            yield (
                f"trainer.limit_{part}_batches={limit}: give a whole number of batches from 1, a "
                "share above 0 and up to 1.0, or null for all"
            )


def hardware(trainer: Tree) -> Iterator[str]:
    """Check how devices and time are given; whether a device is there is asked at the launch."""
    if trainer["max_time"] is not None and not re.fullmatch(TIME, trainer["max_time"]):
        yield f"trainer.max_time={trainer['max_time']!r}: give DD:HH:MM:SS, such as 00:12:00:00"
    devices = trainer["devices"]
    if isinstance(devices, str) and devices != "auto" and not devices.isdigit():
        yield f"trainer.devices={devices!r}: give a number, a list of indices, -1 or auto"
    if devices in (0, "0", []):
        yield f"trainer.devices={devices!r}: give 1 or more"


def modalities(tree: Tree, dataset: Any) -> list[str]:  # noqa: ANN401
    """Check fusion, method, inference and backbone against the dataset's modalities."""
    import torch

    from mmeq.config.caching import check_cache
    from mmeq.game.choice import check_estimator
    from mmeq.inference.build import build_strategy
    from mmeq.inference.orders import Options

    problems: list[str] = []
    names = tuple(dataset.modalities)
    count = len(names)
    encoders = tree["backbone"]["encoders"]
    for name, kind in dict(getattr(dataset, "kinds", {})).items():
        if name in names and kind not in encoders:
            problems.append(
                f"modality {name!r} of {_title(tree)} is of kind {kind!r}, which backbone "
                f"{tree['backbone']['name']!r} does not encode{did_you_mean(kind, encoders)}"
            )
    dry(problems, "inference", lambda: build_strategy(tree["inference"], range(count)))
    dry(problems, "strategy", lambda: Options(**tree.get("strategy", {})))
    dry(
        problems,
        "estimator",
        lambda: check_estimator(count, tree["estimator"], tree["budget"]),
    )
    problems += absence(tree, names)
    dry(problems, "cache", lambda: check_cache(tree.get("cache")))
    problems += checked_callbacks(tree, names)
    cls: Any = resolve(tree["method"]["_target_"])
    least = getattr(cls, "min_modalities", 1)
    most = getattr(cls, "max_modalities", None)
    if count < least or (most is not None and count > most):
        needs = f"needs {least} modalities or more" if count < least else f"is for {most} at most"
        problems.append(
            f"the method ({cls.__name__}) {needs}, and dataset.modalities "
            f"names {count} ({', '.join(names)})"
        )
        return problems
    prior = torch.full((2,), 0.5)
    dim = tree["backbone"]["dim"]
    supplied = {"modalities": names, "seed": 0, "dim": dim, "classes": 2}
    method = dry(problems, "method", lambda: instantiate(tree["method"], **supplied))
    epochs = tree["trainer"]["max_epochs"]
    if hasattr(method, "min_epochs") and epochs < method.min_epochs():
        problems.append(
            f"trainer.max_epochs={epochs}: {method.title()} with these options needs "
            f"{method.min_epochs()} or more on {count} modalities (see --cfg job, method)"
        )
    dry(
        problems,
        "fusion",
        lambda: instantiate(tree["fusion"], modalities=count, dim=dim, classes=2, prior=prior),
    )
    return problems


def inference(tree: Tree) -> Iterator[str]:
    """Find a choice of orders where none is looked at: every strategy would answer alike."""
    given = tree["inference"]
    method, fusion = (resolve(tree[group]["_target_"]) for group in ("method", "fusion"))
    why = None
    if not getattr(method, "uses_fusion", True):
        why = f"the method ({method.__name__}) answers by heads of its own: give inference=auto"
    elif not getattr(fusion, "ordered", True):
        why = (
            f"the fusion ({fusion.__name__}) has no order: give inference=auto, or a fusion that "
            "has one, such as fusion=memory"
        )
    if why is not None and given != "auto":
        yield f"inference={given} changes nothing, since {why}"


def absence(tree: Tree, names: tuple[str, ...]) -> list[str]:
    """Check the rates at which modalities shall be absent, and whom they name."""
    from mmeq.data.missing import rates_by_part
    from mmeq.game.missing import rates_by_name

    problems: list[str] = []
    dry(problems, "missing", lambda: rates_by_part(tree.get("missing"), names))
    dropout = tree.get("modality_dropout", 0.0)
    dry(problems, "modality_dropout", lambda: rates_by_name("modality_dropout", dropout, names))
    return problems


def checked_callbacks(tree: Tree, names: tuple[str, ...]) -> list[str]:
    """Build mmeq's own callbacks, which touch nothing yet; some look at the modalities too."""
    problems: list[str] = []
    supplied: Tree = {"run_dir": ".", "names": {}, "mode": "max"}
    for name, node in tree["callbacks"].items():
        watched = (node or {}).get("monitor")
        if watched is not None and watched not in MONITORS and isinstance(tree["value"], str):
            problems.append(
                f"callbacks.{name}.monitor={watched!r} is not measured"
                + did_you_mean(watched, MONITORS)
            )
        if node is None or not node["_target_"].startswith("mmeq."):
            continue
        path = f"callbacks.{name}"
        built = dry(problems, path, partial(instantiate, node, **supplied))
        if hasattr(built, "check_modalities"):
            dry(problems, path, partial(built.check_modalities, names))
    return problems


def optimizer(tree: Tree) -> list[str]:
    """Build optimizer and schedule over two numbers and let them run, so that they complain now."""
    import torch
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    problems: list[str] = []
    node, schedule = tree["optim"]["optimizer"], tree["optim"]["scheduler"]
    groups = [
        {"name": name, "params": [torch.nn.Parameter(torch.zeros(1))]} for name in ("one", "two")
    ]

    def run(built: Any) -> None:  # noqa: ANN401 - an optimizer
        scheduler = instantiate(schedule, optimizer=built)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise MmeqError(
                "ReduceLROnPlateau waits for a metric, and a schedule is stepped by the epoch "
                "alone: take another, such as torch.optim.lr_scheduler.CosineAnnealingLR"
            )
        built.step()
        for _ in range(min(tree["trainer"]["max_epochs"], EPOCHS)):
            scheduler.step()

    built = dry(problems, "optim.optimizer", lambda: instantiate(node, params=groups))
    if built is not None and schedule is not None:
        dry(problems, "optim.scheduler", lambda: run(built))
    return problems


def _title(tree: Tree) -> str:
    return str(tree["dataset"]["_target_"].rpartition(".")[2])
