"""The missing-modality table against draws, brute force and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game.coalitions import all_coalitions
from mmeq.game.missing import expected_hits, missing_table, pattern_weights
from tests.game.helpers import NAMES, synthetic


def drawn_hits(hit_NS, rates, present_NM, repeats, seed=0):
    """Draw the masks, sample by sample: the reference for the exact expectation."""
    random = np.random.default_rng(seed)
    bits = 2 ** np.arange(present_NM.shape[1])
    total, kept_share = np.zeros(len(hit_NS)), np.zeros(present_NM.shape[1])
    for _ in range(repeats):
        for n, here in enumerate(present_NM.numpy()):
            kept = here & (random.random(len(here)) >= rates)
            if not kept.any():
                kept[random.choice(np.flatnonzero(here))] = True
            total[n] += float(hit_NS[n, (kept * bits).sum() - 1])
            kept_share += kept
    return total / repeats, kept_share / repeats


@pytest.mark.parametrize("rates", [(0.3, 0.3, 0.3), (0.7, 0.1, 0.0), (0.9, 0.9, 0.9)])
def test_expectation_equals_many_draws(rates):
    logits_SNC, label = synthetic(samples=40)
    hit_NS = (logits_SNC.argmax(-1) == label).T
    present = torch.ones(40, 3, dtype=torch.bool)
    present[::4, 1] = False
    present[1::4, [0, 2]] = False
    # a coalition of what is there answers as the part that is there, as fusions do
    rows = all_coalitions(3)[1:]
    for n in range(40):
        for s, row in enumerate(rows):
            left = int(((row & present[n]) * torch.tensor([1, 2, 4])).sum())
            hit_NS[n, s] = hit_NS[n, left - 1] if left else False
    hit_N, lost_M = expected_hits(hit_NS, rates, present)
    reference, kept_M = drawn_hits(hit_NS, rates, present, 1000)
    assert torch.allclose(hit_N.mean(), torch.tensor(reference.mean()), atol=0.01)
    assert np.abs(hit_N.numpy() - reference).max() < 0.08
    assert np.allclose(1 - kept_M / present.sum(0).numpy(), lost_M.numpy(), atol=0.01)


@given(
    st.lists(st.floats(0, 0.99), min_size=1, max_size=5),
    st.data(),
)
@settings(max_examples=50)
def test_weights_are_a_distribution_over_parts_of_what_is_there(rates, data):
    present = torch.tensor(
        [data.draw(st.lists(st.booleans(), min_size=len(rates), max_size=len(rates)))]
    )
    weight_S = pattern_weights(rates, present)[0]
    if not present.any():
        assert weight_S.sum() == 0
        return
    assert weight_S.sum().item() == pytest.approx(1)
    outside = (all_coalitions(len(rates))[1:] & ~present).any(1)
    assert (weight_S[outside] == 0).all()


def test_two_modalities_by_hand():
    weight_S = pattern_weights((0.5, 0.2), torch.ones(1, 2, dtype=torch.bool))[0]
    # only the first, only the second, both; half of "neither" goes to each
    assert weight_S.tolist() == pytest.approx([0.5 * 0.2 + 0.05, 0.5 * 0.8 + 0.05, 0.4])


def test_table_of_a_known_case():
    logits_SNC, label = synthetic()
    logits = logits_SNC.transpose(0, 1)
    table = missing_table(logits, label, NAMES, coalitions_SM=all_coalitions(3)[1:])
    accuracy = (logits.argmax(-1) == label[:, None]).double().mean(0)
    assert table["full"]["value"] == pytest.approx(accuracy[-1].item())
    assert [entry["missing"] for entry in table["patterns"]] == [1, 1, 1, 2, 2, 2]
    for entry in table["patterns"]:
        row = sum(2 ** NAMES.index(name) for name in entry["present"])
        assert entry["accuracy"]["value"] == pytest.approx(accuracy[row - 1].item())
        assert sorted(entry["present"] + entry["absent"]) == sorted(NAMES)
        assert entry["accuracy"]["low"] <= entry["accuracy"]["value"] <= entry["accuracy"]["high"]
    values = [entry["accuracy"]["value"] for entry in table["patterns"]]
    assert values[:3] == sorted(values[:3], reverse=True)
    assert table["mean"]["value"] == pytest.approx(accuracy[:-1].mean().item())
    ones = accuracy[[2, 4, 5]]
    assert table["by_missing"][0]["accuracy"]["value"] == pytest.approx(ones.mean().item())
    assert table["by_missing"][1]["worst"] == [NAMES[int(accuracy[[0, 1, 3]].argmin())]]
    assert [entry["rate"] for entry in table["rates"]] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    falling = [entry["accuracy"]["value"] for entry in table["rates"]]
    assert falling == sorted(falling, reverse=True)
    for entry in table["rates"]:
        assert entry["effective"] == pytest.approx(entry["rate"] * (1 - entry["rate"] ** 2 / 3))
    strong, weak = table["unequal"]
    assert strong["rates"] == {"a": 0.1, "b": 0.4, "c": 0.7}  # c is the best alone
    assert weak["rates"] == {"a": 0.7, "b": 0.4, "c": 0.1}
    assert strong["accuracy"]["value"] < weak["accuracy"]["value"]


def test_spread_of_masks():
    """The standard deviation over draws of one mask for each sample."""
    logits_SNC, label = synthetic(samples=60)
    table = missing_table(logits_SNC.transpose(0, 1), label, NAMES, rates=[0.5])
    hit_NS = (logits_SNC.argmax(-1) == label).T
    present = torch.ones(60, 3, dtype=torch.bool)
    single = [drawn_hits(hit_NS, (0.5,) * 3, present, 1, seed)[0].mean() for seed in range(400)]
    entry = table["rates"][0]
    assert np.mean(single) == pytest.approx(entry["accuracy"]["value"], abs=0.005)
    assert np.std(single) == pytest.approx(entry["mask_sd"], rel=0.12)


def test_intervals_are_those_of_the_game():
    from mmeq.game import CoalitionGame
    from tests.game.helpers import FREQUENCIES

    logits_SNC, label = synthetic()
    metric = CoalitionGame(NAMES, FREQUENCIES, seed=3)
    metric.update(logits_SNC, label, torch.arange(90))
    report = metric.compute()
    table = missing_table(logits_SNC.transpose(0, 1), label, NAMES, seed=3)
    assert table["full"]["low"] == pytest.approx(report.full_low["accuracy"])
    assert table["full"]["high"] == pytest.approx(report.full_high["accuracy"])


def test_rate_zero_is_full_and_given_cases_come_last():
    logits_SNC, label = synthetic()
    table = missing_table(
        logits_SNC.transpose(0, 1), label, NAMES, rates=[0], unequal=[{"c": 0.5}, {"a": 0.9}]
    )
    assert table["rates"][0]["accuracy"] == pytest.approx(table["full"])
    assert table["rates"][0]["mask_sd"] == 0
    assert [entry["rates"] for entry in table["unequal"][2:]] == [
        {"a": 0.0, "b": 0.0, "c": 0.5},
        {"a": 0.9, "b": 0.0, "c": 0.0},
    ]


@pytest.mark.parametrize("samples", [1, 7])
def test_samples_without_anything_count_as_they_answer(samples):
    logits = torch.zeros(samples, 3, 2)
    logits[..., 1] = 1
    none = torch.zeros(samples, 2, dtype=torch.bool)
    table = missing_table(logits, torch.ones(samples).long(), ["a", "b"], present_NM=none)
    assert table["rates"][3]["accuracy"]["value"] == 1
    assert table["rates"][3]["effective"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rates": [1.0]}, "rates=1.0: give a rate from 0"),
        ({"rates": [-0.1]}, "rates=-0.1"),
        ({"unequal": [{"d": 0.5}]}, "unknown modality 'd'"),
        ({"unequal": [{"a": 2}]}, "unequal.a=2"),
        ({"coalitions_SM": all_coalitions(3)[1:].flip(0)}, "not in binary order"),
        ({"present_NM": torch.ones(3, 3).bool()}, "present has shape"),
        ({"modalities": ["a", "b"]}, "all 3 coalitions"),
    ],
)
def test_refuses(change, said):
    logits_SNC, label = synthetic()
    options = {"modalities": NAMES, **change}
    with pytest.raises(MmeqError, match=said):
        missing_table(logits_SNC.transpose(0, 1), label, **options)


def test_refuses_one_modality_and_nan():
    with pytest.raises(MmeqError, match="one modality"):
        missing_table(torch.zeros(2, 1, 2), torch.zeros(2).long(), ["a"])
    with pytest.raises(MmeqError, match="NaN"):
        missing_table(torch.full((2, 3, 2), torch.nan), torch.zeros(2).long(), ["a", "b"])


def test_patterns_cover_all_proper_coalitions():
    logits_SNC, label = synthetic(modalities=4)
    table = missing_table(logits_SNC.transpose(0, 1), label, list("abcd"), draws=20)
    seen = {tuple(entry["present"]) for entry in table["patterns"]}
    expected = {c for k in (1, 2, 3) for c in itertools.combinations("abcd", k)}
    assert seen == expected
