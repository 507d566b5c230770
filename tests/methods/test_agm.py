"""Gradient modulation through Shapley terms: terms, coefficients and steps by hand."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.gated import Gated
from mmeq.fusions.memory import Memory
from mmeq.methods.agm import Agm, terms
from mmeq.methods.joint import Joint

ZERO = partial(Concat, absence="zero")
ALONE = SimpleNamespace(mean=lambda value: value)


def toy(spec, fusion=ZERO, method=Agm, **options):
    return toy_module(spec, method=partial(method, **options), fusion=fusion)


def published_terms(f):
    """φ of two or three modalities, as the paper prints them; f: members → logits."""
    if "c" not in "".join(f):
        return [(f["ab"] - f["b"] + f["a"]) / 2, (f["ab"] - f["a"] + f["b"]) / 2]
    return [
        (f["abc"] - f["bc"] + f["a"]) / 3 + (f["ac"] - f["c"] + f["ab"] - f["b"]) / 6,
        (f["abc"] - f["ac"] + f["b"]) / 3 + (f["bc"] - f["c"] + f["ab"] - f["a"]) / 6,
        (f["abc"] - f["ab"] + f["c"]) / 3 + (f["bc"] - f["b"] + f["ac"] - f["a"]) / 6,
    ]


def published_factors(running, score, alpha):
    """κ of two or three modalities, as published."""
    if len(score) == 2:
        return [
            math.exp(
                alpha
                * min(math.exp(running[1 - m] - running[m]) - math.exp(score[1 - m] - score[m]), 10)
            )
            for m in range(2)
        ]
    mean, past = np.mean(score), np.mean(running)
    return [
        math.exp(
            alpha * min(math.exp(1.5 * (past - running[m])) - math.exp(1.5 * (mean - score[m])), 7)
        )
        for m in range(3)
    ]


@pytest.mark.parametrize("names", [("a", "b", "ab"), ("a", "b", "ab", "c", "ac", "bc", "abc")])
def test_terms_are_the_published_ones_and_add_up(names):
    values = torch.randn(len(names), 4, CLASSES)
    found = terms(values)
    expected = published_terms(dict(zip(names, values, strict=True)))
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(found.sum(0), values[-1])


@pytest.mark.parametrize(
    ("running", "score"),
    [
        ((0.9, 0.5), (0.7, 1.1)),
        ((0.0, 4.0), (0.5, 0.5)),  # capped at 10
        ((0.9, 0.5, 0.2), (0.7, 1.1, 0.4)),
        ((0.0, 4.0, 4.0), (0.5, 0.5, 0.1)),  # capped at 7
    ],
)
def test_coefficients_and_running_means_by_hand(running, score):
    method = Agm("abc"[: len(score)], alpha=0.4)
    method.running_M += torch.tensor(running)
    method.batches_M += 3
    seen = torch.ones(len(score), dtype=torch.bool)
    found = method.factors(torch.tensor(score), seen)
    np.testing.assert_allclose(found, published_factors(running, score, 0.4), rtol=1e-5)
    expected = [r * 3 / 4 + s / 4 for r, s in zip(running, score, strict=True)]
    np.testing.assert_allclose(method.running_M, expected, rtol=1e-5)
    assert method.batches_M.tolist() == [4] * len(score)


def test_score_is_a_floored_nll_of_those_who_have_the_modality():
    term = torch.tensor([[[90.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]], [[1.0, 0.0]] * 2])
    method = Agm("abc")
    method.running_M += torch.tensor([7.0, 8.0, 9.0])
    there = torch.tensor([[True, True, False], [True, False, False]])
    score, seen = method.score(ALONE, term, torch.tensor([1, 1]), there)
    own = [(-math.log(1e-8) + math.log(1 + math.exp(-1))) / 2, math.log(1 + math.exp(2)), 9.0]
    np.testing.assert_allclose(score, own, rtol=1e-5)
    assert seen.tolist() == [True, True, False]
    method.factors(score, seen)
    assert method.running_M[2] == 9.0
    assert method.batches_M.tolist() == [1, 1, 0]


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("fusion", [partial(Gated, absence="zero"), ZERO])
def test_two_batches_equal_plain_pytorch(modalities, fusion):
    """The gradient is Σ_m κ_m (∂φ_m/∂θ)ᵀ ∂L/∂φ_m, for encoders and fusion alike."""
    spec = toy_spec(modalities)
    module = toy(spec, fusion=fusion, alpha=8.0)
    batches = toy_batches(spec, count=2)
    encoders, head = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    names = ["a", "b", "ab", "c", "ac", "bc", "abc"][: 2**modalities - 1]
    running = np.zeros(modalities)
    parameters = [*encoders.parameters(), *head.parameters()]
    for number, batch in enumerate(batches):
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        f = {who: head(rows, torch.tensor([[n in who for n in spec.names]]))[0] for who in names}
        phi = published_terms(f)
        fused = sum(phi).detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(fused, batch["label"]), fused)
        score = [float(F.cross_entropy(p.detach(), batch["label"])) for p in phi]
        factors = published_factors(running, score, 8.0)
        running = running * number / (number + 1) + np.array(score) / (number + 1)
        grads = torch.autograd.grad(phi, parameters, [k * slope for k in factors])
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter -= 0.1 * grad
    assert max(abs(k - 1) for k in factors) > 0.02
    for ours, theirs in ((module.encoders, encoders), (module.fusion, head)):
        torch.testing.assert_close(
            dict(ours.state_dict()), dict(theirs.state_dict()), atol=1e-6, rtol=1e-5
        )
    np.testing.assert_allclose(module.method.running_M, running, rtol=1e-5)


def test_a_sample_without_b_gives_all_to_a():
    """Its φ_b is 0, so its gradient is scaled by κ_a alone, and b's score does not count it."""
    spec = toy_spec(2, complete=False)
    module = toy(spec, alpha=0.8)
    (batch,) = toy_batches(spec, count=1)
    batch["present"][:6, 1] = False
    module.fusion.log_prior_C.copy_(torch.tensor([0.7, 0.2, 0.1]).log())  # no part in any φ
    encoders, head = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, [batch])

    has_b = batch["present"][:, 1:].float()
    label = batch["label"]
    own = [
        encoders[n](batch["inputs"][n]) @ w.T for n, w in zip("ab", head.weight_MCD, strict=True)
    ]
    share = torch.stack([1 - has_b / 2, has_b / 2]) * head.bias_C  # f(∅) = 0
    phi = [own[0] + share[0], has_b * own[1] + share[1]]
    fused = sum(phi).detach().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(fused, label), fused)
    score = [
        float(F.cross_entropy(phi[0].detach(), label)),
        float(F.cross_entropy(phi[1][6:].detach(), label[6:])),
    ]
    factors = published_factors([0.0, 0.0], score, 0.8)
    parameters = [*encoders.parameters(), *head.parameters()]
    grads = torch.autograd.grad(phi, parameters, [k * slope for k in factors])
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter -= 0.1 * grad
    np.testing.assert_allclose(module.method.running_M, score, rtol=1e-5)
    found = [*module.encoders.parameters(), *module.fusion.parameters()]
    for a, b in zip(found, parameters, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fusion", [ZERO, Memory])
def test_alpha_zero_is_joint_training(fusion):
    spec = toy_spec(3)
    module, joint = toy(spec, fusion=fusion, alpha=0.0), toy(spec, fusion=fusion, method=Joint)
    batches = toy_batches(spec)
    fit(module, batches)
    fit(joint, batches)
    for a, b in zip(module.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert module.train_losses == joint.train_losses


def test_it_answers_by_the_fusion():
    spec = toy_spec(2)
    module = toy(spec)
    batch = toy_batches(spec, count=1)[0]
    fit(module, [batch], [batch])
    features = module.encode(batch)
    torch.testing.assert_close(
        module.method.logits(module, features, module.coalitions_SM),
        module.fuse(features, module.coalitions_SM),
    )


def test_state_survives_a_checkpoint():
    spec = toy_spec(3)
    module, other = toy(spec), toy(spec)
    fit(module, toy_batches(spec))
    other.method.load_state_dict(module.method.state_dict())
    assert torch.equal(other.method.running_M, module.method.running_M)
    assert other.method.batches_M.tolist() == [4, 4, 4]
    score, seen = torch.tensor([0.5, 0.9, 0.7]), torch.ones(3, dtype=torch.bool)
    assert torch.equal(other.method.factors(score, seen), module.method.factors(score, seen))
    assert set(module.method.describe()) == {"score", "coefficient"}


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_wrong_option_is_named(value):
    with pytest.raises(MmeqError, match=r"method\.alpha"):
        Agm("ab", alpha=value)


@pytest.mark.parametrize(("count", "message"), [(1, "at least 2"), (9, "8 modalities at most")])
def test_too_few_or_too_many_modalities_are_refused(count, message):
    with pytest.raises(MmeqError, match=message):
        toy(toy_spec(count))


@pytest.mark.parametrize("fusion", [ZERO, Memory])
def test_gaps_leave_no_nan(fusion):
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=6)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(16, 3, generator=generator) > 0.3
    batches[0]["present"][:, 0] = False
    module = toy(spec, fusion=fusion)
    fit(module, batches, batches, epochs=2)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert module.method.batches_M.tolist() == [10, 12, 12]
