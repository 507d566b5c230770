"""Every strategy: one contract; each one's own promises."""

import itertools
import math
from typing import get_args

import pytest
import torch

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.fusions.tree import coalition_tree
from mmeq.game.coalitions import all_coalitions
from mmeq.inference.build import build_strategy
from mmeq.inference.orders import Inference, antithetic_orders, inference_orders
from mmeq.inference.router import describe, fit_router, route

D, C, B = 8, 4, 9
NAMES = get_args(Inference)
IDS = [f"s{b}" for b in range(B)]


def memory(modalities, seed=0, kind=Memory, **options):
    torch.manual_seed(seed)
    fusion = kind(modalities, D, C, torch.tensor([0.4, 0.3, 0.2, 0.1]), **options)
    for p in fusion.parameters():
        torch.nn.init.normal_(p, std=0.5)
    features = [torch.randn(B, D) for _ in range(modalities)]
    fusion.observe(features, None)
    return fusion.eval(), features


def strategy(name, modalities, **options):
    """One that can answer: a router with invented weights."""
    made = build_strategy(name, tuple(reversed(range(modalities))), options)
    if made.learns:
        orders = made.orders
        logits = torch.randn(len(orders), 60, C, generator=torch.Generator().manual_seed(1))
        labels = torch.randint(C, (60,), generator=torch.Generator().manual_seed(2))
        ids = [*IDS[:3], *(f"v{n}" for n in range(57))]  # some of the batch are held-out samples
        made.load_state(fit_router(logits, labels, ids, orders))
        assert made.model["beta"].abs().max() > 0
    return made


