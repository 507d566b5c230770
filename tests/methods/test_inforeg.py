"""The pull on the dominant encoder: strength, windows and steps by hand, what it leaves alone."""

import copy
from functools import partial
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.inforeg import InfoReg
from mmeq.methods.joint import Joint

ZERO = partial(Concat, absence="zero")
INF = float("inf")


def toy(spec, fusion=ZERO, method=InfoReg, **options):
    return toy_module(spec, method=partial(method, **options), fusion=fusion)


class Described(lightning.Callback):
    """What the method says of each epoch."""

    def __init__(self):
        self.facts = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.facts.append(pl_module.method.describe())


def test_pulls_by_hand():
    method = InfoReg("ab")
    found = method.pulls(torch.tensor([0.2, 0.6]), torch.tensor([0.6, 0.2]))
    np.testing.assert_allclose(found, [0, 0.95 * np.exp(np.tanh(0.4))], rtol=1e-6)
    method = InfoReg("abc", beta=2.0)
    found = method.pulls(torch.tensor([0.2, 0.6, 0.5]), torch.tensor([0.5, 0.2, 0.2]))
    np.testing.assert_allclose(found, [0, 2 * np.exp(np.tanh(0.4)), 0], rtol=1e-6)
    assert method.pulls(torch.full((3,), 0.4), torch.full((3,), 0.4)).tolist() == [0, 0, 0]
    alone = method.pulls(torch.tensor([0.4, 0.0, 0.0]), torch.tensor([INF, 0.4, 0.4]))
    assert alone.tolist() == [0, 0, 0]  # nobody to compare with


def after(traces, **options):
    """Growth and open windows at the start of the epoch that follows these traces."""
    encoders = [nn.Linear(2, 2), nn.Linear(2, 2)]
    method = InfoReg("ab", **options)
    loop = SimpleNamespace(encoder=lambda m: encoders[m])
    method.on_epoch_start(loop)
    for row in traces:
        method.batches += 4
        method.trace_M += 4 * torch.tensor(row)
        method.on_epoch_start(loop)
    return method.growth, set(method.first)


def test_windows_by_hand():
    assert after([]) == ([1.0, 1.0], {0, 1})
    growth, windows = after([(1.0, 2.0), (1.06, 2.08)], smooth=1)
    np.testing.assert_allclose(growth, [0.06 / 1.06, 0.08 / 2.08], rtol=1e-4)
    assert windows == {0}
    growth, _ = after([(1.0, 1.0), (3.0, 0.5), (2.0, 0.5)], smooth=2)
    np.testing.assert_allclose(growth, [(2.5 - 2) / 2.5, (0.5 - 0.75) / 0.5], rtol=1e-5)
    steady = [(1.0, 1.0)] * 10  # before the first epoch there was nothing: a tenth more each
    assert after(steady)[1] == {0, 1}
    assert after([*steady, (1.0, 1.5)])[1] == set()  # by 0 and 0.048
    assert after([*steady, (1.0, 1.6)])[1] == {1}  # by 0 and 0.057


