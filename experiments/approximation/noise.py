"""Two noises of a Shapley value: of sampled coalitions, and of a validation part of finite size.

φ is linear in v, and v is a mean over samples; so φ of any set of samples is the mean of the φ of
each of them. Shape suffixes: N samples, B batch, V = 2^M coalitions, S = V - 1, M modalities,
R draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.config import Run
from mmeq.game import edm, estimate, minimum_budget, sample_scores, shapley_values
from mmeq.game.values import constant_scores

TIE = 1e-9
"""Values nearer to each other than this are equal: sums in another order differ by less."""


def worths(run: Run, loader: Iterable[Any]) -> dict[str, Tensor]:
    """Utility of each coalition for each sample, float64 [N, V]: accuracy, and minus the NLL."""
    right, losses, labels = [], [], []
    with torch.inference_mode():
        for batch in loader:
            prediction_BS, nll_BS = sample_scores(run.module.logits(batch), batch["label"])
            right.append(prediction_BS == batch["label"][:, None])
            losses.append(nll_BS)
            labels.append(batch["label"])
    label_N = torch.cat(labels)
    constant_N, constant_nll_N = constant_scores(run.datamodule.class_frequencies, label_N)
    empty_N1, empty_nll_N1 = (constant_N == label_N)[:, None], constant_nll_N[:, None]
    return {
        "accuracy": torch.cat([empty_N1, torch.cat(right)], 1).double(),
        "nll": -torch.cat([empty_nll_N1.double(), torch.cat(losses).double()], 1),
    }


def scores(phi_RM: Tensor, truth_M: Tensor) -> dict[str, float | None]:
    """How far estimates are from the truth.

    ``bias2`` is the mean square of the bias over modalities without what chance adds to it,
    mean_m[(mean_r e)² − var_r(e)/R], so it may be below 0; None for one draw. ``tau`` is Kendall's,
    a tie counts as no order; ``weakest`` the chance to find the weakest, ties broken by lot.
    """
    error_RM, draws = phi_RM - truth_M, len(phi_RM)
    bias2 = None
    if draws > 1:
        bias2 = float((error_RM.mean(0).square() - error_RM.var(0) / draws).mean())
    gap_RMM, gap_MM = signs(phi_RM), signs(truth_M[None])[0]
    pairs = gap_MM.numel() - len(truth_M)
    lowest_RM = phi_RM <= phi_RM.min(1, keepdim=True).values + TIE
    weakest_M = truth_M <= truth_M.min() + TIE
    found_R = (lowest_RM & weakest_M).sum(1) / lowest_RM.sum(1)
    return {
        "mse": float(error_RM.square().mean()),
        "bias2": bias2,
        "tau": float((gap_RMM * gap_MM).sum((1, 2)).mean() / pairs),
        "weakest": float(found_R.mean()),
        "edm": float((edm(phi_RM, warn=False) - edm(truth_M[None], warn=False)).nanmean()),
    }


def signs(phi_RM: Tensor) -> Tensor:
    """Signs of all differences, [R, M, M]; 0 for ties."""
    gap_RMM = phi_RM[:, :, None] - phi_RM[:, None, :]
    return torch.where(gap_RMM.abs() <= TIE, 0.0, gap_RMM.sign())


def by_budget(
    value_V: Tensor, estimators: Sequence[str], budgets: Sequence[int], seeds: range
) -> Iterator[dict[str, Any]]:
    """Errors of each estimator at each budget that it can work with, against the exact values."""
    truth_M = shapley_values(value_V)
    count = len(truth_M)
    place_M = 2 ** torch.arange(count)
    for name in estimators:
        for budget in budgets:
            if budget < minimum_budget(name, count):
                continue
            used = seeds if budget < len(value_V) else seeds[:2]  # then nothing is left to chance
            phi_RM = torch.stack(
                [
                    estimate(lambda s: value_V[s.long() @ place_M], count, name, budget, seed).phi
                    for seed in used
                ]
            )
            yield {"estimator": name, "budget": budget, **scores(phi_RM, truth_M)}


def by_samples(
    phi_NM: Tensor, reference_M: Tensor, sizes: Sequence[int | str], seeds: range, replace: bool
) -> Iterator[dict[str, Any]]:
    """Errors of exact values on so many of the samples.

    Args:
        phi_NM: of each sample of the validation part.
        reference_M: what they are compared with.
        sizes: numbers of samples, or ``all``.
        seeds: of the draws of each size.
        replace: draw with replacement, as where the reference is the same samples.
    """
    generator = torch.Generator().manual_seed(seeds.start)
    for given in sizes:
        size = len(phi_NM) if given == "all" else int(given)
        whole = size == len(phi_NM) and not replace
        means = []
        for _ in seeds[: 1 if whole else None]:
            if replace:
                row_n = torch.randint(len(phi_NM), (size,), generator=generator)
            else:
                row_n = torch.randperm(len(phi_NM), generator=generator)[:size]
            means.append(phi_NM[row_n].mean(0))
        yield {"samples": given, "n": size, **scores(torch.stack(means), reference_M)}


def measured(run: Run, options: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Both noises of a trained model, for each value function.

    Args:
        run: trained.
        options: see sweep.yaml.
        number: of the run; each has random numbers of its own, so that runs are independent.
    """
    first = 10_000 * number
    seeds, subsets = (range(first, first + options[key]) for key in ("draws", "subsets"))
    validation = worths(run, run.datamodule.val_dataloader())
    held_out = options["reference"] == "test"
    reference = worths(run, run.datamodule.test_dataloader()) if held_out else validation
    found: dict[str, Any] = {"n": len(validation["accuracy"])}
    for value in options["values"]:
        phi_NM, other_NM = shapley_values(validation[value]), shapley_values(reference[value])
        truth_M = phi_NM.mean(0)
        found[value] = {
            "phi": rounded(truth_M.tolist()),
            "reference_se": float((other_NM.var(0) / len(other_NM)).mean().sqrt()) * held_out,
            "budgets": rounded(
                list(
                    by_budget(
                        validation[value].mean(0),
                        options["estimators"], options["budgets"], seeds,
                    )
                )
            ),
            "sizes": rounded(
                list(
                    by_samples(
                        phi_NM, other_NM.mean(0), options["samples"], subsets,
                        replace=not held_out,
                    )
                )
            ),
        }  # fmt: skip
    return found


def rounded(tree: Any) -> Any:
    """Four significant digits: the file is kept in the repository."""
    if isinstance(tree, Mapping):
        return {key: rounded(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [rounded(item) for item in tree]
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree
