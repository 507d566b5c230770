"""The arithmetic of `mmeq.callbacks.tuning`: spikes, drift, forgetting; plain numbers out.

Shape suffixes: T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmeq.encoders import lora

FEWEST = 5
"""Steps before a step that must be known to call it a spike."""


def spikes(norm_T: np.ndarray, spike: float, window: int) -> np.ndarray:
    """Which steps are spikes: above `spike` times the median of the `window` steps before.

    The first steps, with fewer than five before them, are none; a norm that is not finite is one.

    Examples:
        >>> spikes(np.array([1.0, 1, 1, 1, 1, 9, 2]), 3.0, 50).nonzero()[0].tolist()
        [5]
    """
    found_T = np.zeros(len(norm_T), dtype=bool)
    for t in range(min(FEWEST, window), len(norm_T)):
        before_T = norm_T[max(0, t - window) : t]
        known_T = before_T[np.isfinite(before_T)]
        found_T[t] = not norm_T[t] <= spike * (np.median(known_T) if len(known_T) else math.inf)
    return found_T


def norms_entry(
    norm_T: np.ndarray, earlier_T: np.ndarray | None, spike: float, window: int
) -> dict[str, float]:
    """Sum up an epoch's gradient norms.

    Args:
        norm_T: of its steps.
        earlier_T: of the epoch before, for the running median; None: there was none.
        spike: see `spikes`.
        window: see `spikes`.

    Returns:
        ``median``, ``max``, ``steps``, and ``spikes``: how many.
    """
    before_T = norm_T[:0] if earlier_T is None else earlier_T[-window:]
    found_T = spikes(np.concatenate([before_T, norm_T]), spike, window)[len(before_T) :]
    return {
        "median": float(np.median(norm_T)),
        "max": float(norm_T.max()),
        "spikes": int(found_T.sum()),
        "steps": len(norm_T),
    }


def body(encoder: nn.Module) -> nn.Module:
    """What is tuned of an encoder: its body, where it has one beside front end and head."""
    part = getattr(encoder, "body", None)
    return part if isinstance(part, nn.Module) else encoder


def first_weights(part: nn.Module) -> tuple[dict[str, Tensor], float]:
    """Copies of the weights that will be trained, adapters left out, and the norm of all weights.

    Adapters start as nothing, so what they add is what they change, see `drift`.
    """
    kept, square = {}, 0.0
    for key, parameter in part.named_parameters():
        if lora.is_adapter(key) or not parameter.is_floating_point():  # quantised: see `drift`
            continue
        square += float(parameter.detach().float().square().sum())
        if parameter.requires_grad:
            kept[key] = parameter.detach().cpu().clone()
    return kept, math.sqrt(square)


@torch.no_grad()
def drift(part: nn.Module, first: Mapping[str, Tensor], norm: float) -> float:
    """‖θ − θ₀‖ / ‖θ₀‖, with what adapters add to θ; ‖θ₀‖ counts no quantised weights.

    Args:
        part: the body as it is.
        first: of `first_weights`.
        norm: ‖θ₀‖.
    """
    now = dict(part.named_parameters())
    square = sum(
        float((now[key].detach().cpu().float() - was.float()).square().sum())
        for key, was in first.items()
    )
    square += sum(float(change.float().square().sum()) for change in lora.changes(part))
    return math.sqrt(square) / norm if norm else math.nan


def final(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up a run from its history; epochs without a ``tuning`` entry are left out.

    Returns:
        ``spikes`` and ``steps`` by series; ``interference`` by step and loss, the mean over steps;
        ``drift`` by modality after the last epoch; ``forgetting`` by modality: the best accuracy
        alone in any epoch less the last one.
    """
    lines = [line for line in history if "tuning" in line]
    entries = [line["tuning"] for line in lines]
    series = list(dict.fromkeys(name for entry in entries for name in entry["norms"]))
    steps: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        for stepped, changes in entry["interference"].items():
            steps.setdefault(stepped, []).append(changes)
    alone = {
        m: [line["values"].get(m, {}).get("accuracy", math.nan) for line in lines]
        for m in entries[-1]["drift"]
    }
    return {
        "norms": {
            name: {
                key: sum(entry["norms"].get(name, {}).get(key, 0) for entry in entries)
                for key in ("spikes", "steps")
            }
            for name in series
        },
        "interference": {stepped: mean_change(each) for stepped, each in steps.items()},
        "drift": entries[-1]["drift"],
        "forgetting": {m: max(values) - values[-1] for m, values in alone.items()},
    }


def mean_change(each: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of the changes of several epochs, weighted by the steps that were measured.

    A loss that is undefined in an epoch (no watched sample has the modality) is left out there,
    and None where it is in all.
    """
    found: dict[str, float | None] = {}
    for key in each[0]:
        if key != "steps":
            known = [(entry[key], entry["steps"]) for entry in each if entry[key] is not None]
            steps = sum(count for _, count in known)
            found[key] = sum(change * count for change, count in known) / steps if known else None
    return {**found, "steps": sum(entry["steps"] for entry in each)}


@contextmanager
def quiet(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without graph, and all modes as they were after."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training
