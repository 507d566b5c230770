"""Accuracy under missing modalities, from the logits of all coalitions alone: no more passes.

Legend: N samples, M modalities, S = 2^M - 1 non-empty coalitions in binary order, C classes,
K columns, R bootstrap draws, Q different patterns of presence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.bootstrap import bootstrap_draws, check_draws, mean_statistic, percentile_interval
from mmeq.game.coalitions import all_coalitions, check_names
from mmeq.game.values import check_labels

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Rates of the usual protocol."""


def check_rate(option: str, rate: Any) -> float:  # noqa: ANN401  any YAML value
    """Return a probability of absence as a float.

    Args:
        option: how the user calls it, for the message.
        rate: from 0 up to, not including, 1: a sample keeps at least one modality.

    Raises:
        MmeqError: for anything else.
    """
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not number or not 0 <= rate < 1:
        raise MmeqError(f"{option}={rate}: give a rate from 0 up to (not including) 1")
    return float(rate)


def rates_by_name(option: str, rates: Any, modalities: Sequence[str]) -> tuple[float, ...]:  # noqa: ANN401
    """Return one rate a modality, from one for all or a mapping; who is not named gets 0.

    Args:
        option: how the user calls it.
        rates: a rate, or modality to rate.
        modalities: their names.

    Raises:
        MmeqError: for a rate out of range or an unknown modality.

    Examples:
        >>> rates_by_name("missing", {"text": 0.5}, ["image", "text"])
        (0.0, 0.5)
    """
    if not isinstance(rates, Mapping):
        return (check_rate(option, rates),) * len(modalities)
    for name in rates:
        if name not in modalities:
            near = did_you_mean(str(name), modalities)
            raise MmeqError(f"{option} names the unknown modality {name!r}{near}")
    return tuple(check_rate(f"{option}.{n}", rates[n]) if n in rates else 0.0 for n in modalities)


def pattern_weights(rate_M: Sequence[float], present_QM: Tensor) -> Tensor:
    r"""Probability of each coalition that is left when modalities go absent at random.

    Modality m of a sample is absent with probability :math:`r_m`, independently; a sample that
    would lose all it has keeps one of them, drawn uniformly. With P the modalities that the sample
    has, and S a non-empty subset of it,
    :math:`w(S) = \prod_{m \in S} (1 - r_m) \prod_{m \in P \setminus S} r_m
    + [|S| = 1] \prod_{m \in P} r_m / |P|`.

    Args:
        rate_M: rates r.
        present_QM: what a sample has, bool [Q, M].

    Returns:
        float64 [Q, S], rows adding up to 1; a row of zeros where nothing is present.
    """
    count = present_QM.shape[1]
    coalition_SM = all_coalitions(count)[1:]
    rate = torch.tensor(rate_M, dtype=torch.float64)
    left_QSM = torch.where(
        present_QM[:, None], torch.where(coalition_SM, 1 - rate, rate), (~coalition_SM).double()
    )
    all_lost_Q1 = torch.where(present_QM, rate, 1.0).prod(1, keepdim=True)
    owned_Q1 = present_QM.sum(1, keepdim=True)
    alone_QS = (present_QM.double() @ coalition_SM.T.double()) * (coalition_SM.sum(1) == 1)
    return left_QSM.prod(2) + alone_QS * all_lost_Q1 / owned_Q1.clamp(min=1)


