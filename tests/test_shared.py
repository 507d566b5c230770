"""Encoders with parameters in common: who steps them, and what a step does to graphs made before.

Shape suffixes: B batch, D width.
"""

import copy
import importlib
import pkgutil
from functools import partial
from inspect import isabstract, isclass, signature

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import CLASSES, DIM, SGD, WIDTH, fit, toy_batches, toy_spec

import mmeq.methods
from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.base import Method
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley
from mmeq.methods.unimodal import Unimodal
from mmeq.module import MultimodalModule

METHODS = [
    kind
    for found in pkgutil.iter_modules(mmeq.methods.__path__)
    for kind in vars(importlib.import_module(f"mmeq.methods.{found.name}")).values()
    if isclass(kind) and issubclass(kind, Method) and not isabstract(kind)
    and kind.__module__ == f"mmeq.methods.{found.name}"
]  # fmt: skip


class Encoder(nn.Module):
    """A front of its own and a body that others may have too."""

    def __init__(self, body):
        super().__init__()
        self.front, self.body = nn.Linear(WIDTH, 6), body

    def forward(self, x_BF):
        """Features [B, D]."""
        return self.body(torch.tanh(self.front(x_BF)))


def module_of(method, fusion=Concat, modalities=2, shared=True, optimizer=SGD):
    spec = toy_spec(modalities)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, DIM))
    encoders = {name: Encoder(body if shared else copy.deepcopy(body)) for name in spec.names}
    prior = torch.full((CLASSES,), 1 / CLASSES)
    sizes = {"dim": DIM, "classes": CLASSES}
    takes = signature(method).parameters
    made = method(spec.names, **{key: size for key, size in sizes.items() if key in takes})
    return MultimodalModule(
        spec, nn.ModuleDict(encoders), fusion(modalities, DIM, CLASSES, prior), made, optimizer,
        prior,
    )  # fmt: skip


def test_what_is_shared_is_a_group_of_its_own_and_listed_once():
    module = module_of(Joint, modalities=3)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert {group["name"] for group in groups} == {
        "encoder/a", "encoder/b", "encoder/c", "encoder/a+b+c", "fusion",
    }  # fmt: skip
    every = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(every) == len(set(every))
    assert module.shared
    assert not module_of(Joint, shared=False).shared


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_joint_step_is_the_one_of_plain_torch(weight):
    ours = module_of(partial(Joint, weight=weight))
    plain = copy.deepcopy(ours)
    (batch,) = toy_batches(ours.spec, count=1)
    fit(ours, [batch])
    plain.train()
    features = plain.encode(batch)
    coalitions = plain.method.coalitions_SM
    losses = [
        F.cross_entropy(one, batch["label"])
        for one in plain.fusion(features.rows, coalitions, (plain.order,), None)
    ]
    loss = losses[0] + weight * (losses[1] + losses[2]) / 2 if weight else losses[0]
    optimizer = torch.optim.SGD(
        list({id(p): p for p in plain.parameters() if p.requires_grad}.values()), lr=0.1
    )
    loss.backward()
    optimizer.step()
    for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("modalities", [2, 3])
def test_alternation_encodes_each_modality_as_the_last_step_left_it(modalities):
    ours = module_of(partial(Shapley, supervise="unimodal", order="fixed"), modalities=modalities)
    plain = copy.deepcopy(ours)
    batches = toy_batches(ours.spec, count=2)
    fit(ours, batches)
    plain.train()
    body = list(plain.encoders["a"].body.parameters())
    names = list(plain.spec.names)
    for batch in batches:
        rows = [plain.encoders[name].eval()(batch["inputs"][name]).detach() for name in names]
        plain.fusion.observe(rows, None)
        for place, name in enumerate(names):
            rows[place] = plain.encoders[name](batch["inputs"][name])
            coalitions, weight = plain.method.targets(place)
            out = plain.fusion(rows, coalitions, (tuple(range(modalities)),), None)
            loss = sum(
                w * F.cross_entropy(o, batch["label"]) for w, o in zip(weight, out, strict=True)
            )
            moved = [*plain.encoders[name].front.parameters(), *body, *plain.fusion.parameters()]
            moved = [parameter for parameter in moved if parameter.requires_grad]
            gradients = torch.autograd.grad(loss, moved, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(moved, gradients, strict=True):
                    if gradient is not None:
                        parameter -= 0.1 * gradient
            rows[place] = rows[place].detach()
    for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_a_step_for_one_modality_moves_the_body_and_no_other_front():
    module = module_of(partial(Unimodal, modality="a"), fusion=Memory)
    before = copy.deepcopy(module.encoders.state_dict())
    fit(module, toy_batches(module.spec, count=1))
    moved = {
        key for key, value in module.encoders.state_dict().items()
        if not torch.equal(value, before[key])
    }  # fmt: skip
    assert {key.rsplit(".", 1)[0] for key in moved} == {
        "a.front", "a.body.0", "a.body.2", "b.body.0", "b.body.2",
    }  # fmt: skip


def complete(method):
    """The method with what it needs to be made."""
    return partial(method, modality="a") if method.single else method


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.title())
def test_every_method_trains_shared_encoders_or_refuses_them(method):
    if not method.shares:
        with pytest.raises(MmeqError, match=f"{method.title()} cannot train encoders that share"):
            module_of(complete(method))
        return
    module = module_of(complete(method), optimizer=partial(torch.optim.AdamW, lr=1e-2))
    batches = toy_batches(module.spec, count=4)
    before = [parameter.clone() for parameter in module.encoders["a"].body.parameters()]
    fit(module, batches, toy_batches(module.spec, count=2, seed=1), epochs=3)
    moved = [*module.encoders["a"].body.parameters()]
    assert all(not torch.equal(one, two) for one, two in zip(before, moved, strict=True))
    assert all(parameter.isfinite().all() for parameter in moved)