@pytest.mark.parametrize("modalities", [2, 3])
def test_three_epochs_equal_plain_pytorch(modalities):
    """Losses, Fisher traces before the pull, windows, and the pull itself."""
    spec = toy_spec(modalities)
    options = {"beta": 3.0, "threshold": 0.0, "smooth": 1, "weight": 0.5}
    module, notes = toy(spec, **options), Described()
    batches = toy_batches(spec, count=3)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches, epochs=3, callbacks=[notes])

    weight, bias = fusion.weight_MCD, fusion.bias_C
    traces, pulled = [np.zeros(modalities)], []
    for epoch in range(3):
        start = copy.deepcopy(encoders)
        growth = (traces[-1] - traces[-2]) / traces[-1] if epoch else np.ones(modalities)
        traces.append(np.zeros(modalities))
        for batch in batches:
            rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
            own = [h @ w.T + bias / modalities for h, w in zip(rows, weight, strict=True)]
            label = batch["label"]
            unimodal = sum(F.cross_entropy(o, label) for o in own)
            (F.cross_entropy(sum(own), label) + 0.5 * unimodal).backward()
            right = range(len(label)), label
            score = [float(o.detach().softmax(-1)[right].mean()) for o in own]
            with torch.no_grad():
                for m, name in enumerate(spec.names):
                    parameters = list(encoders[name].parameters())
                    square = sum(float((p.grad**2).sum()) for p in parameters)
                    traces[-1][m] += square / len(batches)
                    pull = 0.0
                    if m == np.argmax(score) and growth[m] > 0:
                        pull = 3.0 * np.exp(np.tanh(score[m] - min(score)))
                        pulled.append((epoch, m))
                    for parameter, first in zip(parameters, start[name].parameters(), strict=True):
                        parameter -= 0.1 * (parameter.grad + pull * (parameter - first))
                weight -= 0.1 * weight.grad
                bias -= 0.1 * bias.grad
            for parameter in [*encoders.parameters(), weight, bias]:
                parameter.grad = None
        facts = notes.facts[epoch]
        np.testing.assert_allclose(list(facts["growth"].values()), growth, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(list(facts["trace"].values()), traces[-1], rtol=1e-4)
    assert pulled.count((0, pulled[0][1])) >= 2  # the first of an epoch pulls nowhere
    assert len(pulled) < 9  # some window was closed
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        torch.testing.assert_close(
            dict(ours.state_dict()), dict(theirs.state_dict()), atol=1e-6, rtol=1e-5
        )


def test_pull_brings_the_dominant_encoder_nearer_to_where_the_epoch_began():
    """And no other one: the weaker encoder, whose window is open too, moves on."""
    encoders = [nn.Linear(2, 2), nn.Linear(2, 2)]
    loop = SimpleNamespace(encoder=lambda m: encoders[m])
    method = InfoReg("ab")
    method.on_epoch_start(loop)
    first = copy.deepcopy(encoders)
    for part in encoders:
        for parameter in part.parameters():
            parameter.data += 1.0
            parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        method.regulate(loop, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(encoders[0].weight.grad, 0.5 * torch.ones(2, 2))
    assert torch.equal(encoders[1].weight.grad, torch.zeros(2, 2))
    torch.testing.assert_close(first[0].weight, method.first[0][0])
    assert method.trace_M.tolist() == [0.0, 0.0]  # the pull is no information


def test_without_pull_and_unimodal_losses_it_is_joint_training():
    spec = toy_spec(3)
    module, joint = toy(spec, beta=0.0, weight=0.0), toy(spec, method=Joint)
    batches = toy_batches(spec)
    fit(module, batches, epochs=2)
    fit(joint, batches, epochs=2)
    for a, b in zip(module.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert module.train_losses == joint.train_losses


def test_state_survives_a_checkpoint_at_the_end_of_an_epoch():
    spec = toy_spec(2)
    batches = toy_batches(spec)
    module, other = toy(spec), toy(spec)
    fit(module, batches, epochs=2)
    other.load_state_dict(module.state_dict())
    for part in (module, other):
        part.method.on_epoch_start(part)
    assert other.method.growth == module.method.growth
    assert 0 < other.method.growth[0] < 1
    assert torch.equal(other.method.past_KM, module.method.past_KM)
    for a, b in zip(other.method.first[0], module.method.first[0], strict=True):
        assert torch.equal(a, b)


def test_frozen_parameters_are_neither_copied_nor_counted():
    encoders = [nn.Linear(2, 2), nn.Linear(2, 2)]
    encoders[0].weight.requires_grad_(False)
    method = InfoReg("ab")
    method.on_epoch_start(SimpleNamespace(encoder=lambda m: encoders[m]))
    assert [len(method.first[m]) for m in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("option", "value"),
    [("beta", -1.0), ("threshold", float("nan")), ("smooth", 0), ("weight", -0.1)],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        InfoReg("ab", **{option: value})


def test_unimodal_losses_leave_out_who_lacks_the_modality():
    spec = toy_spec(2, complete=False)
    (batch,) = toy_batches(spec, count=1)
    batch["present"][:6, 1] = False
    module = toy(spec)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, [batch], [batch])
    own = [
        encoders[n](batch["inputs"][n]) @ w.T + fusion.bias_C / 2
        for n, w in zip("ab", fusion.weight_MCD, strict=True)
    ]
    label = batch["label"]
    expected = F.cross_entropy(own[0], label) + F.cross_entropy(own[1][6:], label[6:])
    assert module.train_losses["unimodal"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("fusion", [ZERO, Memory])
def test_gaps_leave_no_nan(fusion):
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=6)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(16, 3, generator=generator) > 0.3
    batches[0]["present"][:, 0] = False
    batches[1]["present"] = torch.tensor([True, False, False]).repeat(16, 1)
    module = toy(spec, fusion=fusion)
    fit(module, batches, batches, epochs=2)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert torch.isfinite(module.method.past_KM).all()