def expected_hits(
    hit_NS: Tensor, rate_M: Sequence[float], present_NM: Tensor
) -> tuple[Tensor, Tensor]:
    """Probability that a sample is right under random absence, exactly: no mask is drawn.

    Args:
        hit_NS: right or wrong under each coalition, bool [N, S].
        rate_M: rates of absence.
        present_NM: what the samples have, bool [N, M].

    Returns:
        Probability that the sample is right, float64 [N]; share of what modality m's owners lose
        of it (the effective rate, lower than the nominal one since one is kept), float64 [M].
    """
    pattern_QM, which_N = torch.unique(present_NM, dim=0, return_inverse=True)
    weight_QS = pattern_weights(rate_M, pattern_QM)
    hit_N = torch.zeros(len(hit_NS), dtype=torch.float64)
    for q, weight_S in enumerate(weight_QS):
        rows = which_N == q
        # a sample that has nothing at all answers the constant, whatever the coalition
        weight_S = (
            weight_S if bool(weight_S.any()) else torch.full_like(weight_S, 1 / len(weight_S))
        )
        hit_N[rows] = hit_NS[rows].double() @ weight_S
    kept_QM = weight_QS @ all_coalitions(present_NM.shape[1])[1:].double()
    owners_QM = torch.bincount(which_N, minlength=len(pattern_QM))[:, None] * pattern_QM
    lost_M = (owners_QM * (1 - kept_QM)).sum(0) / owners_QM.sum(0).clamp(min=1)
    return hit_N, lost_M