@pytest.mark.parametrize("lacking", [False, True])
@pytest.mark.parametrize("modalities", [2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_depends_on_its_sample_alone(name, modalities, lacking):
    fusion, features = memory(modalities)
    made = strategy(name, modalities)
    coalitions = all_coalitions(modalities)
    present = torch.rand(B, modalities, generator=torch.Generator().manual_seed(3)) < 0.6
    present = present if lacking else None
    whole = made.answer(fusion, features, coalitions, present, IDS)
    assert whole.shape == (2**modalities, B, C)
    for rows in ([0], [3, 1], list(range(B))[::-1]):
        part = made.answer(
            fusion,
            [f[rows] for f in features],
            coalitions,
            None if present is None else present[rows],
            [IDS[b] for b in rows],
        )
        torch.testing.assert_close(part, whole[:, rows], atol=1e-5, rtol=1e-5)
    if present is not None:  # what is absent is the smaller coalition, under every strategy
        one = made.answer(fusion, features, coalitions & present[4], None, IDS)
        torch.testing.assert_close(one[:, 4], whole[:, 4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_answer_alike(name):
    fusion, features = memory(4)
    one, two = (
        strategy(name, 4, orders=8).answer(fusion, features, all_coalitions(4), None, IDS)
        for _ in range(2)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_without_an_order_all_strategies_coincide(name):
    fusion, features = memory(3, kind=Concat)
    made = build_strategy(name, (2, 0, 1))  # a router needs no fit here
    answer = made.answer(fusion, features, all_coalitions(3), None, IDS)
    assert torch.equal(answer, fusion(features, all_coalitions(3)))


@pytest.mark.parametrize("kind", [Memory, Concat])
@pytest.mark.parametrize("modalities", [1, 2, 4])
def test_logits_of_each_order_come_from_one_walk(kind, modalities):
    fusion, features = memory(modalities, kind=kind)
    coalitions = all_coalitions(modalities)
    orders = tuple(itertools.permutations(range(modalities)))
    each = fusion.per_order(features, coalitions, orders)
    assert each.shape == (len(orders), 2**modalities, B, C)
    for k, order in enumerate(orders):
        torch.testing.assert_close(each[k], fusion(features, coalitions, (order,)))
    mean = fusion(features, coalitions, orders)  # mean of logits = logits of the mean
    torch.testing.assert_close(each.mean(0), mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modalities", [2, 3, 4, 5, 8])
def test_antithetic_orders_are_pairs_without_repeats(modalities):
    for seed in range(3):
        orders = antithetic_orders(modalities, 12, seed)
        assert len(set(orders)) == len(orders) == min(12, math.factorial(modalities))
        assert all(a == b[::-1] for a, b in zip(orders[::2], orders[1::2], strict=True))
    assert antithetic_orders(modalities, 12, 0) == antithetic_orders(modalities, 12, 0)


@pytest.mark.parametrize(("modalities", "orders"), [(2, 4), (3, 6), (4, 24)])
def test_all_orders_drawn_is_hybrid(modalities, orders):
    fusion, features = memory(modalities)
    coalitions = all_coalitions(modalities)
    hybrid = fusion(features, coalitions, inference_orders("hybrid", range(modalities)))
    made = strategy("sampled", modalities, orders=orders)
    found = made.estimate(fusion, features, coalitions)
    torch.testing.assert_close(found.logits_SBC, hybrid, atol=1e-5, rtol=1e-5)
    assert found.error_SBC.abs().max() == 0
    assert found.used_SB.unique().tolist() == [math.factorial(modalities)]


def test_the_standard_error_is_that_of_the_mean_over_pairs():
    """Over many seeds the answers scatter about hybrid's as the error says."""
    fusion, features = memory(5)
    full = torch.ones(1, 5, dtype=torch.bool)
    hybrid = fusion(features, full, inference_orders("hybrid", range(5)))
    misses, errors = [], []
    for seed in range(60):
        made = build_strategy("sampled", range(5), {"orders": 16, "certainty": None}, seed)
        found = made.estimate(fusion, features, full)
        misses.append((found.logits_SBC - hybrid).square())
        errors.append(found.error_SBC.square())
        assert found.used_SB.unique().tolist() == [16]
    ratio = torch.stack(errors).mean() / torch.stack(misses).mean()
    assert float(ratio) == pytest.approx(1, abs=0.25)


def test_a_sure_sample_stops_early_and_an_unsure_one_goes_on():
    fusion, features = memory(5)
    full = torch.ones(1, 5, dtype=torch.bool)
    made = build_strategy("sampled", range(5), {"orders": 32, "certainty": 2.0})
    found = made.estimate(fusion, features, full)
    assert set(found.used_SB.unique().tolist()) <= {4, 8, 16, 32}
    assert found.used_SB.float().mean() < 32
    # the rule, written out: pairs in order, looked at after 2, 4, 8, 16
    each = fusion.per_order(features, full, made.orders)[:, 0].unflatten(0, (16, 2)).mean(1)
    for b in range(B):
        for pairs in (2, 4, 8, 16):
            mean = each[:pairs, b].mean(0)
            top, second = mean.topk(2).indices
            margin = each[:pairs, b, top] - each[:pairs, b, second]
            error = margin.std() * math.sqrt((1 - pairs / 60) / pairs)
            if margin.mean() >= 2 * error or pairs == 16:
                break
        assert int(found.used_SB[0, b]) == 2 * pairs
        torch.testing.assert_close(found.logits_SBC[0, b], mean, atol=1e-5, rtol=1e-5)
    never = build_strategy("sampled", range(5), {"orders": 32, "certainty": 1e9})
    assert never.estimate(fusion, features, full).used_SB.min() == 32
    made.answer(fusion, features, full)
    facts = made.facts()
    assert facts["orders"] == pytest.approx(float(found.used_SB.float().mean()))
    assert facts["error"] == pytest.approx(float(found.error_SBC.mean()), rel=1e-4)
    assert made.cells(full) < coalition_tree(full, made.orders).cells * 1.5
    made.reset()
    assert made.facts() == {}


@pytest.mark.parametrize("confidence", ["entropy", "probability"])
def test_confident_orders_weigh_more(confidence):
    fusion, features = memory(3)
    full = torch.ones(1, 3, dtype=torch.bool)
    warm = strategy("per_sample", 3, confidence=confidence, temperature=1e6)
    hybrid = fusion(features, full, warm.orders)
    torch.testing.assert_close(warm.answer(fusion, features, full), hybrid, atol=1e-4, rtol=1e-4)
    cold = strategy("per_sample", 3, confidence=confidence, temperature=1e-6)
    each = fusion.per_order(features, full, cold.orders)[:, 0]
    p = each.softmax(-1)
    score = -(p * p.log()).sum(-1) if confidence == "entropy" else -p.amax(-1)
    chosen = each[score.argmin(0), torch.arange(B)]
    torch.testing.assert_close(cold.answer(fusion, features, full)[0], chosen)


# the router


def planted(samples=400, orders=6, seed=0):
    """The order that is sure of itself is right; the others say one wrong class, unsure."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (samples,), generator=generator)
    wrong = (labels + torch.randint(1, C, (samples,), generator=generator)) % C
    best = torch.randint(orders, (samples,), generator=generator)
    rows = torch.arange(samples)
    logits = 0.1 * torch.randn(orders, samples, C, generator=generator)
    logits[:, rows, wrong] += 2.0
    logits[best, rows] = 0.1 * torch.randn(samples, C, generator=generator)
    logits[best, rows, labels] += 4.0
    return logits, labels, [f"n{seed}-{n}" for n in range(samples)]


def test_a_router_learns_what_tells_the_right_order():
    orders = inference_orders("router", range(3))
    logits, labels, ids = planted()
    state = fit_router(logits, labels, ids, orders)
    assert state["validation"]["mean"] < 0.3
    assert state["validation"]["accuracy"] > 0.95
    unseen, theirs, _ = planted(seed=1)
    routed = route(unseen[:, None], state["beta"][0].expand(400, -1))[0]
    assert (routed.argmax(-1) == theirs).float().mean() > 0.95


def test_held_out_samples_get_the_model_that_has_not_seen_them():
    logits, labels, ids = planted(samples=50)
    state = fit_router(logits, labels, ids, inference_orders("router", range(3)))
    number = 7
    fold = state["folds"][number]
    assert state["beta"].shape == (6, describe(logits[:, None]).shape[-1])
    # another label for the sample moves every fold's model but its own
    moved = labels.clone()
    moved[number] = (labels[number] + 1) % C
    other = fit_router(logits, moved, ids, inference_orders("router", range(3)))
    same = [torch.equal(a, b) for a, b in zip(state["beta"], other["beta"], strict=True)]
    assert same == [f == fold + 1 for f in range(6)]
    made = build_strategy("router", (0, 1, 2))
    made.load_state(state)
    fusion, features = memory(3)
    full = torch.ones(1, 3, dtype=torch.bool)
    seen = made.answer(fusion, features, full, None, [ids[number]] * B)
    each = fusion.per_order(features, full, made.orders)
    torch.testing.assert_close(seen, route(each, state["beta"][fold + 1].expand(B, -1)))
    new = made.answer(fusion, features, full, None, IDS)
    torch.testing.assert_close(new, route(each, state["beta"][0].expand(B, -1)))


def test_noise_teaches_a_router_nothing_that_is_held_out():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 300, C, generator=generator)
    labels = torch.randint(C, (300,), generator=generator)
    state = fit_router(logits, labels, [str(n) for n in range(300)], [[0, 1, 2]] * 6)
    assert state["validation"]["accuracy"] == pytest.approx(1 / C, abs=0.08)


def test_too_few_disagreements_leave_the_plain_mean():
    logits, labels, ids = planted(samples=5)
    state = fit_router(logits, labels, ids, inference_orders("router", range(3)))
    assert state["beta"].abs().max() == 0
    torch.testing.assert_close(
        route(logits[:, None], state["beta"][0].expand(5, -1))[0], logits.mean(0)
    )


def test_a_router_that_was_not_fitted_is_refused():
    fusion, features = memory(5)
    made = build_strategy("router", range(5))
    with pytest.raises(MmeqError, match="no router was fitted"):
        made.answer(fusion, features, all_coalitions(5), None, IDS)
    made = strategy("router", 5)
    made.follow((3, 1, 0, 2, 4))  # other orders: what was learnt holds no longer
    assert not made.fitted
    made.load_state(None)
    assert made.state() is None


# refusals


@pytest.mark.parametrize(
    ("name", "modalities", "options", "said"),
    [
        ("hybird", 3, {}, "did you mean 'hybrid'"),
        ("hybrid", 7, {}, "give sampled, cyclic or memory_guided"),
        ("sampled", 5, {"orders": 7}, "strategy.orders=7"),
        ("sampled", 5, {"orders": 2}, "strategy.orders=2"),
        ("sampled", 5, {"certainty": -1.0}, "strategy.certainty=-1.0"),
        ("per_sample", 5, {"temperature": 0.0}, "strategy.temperature=0.0"),
        ("per_sample", 5, {"confidence": "entropie"}, "did you mean 'entropy'"),
    ],
)
def test_what_is_impossible_is_refused(name, modalities, options, said):
    with pytest.raises(MmeqError) as error:
        build_strategy(name, range(modalities), options)
    assert said in str(error.value)
