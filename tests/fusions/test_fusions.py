"""All fusions: one contract; the memory against a cell-by-cell reference written out here."""

import copy
import itertools

import pytest
import torch

from mmeq.errors import MmeqError
from mmeq.fusions.attention import Attention
from mmeq.fusions.concat import Concat
from mmeq.fusions.film import Film
from mmeq.fusions.gated import Gated
from mmeq.fusions.late import Late
from mmeq.fusions.memory import Memory
from mmeq.fusions.sum import Sum
from mmeq.fusions.tree import coalition_tree
from mmeq.game.coalitions import all_coalitions
from mmeq.inference.orders import inference_orders

D, C, B = 8, 4, 7
MAKERS = {
    "concat": Concat,
    "concat-zero": lambda *a: Concat(*a, absence="zero"),
    "concat-token": lambda *a: Concat(*a, absence="token"),
    "sum": Sum,
    "late": Late,
    "gated": Gated,
    "film": Film,
    "attention": Attention,
    "memory": Memory,
    "memory-paper": lambda *a: Memory(*a, cell="lstm", align="both", keep=False, readout="memory"),
    "memory-plain": lambda *a: Memory(*a, align="none"),
    "memory-slow": lambda *a: Memory(*a, gain=0.25),
    "memory-alone-slow": lambda *a: Memory(*a, readout="memory", gain=0.25),  # γ is not in it
    "memory-ungated": lambda *a: Memory(*a, cell="ungated"),
    "memory-inherit": lambda *a: Memory(*a, inherit=True),
}


def build(name: str, modalities: int, seed: int = 0):
    torch.manual_seed(seed)
    fusion = MAKERS[name](modalities, D, C, torch.tensor([0.4, 0.3, 0.2, 0.1]))
    for p in fusion.parameters():
        torch.nn.init.normal_(p, std=0.4)
    features = [torch.randn(B, D) for _ in range(modalities)]
    # correlated modalities, so that the alignment has something to do
    features[-1] = features[-1] + features[0].roll(1, 1)
    for _ in range(3):
        fusion.observe([f + 0.1 * torch.randn_like(f) for f in features], None)
    return fusion.eval(), features