def missing_table(
    logits_NSC: Tensor,
    label_N: Tensor,
    modalities: Sequence[str],
    *,
    coalitions_SM: Tensor | None = None,
    present_NM: Tensor | None = None,
    rates: Sequence[float] = RATES,
    unequal: Sequence[Mapping[str, float]] = (),
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy when modalities are missing at test: every pattern, and random absence [ours].

    A sample with the pattern p has the logits of coalition p. Absence at random is independent
    over modalities and samples, except that one modality is left; the accuracy is the exact
    expectation over such masks. Samples that lack modalities by themselves keep lacking them.
    Intervals are of the samples (bootstrap, the same resamples for every entry, and for the
    report of the same seed); ``mask_sd`` is the standard deviation that drawing one mask for each
    sample adds.

    Args:
        logits_NSC: real [N, S, C].
        label_N: integer [N].
        modalities: M names.
        coalitions_SM: the coalitions of the logits, to be checked; None trusts them.
        present_NM: what the samples have, bool [N, M]; None: everything.
        rates: rates that all modalities share.
        unequal: further cases, each modality to rate (who is not named is never absent). Two are
            always there: rates spread evenly over the modalities from the highest of `rates` for
            the one best alone to the lowest for the worst alone, and the reverse.
        draws: bootstrap resamples.
        level: coverage of the intervals.
        seed: of the resampling.

    Returns:
        Plain types; ``{value, low, high}`` are accuracies. ``full``: nothing more is missing.
        ``patterns``: one entry a non-empty proper coalition, by number missing, then falling
        accuracy. ``by_missing``: mean over the patterns with so many missing, and the worst.
        ``mean``: over all of them. ``rates`` and ``unequal``: with the effective rate.

    Raises:
        MmeqError: for one modality, shapes that do not fit, logits that are not finite or not of
            all coalitions, rates out of range or unknown modalities.
    """
    names = check_names(modalities)
    count, samples = len(names), len(label_N)
    check_draws(draws, level)
    if count < 2:
        raise MmeqError("missing modalities: with one modality none can be missing")
    if logits_NSC.shape[:2] != (samples, 2**count - 1):
        raise MmeqError(
            f"missing modalities: expected logits of all {2**count - 1} coalitions of {samples} "
            f"samples, got {tuple(logits_NSC.shape)}"
        )
    if coalitions_SM is not None and not torch.equal(
        coalitions_SM.bool(), all_coalitions(count)[1:]
    ):
        raise MmeqError("missing modalities: the coalitions are not all, or not in binary order")
    if not bool(torch.isfinite(logits_NSC).all()):
        raise MmeqError("missing modalities: a logit is NaN or infinite")
    label_N = check_labels(label_N, logits_NSC.shape[2])
    if present_NM is None:
        present_NM = torch.ones(samples, count, dtype=torch.bool)
    if present_NM.shape != (samples, count):
        raise MmeqError(f"missing modalities: present has shape {tuple(present_NM.shape)}")

    hit_NS = logits_NSC.argmax(-1) == label_N[:, None]
    shared = [check_rate("rates", rate) for rate in rates]
    given = [rates_by_name("unequal", case, names) for case in unequal]
    cases = [(rate,) * count for rate in shared]
    spread = _spread(hit_NS, shared) if shared else []
    cases += [*spread, *given]
    expected = [expected_hits(hit_NS, case, present_NM) for case in cases]
    columns_NK = torch.cat([hit_NS.double(), *(hit_N[:, None] for hit_N, _ in expected)], 1)
    value_K = columns_NK.mean(0)
    drawn_RK = bootstrap_draws(mean_statistic(columns_NK), samples, draws, seed)

    def accuracy(columns: Sequence[int]) -> dict[str, float]:
        chosen = list(columns)
        low, high = percentile_interval(drawn_RK[:, chosen].mean(1), level)
        return {"value": value_K[chosen].mean().item(), "low": low.item(), "high": high.item()}

    def random(k: int) -> dict[str, Any]:
        hit_N, lost_M = expected[k]
        owners_M = present_NM.sum(0)
        spread_N = hit_N * (1 - hit_N)
        return {
            "effective": ((lost_M * owners_M).sum() / owners_M.sum().clamp(min=1)).item(),
            "accuracy": accuracy([hit_NS.shape[1] + k]),
            "mask_sd": math.sqrt(max(0.0, spread_N.sum().item())) / samples,
        }

    table: dict[str, Any] = {
        "samples": samples,
        "complete": bool(present_NM.all()),
        "full": accuracy([hit_NS.shape[1] - 1]),
        **_fixed(names, value_K, accuracy),
        "rates": [{"rate": rate, **random(k)} for k, rate in enumerate(shared)],
    }
    titles = ["the strong are absent more often", "the weak are absent more often"][: len(spread)]
    table["unequal"] = [
        {"case": title, "rates": dict(zip(names, cases[k], strict=True)), **random(k)}
        for k, title in enumerate([*titles, *("as given" for _ in given)], start=len(shared))
    ]
    return table


def _spread(hit_NS: Tensor, rates: Sequence[float]) -> list[tuple[float, ...]]:
    """Rates from the lowest to the highest along the accuracy of each modality alone; reversed."""
    count = (hit_NS.shape[1] + 1).bit_length() - 1
    alone_M = hit_NS[:, [2**m - 1 for m in range(count)]].double().mean(0)
    place_M = alone_M.argsort(stable=True).argsort().tolist()
    ladder = torch.linspace(min(rates), max(rates), count, dtype=torch.float64).tolist()
    rising = tuple(round(ladder[place], 6) for place in place_M)
    falling = tuple(round(ladder[count - 1 - place], 6) for place in place_M)
    return [rising, falling]


def _fixed(names: Sequence[str], value_K: Tensor, accuracy: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the entries of every non-empty proper coalition, and their means."""
    count = len(names)
    rows = all_coalitions(count)[1:-1].tolist()
    patterns = [
        {
            "present": [name for name, here in zip(names, row, strict=True) if here],
            "absent": [name for name, here in zip(names, row, strict=True) if not here],
            "missing": count - sum(row),
            "accuracy": accuracy([s]),
        }
        for s, row in enumerate(rows)
    ]
    patterns.sort(key=lambda entry: (entry["missing"], -entry["accuracy"]["value"]))
    by_missing = []
    for missing in range(1, count):
        columns = [s for s, row in enumerate(rows) if count - sum(row) == missing]
        worst = min(columns, key=lambda s: float(value_K[s]))
        by_missing.append(
            {
                "missing": missing,
                "patterns": len(columns),
                "accuracy": accuracy(columns),
                "worst": [name for name, here in zip(names, rows[worst], strict=True) if here],
                "worst_accuracy": value_K[worst].item(),
            }
        )
    return {"patterns": patterns, "by_missing": by_missing, "mean": accuracy(range(len(rows)))}
