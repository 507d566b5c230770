"""Error of each Shapley estimator against its budget.

Games: `saturating`, v = floor + span (1 - exp(-(unimodal + pairwise terms))), as validation
accuracies of multimodal models grow; `jittered`, the same with the jitter that a validation set of
finite size gives each coalition; `mfeat`, the validation accuracy of Gaussian naive Bayes on groups
of real features of handwritten digits. Truth is exact: all 2^M coalitions. Written to
estimators.json (estimators-quick.json when quick), of which the line of results is a summary.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import HERE, environment, version
from measure import Line
from torch import Tensor

import mmeq
from mmeq.files import write_json
from mmeq.game.estimators import estimate, minimum_budget
from mmeq.game.order import kendall_tau

OURS = ("permutation", "antithetic", "kernel", "regression_adjusted")
MFEAT = Path(mmeq.__file__).parent / "data" / "bundled" / "mfeat.npz"

Value = Callable[[Tensor], Tensor]


def keys(coalitions: Tensor) -> Tensor:
    """Index of each coalition."""
    return (coalitions.long() << torch.arange(coalitions.shape[1])).sum(1)


def saturating(modalities: int, seed: int, jitter: float = 0.0) -> Value:
    """Unimodal terms, synergy and redundancy of pairs, and saturation; within .1 and .9."""
    generator = torch.Generator().manual_seed(seed)
    alone = torch.rand(modalities, generator=generator).double() * 4 / modalities
    pair = torch.randn(modalities, modalities, generator=generator).double().triu(1)
    pair = pair * 1.5 / modalities**1.5

    def value(coalitions: Tensor) -> Tensor:
        z = coalitions.double()
        exact = 0.1 + 0.8 * (1 - torch.exp(-(z @ alone + ((z @ pair) * z).sum(1)).clamp(min=-0.1)))
        if not jitter:
            return exact
        # A fixed number for each coalition, near enough to normal, by hashing its index.
        key = keys(coalitions).double() + seed
        u = (torch.sin(key * 12.9898 + 1.7) * 43758.5453).frac().abs().clamp(min=1e-12)
        w = (torch.sin(key * 78.233 + 0.3) * 24634.6345).frac().abs()
        return exact + jitter * (-2 * u.log()).sqrt() * (2 * math.pi * w).cos()

    return value


def mfeat(modalities: int, seed: int) -> Value:
    """Validation accuracy of naive Bayes on M groups of real features, in a table."""
    with np.load(MFEAT) as file:
        views = [
            file[name].astype(np.float64) for name in ("fou", "fac", "kar", "pix", "zer", "mor")
        ]
        label = torch.from_numpy(file["labels"].astype(np.int64))
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.concatenate(views, 1))
    x = x[:, rng.permutation(x.shape[1])[: 8 * modalities]]  # 8 columns a modality
    order = torch.from_numpy(rng.permutation(len(x)))
    train, held = order[:1000], order[1000:1500]
    evidence = []
    for columns in x.split(8, dim=1):
        logits = []
        for c in range(10):
            own = columns[train][label[train] == c]
            spread = own.std(0) + 0.3 * columns[train].std(0) + 1e-6
            z = (columns[held] - own.mean(0)) / spread
            logits.append(-(z.square() / 2 + spread.log()).sum(1))
        evidence.append(torch.stack(logits, 1).float())
    flat = torch.stack(evidence).flatten(1)
    table = []
    for part in torch.arange(2**modalities).split(2048):
        z = ((part[:, None] >> torch.arange(modalities)) % 2).float()
        right = (z @ flat).view(len(part), -1, 10).argmax(-1) == label[held]
        table.append(right.double().mean(1))
    values = torch.cat(table)
    return lambda coalitions: values[keys(coalitions)]


def exact(value: Value, modalities: int) -> Tensor:
    """Shapley values by all coalitions, in parts, for any M."""
    by_size = [1 / (modalities * math.comb(modalities - 1, s)) for s in range(modalities)]
    joined = torch.tensor([0.0, *by_size]).double()
    left = torch.tensor([*by_size, 0.0]).double()
    phi = torch.zeros(modalities, dtype=torch.float64)
    for part in torch.arange(2**modalities).split(2**17):
        member = (part[:, None] >> torch.arange(modalities)) % 2 == 1
        worth, size = value(member), member.sum(1)
        with_m = member.double()
        phi += (worth * (joined[size] + left[size])) @ with_m - (worth * left[size]).sum()
    return phi


def theirs(modalities: int) -> dict[str, Callable[[int], Any]]:
    """Shapiq's estimators of Shapley values, by name, from a seed."""
    try:
        import shapiq.approximator as a
    except ImportError:
        return {}
    n = modalities
    return {
        "KernelSHAP paired": lambda s: a.KernelSHAP(n, pairing_trick=True, random_state=s),
        "kADDSHAP 2 paired": lambda s: a.kADDSHAP(n, 2, pairing_trick=True, random_state=s),
        "SVARM": lambda s: a.SVARM(n, random_state=s),
        "PermutationSamplingSV": lambda s: a.PermutationSamplingSV(n, random_state=s),
    }