@pytest.mark.parametrize("modalities", [2, 3, 5])
@pytest.mark.parametrize("name", MAKERS)
def test_contract(name, modalities):
    fusion, features = build(name, modalities)
    coalitions = all_coalitions(modalities)
    order = tuple(reversed(range(modalities)))
    for orders in (None, inference_orders("hybrid", order), inference_orders("cyclic", order)):
        logits = fusion(features, coalitions, orders)
        assert logits.shape == (2**modalities, B, C)
        # the empty coalition is the prior; others are not
        torch.testing.assert_close(
            logits[0].exp(), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).expand(B, C)
        )
        # coalitions in any selection and order give the same
        pick = torch.tensor([2**modalities - 1, 1, 0, 2])
        torch.testing.assert_close(fusion(features, coalitions[pick], orders), logits[pick])
        # a prediction never depends on its batch mates
        alone = torch.cat(
            [fusion([f[b : b + 1] for f in features], coalitions, orders) for b in range(B)], 1
        )
        torch.testing.assert_close(alone, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_absent_modality_has_no_influence(name):
    fusion, features = build(name, 3)
    coalitions = all_coalitions(3)
    orders = inference_orders("hybrid", (0, 1, 2))
    before = fusion(features, coalitions, orders)
    features[1] = torch.full_like(features[1], 1e4)
    after = fusion(features, coalitions, orders)
    without = ~coalitions[:, 1]
    torch.testing.assert_close(before[without], after[without])
    assert not torch.allclose(before[~without], after[~without])


@pytest.mark.parametrize("name", MAKERS)
def test_present_mask_is_the_smaller_coalition(name):
    fusion, features = build(name, 3)
    coalitions = all_coalitions(3)
    present = torch.tensor(list(itertools.product([False, True], repeat=3)))[:B]
    orders = inference_orders("hybrid", (0, 1, 2))
    logits = fusion(features, coalitions, orders, present)
    for b in range(B):
        one = fusion([f[b : b + 1] for f in features], coalitions & present[b], orders)
        torch.testing.assert_close(logits[:, b], one[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_gradient_reaches_only_present_modalities(name):
    fusion, features = build(name, 3)
    features = [f.requires_grad_() for f in features]
    fusion.train()
    fusion(features, torch.tensor([[True, False, True]]), ((2, 0, 1),)).square().sum().backward()
    assert features[1].grad is None or features[1].grad.abs().max() == 0
    assert features[0].grad.abs().max() > 0
    assert features[2].grad.abs().max() > 0


def reference_memory(fusion: Memory, features, members, order):
    """The docstring's equations, one sample set and one order at a time."""
    chain = [m for m in order if m in members]
    lstm = fusion.cell == "lstm"
    mean, std = fusion.moments.mean_MD, fusion.moments.std_MD
    c = features[chain[0]]
    h = torch.tanh(c) if lstm else c
    for i, j in itertools.pairwise(chain):
        z = (features[j] - mean[j]) / std[j]
        [corr] = fusion.moments.correlations(((i, j),))
        x = z @ corr
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        x = x * std[i] + mean[i]
        a = features[j] + x if fusion.keep else x
        gates = fusion.gate_state(c) + fusion.gate_input(a)
        if fusion.cell == "ungated":
            c = h = c + a + fusion.candidate(a)
            continue
        f, u, o = gates[:, :D].sigmoid(), gates[:, D : 2 * D].sigmoid(), gates[:, 2 * D :].sigmoid()
        g = fusion.candidate(a)
        c = f * c + u * (torch.tanh(g) if lstm else a + g)
        h = o * (torch.tanh(c) if lstm else c)
    return h


TREES = ("memory", "memory-paper", "memory-ungated", "memory-slow", "memory-alone-slow")


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("name", TREES)
def test_tree_equals_brute_force_over_orders(name, modalities):
    fusion, features = build(name, modalities)
    coalitions = all_coalitions(modalities)[1:]
    orders = tuple(itertools.permutations(range(modalities)))
    logits = fusion(features, coalitions, orders)
    for row, coalition in enumerate(coalitions.tolist()):
        members = {m for m in range(modalities) if coalition[m]}
        h = torch.stack([reference_memory(fusion, features, members, o) for o in orders]).mean(0)
        gain = 0.25 if name == "memory-slow" else 1.0
        expected = gain * h @ fusion.readout_memory.weight.T + fusion.readout_memory.bias
        if fusion.evidence_MCD is not None:
            expected = expected + sum(features[m] @ fusion.evidence_MCD[m].T for m in members)
        torch.testing.assert_close(logits[row], expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("modalities", "cells"), [(2, 4), (3, 15), (4, 64)])
def test_tree_size(modalities, cells):
    every = all_coalitions(modalities)[1:]
    orders = tuple(itertools.permutations(range(modalities)))
    assert coalition_tree(every, orders).cells == cells
    assert coalition_tree(every, orders[:1]).cells == 2**modalities - 1


def test_attention_equals_a_plain_block_over_the_members_alone():
    fusion, features = build("attention", 3)
    tokens = torch.stack(features, 1) + fusion.own_MD
    logits = fusion(features, all_coalitions(3))
    heads = fusion.heads
    for row, coalition in enumerate(all_coalitions(3).tolist()):
        if not any(coalition):
            continue
        x = tokens[:, [m for m in range(3) if coalition[m]]]
        q, k, v = fusion.query_key_value(fusion.norm_in(x)).split(D, -1)
        mixed = []
        for part in range(heads):
            at = slice(part * D // heads, (part + 1) * D // heads)
            score = q[..., at] @ k[..., at].mT / (D / heads) ** 0.5
            mixed.append(score.softmax(-1) @ v[..., at])
        x = x + fusion.project(torch.cat(mixed, -1))
        x = x + fusion.feed_forward(fusion.norm_mid(x))
        expected = fusion.readout(fusion.norm_out(x.mean(1)))
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)


def test_attention_is_as_large_as_the_memory():
    sizes = [
        sum(p.numel() for p in kind(3, 64, 10, torch.full((10,), 0.1)).parameters())
        for kind in (Attention, Memory)
    ]
    assert abs(sizes[0] / sizes[1] - 1) < 0.1


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(MmeqError, match=r"fusion.heads=3: must divide backbone.dim=8"):
        Attention(2, 8, 4, torch.full((4,), 0.25), heads=3)


def test_memory_contains_linear_concat():
    fusion, features = build("memory", 3)
    torch.nn.init.zeros_(fusion.readout_memory.weight)
    full = fusion(features, torch.ones(1, 3, dtype=torch.bool))[0]
    expected = torch.cat(features, 1) @ fusion.evidence_MCD.permute(1, 0, 2).reshape(C, -1).T
    torch.testing.assert_close(full, expected + fusion.readout_memory.bias)


def test_evidence_starts_as_concat_does():
    prior = torch.full((C,), 1 / C)
    for modalities in (2, 5):
        torch.manual_seed(0)
        concat = Concat(modalities, 256, C, prior).weight_MCD
        evidence = Memory(modalities, 256, C, prior, gain=0.1).evidence_MCD
        assert evidence.abs().max() <= (modalities * 256) ** -0.5
        torch.testing.assert_close(evidence.std(), concat.std(), rtol=0.05, atol=0)


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_the_memory_refuses_a_gain_that_is_none(gain):
    with pytest.raises(MmeqError, match=r"fusion.gain=.*give a number above 0"):
        Memory(2, D, C, torch.full((C,), 1 / C), gain=gain)


def test_concat_and_sum_are_linear_in_the_filler():
    fusion, features = build("concat", 3)
    coalitions = all_coalitions(3)[1:]
    filled = fusion.fill(features, coalitions)
    expected = torch.einsum("smbd,mcd->sbc", filled, fusion.weight_MCD) + fusion.bias_C
    torch.testing.assert_close(fusion(features, coalitions), expected, atol=1e-5, rtol=1e-5)
    assert fusion.filler().abs().max() > 0


def test_moments_match_plain_statistics_with_gaps():
    from mmeq.fusions.moments import RunningMoments

    torch.manual_seed(0)
    x = torch.randn(400, 2, 5)
    x[:, 1, 0] += 2 * x[:, 0, 3]
    moments = RunningMoments(2, 5, decay=1.0)
    for part in x.split(50):
        moments.update(list(part.unbind(1)), None)
    torch.testing.assert_close(moments.mean_MD, x.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moments.std_MD, x.std(0, correction=0), atol=1e-4, rtol=1e-4)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    both = moments.correlations(((0, 1), (1, 0)))
    torch.testing.assert_close(both[0], z[:, 1].T @ z[:, 0] / 400, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(both[1], both[0].T)
    before = copy.deepcopy(moments)
    before.correlations(((0, 1),))
    moments.update(list(x[:50].unbind(1)), None)
    assert not torch.equal(moments.correlations(((0, 1), (1, 0))), both)
    old = {**before.state_dict(), "corr_MMDD": torch.zeros(2, 2, 5, 5)}  # of an earlier version
    moments.load_state_dict(old)
    assert torch.equal(moments.correlations(((0, 1), (1, 0))), both)
    # rows that lack modality 1 change nothing about it
    gaps = RunningMoments(2, 5, decay=1.0)
    present = torch.ones(400, 2, dtype=torch.bool)
    present[200:, 1] = False
    gaps.update(list(x.unbind(1)), present)
    torch.testing.assert_close(gaps.mean_MD[1], x[:200, 1].mean(0), atol=1e-5, rtol=1e-4)


def test_sample_level_alignment_is_for_training_only():
    fusion, features = build("memory-paper", 2)
    fusion.threshold = -1.0
    full = torch.ones(1, 2, dtype=torch.bool)
    still = fusion(features, full)
    fusion.train()
    assert not torch.allclose(fusion(features, full), still)


def test_inherited_state_follows_the_final_states():
    fusion, features = build("memory-inherit", 2)
    fusion.train()
    full = torch.ones(1, 2, dtype=torch.bool)
    assert fusion.initial_D.abs().max() == 0
    fusion(features, full)
    fusion.observe(features, None)
    assert fusion.initial_D.abs().max() > 0
    assert fusion.final_D.abs().max() == 0


def test_a_plan_made_while_testing_serves_training():
    fusion, features = build("memory", 5)
    orders = ((4, 2, 0, 1, 3),)  # no other test plans this order
    full = torch.ones(1, 5, dtype=torch.bool)
    with torch.inference_mode():
        fusion(features, full, orders)
    fusion(features, full, orders).sum().backward()
    assert fusion.gate_state.weight.grad.abs().max() > 0
