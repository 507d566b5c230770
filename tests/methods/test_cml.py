"""CML: its steps against a loop over samples and removals, the hinge by hand, gaps."""

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.base import Features
from mmeq.methods.cml import Cml
from mmeq.methods.joint import Joint


def with_gaps(batches, rate=0.4):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        present = torch.rand(batch["present"].shape, generator=generator) > rate
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(batch["inputs"]):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


def answer(fusion, graph, sample, members):
    """W[h_1; …; h_M] + b of one sample, the running mean where h_m is away."""
    total = fusion.bias_C
    for m, rows in enumerate(graph):
        h = rows[sample] if m in members else fusion.moments.mean_MD[m]
        total = total + fusion.weight_MCD[m] @ h
    return total


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_two_batches_equal_plain_pytorch(count, complete):
    spec = toy_spec(count, complete=complete)
    module = toy_module(spec, method=partial(Cml, weight=3.0), fusion=Concat)
    batches = toy_batches(spec, count=2)
    if not complete:
        batches = with_gaps(batches)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    fusion.train()
    rankings = []
    for batch in batches:
        graph = [encoders[n](batch["inputs"][n]) for n in spec.names]
        fusion.observe(graph, None if complete else batch["present"])
        fused, hinges = [], []
        for sample, label in enumerate(batch["label"]):
            members = [m for m in range(count) if batch["present"][sample, m]]
            logits = answer(fusion, graph, sample, members)
            fused.append(F.cross_entropy(logits[None], label[None]))
            confidence = logits.softmax(0).max()
            for m in members if len(members) > 1 else ():
                rest = [k for k in members if k != m]
                without = answer(fusion, graph, sample, rest).softmax(0).max()
                hinges.append(torch.clamp(without - confidence, min=0))
        ranking = torch.stack(hinges).mean()
        rankings.append(float(ranking.detach()))
        loss = torch.stack(fused).mean() + 3.0 * ranking
        parameters = [*encoders.parameters(), *fusion.parameters()]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    assert min(rankings) > 0
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        for (name, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


def test_hinge_by_hand():
    method = Cml("abc")
    confidence_SB = torch.tensor([[0.5, 0.9], [0.7, 0.8], [0.5, 0.9], [0.4, 1.0]])
    rows = (torch.zeros(2, 1),) * 3
    whole = method.ranking(confidence_SB, Features(rows, None))
    assert float(whole) == pytest.approx((0.2 + 0.1) / 6)
    # the first sample has all, the second b alone: nothing can be removed from it
    present = torch.tensor([[True, True, True], [False, True, False]])
    assert float(method.ranking(confidence_SB, Features(rows, present))) == pytest.approx(0.2 / 3)
    # the second has a and c: removing b, which it lacks, is no removal
    present = torch.tensor([[True, True, True], [True, False, True]])
    assert float(method.ranking(confidence_SB, Features(rows, present))) == pytest.approx(0.3 / 5)
    lonely = torch.tensor([[True, False, False], [False, True, False]])
    assert float(method.ranking(confidence_SB, Features(rows, lonely))) == 0


def test_coalitions_are_all_and_each_without_one():
    assert Cml("abc").coalitions_SM.tolist() == [
        [True, True, True],
        [False, True, True],
        [True, False, True],
        [True, True, False],
    ]
    assert Cml("ab").coalitions_SM.tolist() == [[True, True], [False, True], [True, False]]


@pytest.mark.parametrize("fusion", [Concat, Memory])
def test_without_weight_it_is_joint_training(fusion):
    spec = toy_spec(3)
    cml = toy_module(spec, method=partial(Cml, weight=0.0), fusion=fusion)
    joint = toy_module(spec, method=Joint, fusion=fusion)
    for module in (cml, joint):
        fit(module, toy_batches(spec))
    for a, b in zip(cml.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_confidence_rises_less_on_removal():
    """What it is for: smaller violations than joint training leaves, at no loss of accuracy."""
    spec = toy_spec(2)
    batches = toy_batches(spec, count=6)
    left = []
    for method in (Cml, partial(Cml, weight=0.0)):
        module = toy_module(spec, method=method, fusion=Concat)
        fit(module, batches, batches, epochs=8)
        left.append(module.train_losses["ranking"])
        assert float(module.report.full) > 2 / CLASSES
    assert 0 < left[0] < 0.6 * left[1]


def test_nothing_to_remove_is_no_loss():
    """Samples with one modality each: the step is the fused loss, and finite."""
    spec = toy_spec(2, complete=False)
    batches = toy_batches(spec, count=2)
    for batch in batches:
        batch["present"] = F.one_hot(torch.arange(16) % 2, 2).bool()
    cml, joint = (toy_module(spec, method=method, fusion=Concat) for method in (Cml, Joint))
    for module in (cml, joint):
        fit(module, batches)
    for a, b in zip(cml.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_one_modality_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1), method=Cml)


@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_wrong_option_is_named(weight):
    with pytest.raises(MmeqError, match=r"method\.weight"):
        Cml("ab", weight=weight)