def score(phis: list[Tensor], truth: Tensor, seconds: list[float]) -> dict[str, float]:
    """RMSE over modalities and seeds, mean Kendall tau, share of runs that find the weakest."""
    order = truth.argsort().tolist()
    orders = [phi.argsort().tolist() for phi in phis]
    return {
        "rmse": float((torch.stack(phis) - truth).square().mean().sqrt()),
        "kendall_tau": statistics.mean(kendall_tau(order, found) for found in orders),
        "p_weakest": statistics.mean(float(found[0] == order[0]) for found in orders),
        "seconds": statistics.median(seconds),
    }


def timed(run: Callable[[int], Tensor], seeds: int) -> tuple[list[Tensor], list[float]]:
    """Results and seconds of a run a seed."""
    phis, seconds = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        phis.append(run(seed))
        seconds.append(time.perf_counter() - start)
    return phis, seconds


def ours(value: Value, modalities: int, budget: int, name: str, seed: int) -> Tensor:
    """Shapley values by one of our estimators."""
    return estimate(value, modalities, name, budget, seed).phi


def shapiq_run(
    value: Value, modalities: int, budget: int, make: Callable[[int], Any], seed: int
) -> Tensor:
    """Shapley values by one of shapiq's estimators."""

    def play(rows: np.ndarray) -> np.ndarray:
        return value(torch.from_numpy(np.atleast_2d(rows))).numpy()

    found = make(seed).approximate(budget, play)
    return torch.tensor([found[(m,)] for m in range(modalities)]).double()


def lines(quick: bool) -> Iterator[Line]:
    """Measure on one thread and write all; how often the estimator that is the default is best."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        found = list(measured(quick))
        seconds = time.perf_counter() - start
        told = {"environment": {**environment(), "shapiq": version("shapiq")}, "quick": quick}
    finally:
        torch.set_num_threads(threads)
    show(found)
    stem = f"estimators{'-quick' if quick else ''}"
    write_json(HERE / f"{stem}.json", {**told, "seconds": seconds, "lines": found})
    cells: dict[tuple[Any, ...], list[Line]] = {}
    for one in found:
        cells.setdefault((one["M"], one["game"], one["budget"]), []).append(one)
    best = [min(rows, key=lambda one: one["rmse"])["estimator"] for rows in cells.values()]
    yield {
        "name": "cells in which regression_adjusted has the least RMSE",
        "cells": len(best),
        "least": best.count("regression_adjusted"),
    }


def measured(quick: bool) -> Iterator[dict[str, Any]]:
    """One line a game, budget and estimator."""
    seeds = 6 if quick else 20
    budgets = (200, 800) if quick else (100, 200, 500, 1000, 2000, 4000)
    for modalities in (10, 16, 24):
        games = {
            "saturating": saturating(modalities, 0),
            "jittered": saturating(modalities, 0, jitter=0.004),
        }
        if modalities <= 16:
            games["mfeat"] = mfeat(modalities, 0)
        if quick and modalities == 24:
            del games["jittered"]
        for game, value in games.items():
            truth = exact(value, modalities)
            span = float(truth.max() - truth.min())
            for budget in budgets:
                if budget >= 2**modalities:
                    continue
                shared = {"M": modalities, "game": game, "budget": budget, "span": span}
                runs = {
                    ("mmeq", name): partial(ours, value, modalities, budget, name)
                    for name in OURS
                    if budget >= minimum_budget(name, modalities)
                } | {
                    ("shapiq", name): partial(shapiq_run, value, modalities, budget, make)
                    for name, make in theirs(modalities).items()
                }
                for (by, name), run in runs.items():
                    phis, seconds = timed(run, seeds)
                    yield shared | {"by": by, "estimator": name} | score(phis, truth, seconds)


def show(found: list[dict[str, Any]]) -> None:
    """A row a game and budget: our estimators and shapiq's best by RMSE."""
    print("RMSE x 1e4 / Kendall tau / P(weakest found); shapiq: the best of its estimators by RMSE")
    print(f"{'M':>3} {'game':<11}{'budget':>6}  " + "".join(f"{n:<21}" for n in OURS) + "shapiq")
    cell = lambda x: f"{x['rmse'] * 1e4:6.1f} {x['kendall_tau']:5.2f} {x['p_weakest']:4.2f}"  # noqa: E731
    for key in dict.fromkeys((x["M"], x["game"], x["budget"]) for x in found):
        rows = [x for x in found if (x["M"], x["game"], x["budget"]) == key]
        ours = {x["estimator"]: cell(x) for x in rows if x["by"] == "mmeq"}
        best = min((x for x in rows if x["by"] == "shapiq"), key=lambda x: x["rmse"], default=None)
        print(
            f"{key[0]:>3} {key[1]:<11}{key[2]:>6}  "
            + "".join(f"{ours.get(name, '-'):<21}" for name in OURS)
            + (f"{cell(best)} {best['estimator']}" if best else "not installed")
        )
