"""Uni-modal teachers: who trains when, the two losses by hand, and that frozen is frozen."""

import copy
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.nn import functional as F
from toy import CLASSES, DIM, WIDTH, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.umt import Umt

CONCAT = partial(Concat, absence="zero")
ADAMW = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)


class Epochs(Callback):
    """Weights, optimizer moments, losses and facts after each epoch."""

    def __init__(self):
        self.weights, self.moments, self.losses, self.facts = [], [], [], []

    def on_train_epoch_end(self, trainer, pl_module):
        module = pl_module
        self.weights.append(copy.deepcopy(module.state_dict()))
        state = trainer.optimizers[0].state
        self.moments.append(
            {n: copy.deepcopy(state[p]) for n, p in module.named_parameters() if p in state}
        )
        self.losses.append(module.losses.summary()[0])
        self.facts.append(module.method.describe())


def gaps(spec, batches, rate=0.4):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > rate
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    return batches


def step(loss, parameters, rate=0.1):
    for parameter, grad in zip(
        parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
    ):
        if grad is not None:
            with torch.no_grad():
                parameter -= rate * grad


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_both_phases_equal_plain_pytorch(modalities, complete):
    """A teacher epoch by CE of each alone, then a student epoch by CE + λ Σ mean squared gap."""
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=2)
    if not complete:
        gaps(spec, batches)
        batches[1]["present"][:, 0] = False  # nobody has it: no NaN
    made = partial(Umt, weight=0.7, teacher_share=0.5)
    module = toy_module(spec, method=made, fusion=CONCAT)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    teachers, heads = copy.deepcopy(module.encoders), copy.deepcopy(module.method.heads)
    seen = Epochs()
    fit(module, batches, epochs=2, callbacks=[seen])

    for batch in batches:
        for m, name in enumerate(spec.names):
            has = batch["present"][:, m]
            if not has.any():
                continue
            logits = heads.each[m](teachers[name](batch["inputs"][name][has]))
            loss = F.cross_entropy(logits, batch["label"][has])
            step(loss, [*teachers[name].parameters(), *heads.each[m].parameters()])
    for batch in batches:
        graph = [encoders[n](batch["inputs"][n]) for n in spec.names]
        shown = [
            h * batch["present"][:, m, None] for m, h in enumerate(graph)
        ]  # absence=zero: what is missing enters as zeros
        weight = fusion.weight_MCD.permute(1, 0, 2).flatten(1)
        logits = torch.cat(shown, 1) @ weight.T + fusion.bias_C
        nobody = ~batch["present"].any(1)
        logits = torch.where(nobody[:, None], fusion.log_prior_C, logits)
        loss = F.cross_entropy(logits, batch["label"])
        for m, name in enumerate(spec.names):
            has = batch["present"][:, m]
            if has.any():
                target = teachers[name](batch["inputs"][name][has]).detach()
                loss = loss + 0.7 * F.mse_loss(graph[m][has], target)
        step(loss, [*encoders.parameters(), *fusion.parameters()])
    for ours, theirs in (
        (module.method.teachers, teachers),
        (module.method.heads, heads),
        (module.encoders, encoders),
        (module.fusion, fusion),
    ):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    assert set(seen.losses[0]) == {f"step/{n}" for n in spec.names}
    assert set(seen.losses[1]) == {"joint", "distillation"}
    assert [facts["phase"] for facts in seen.facts] == ["teachers", "student"]


def test_each_phase_leaves_the_other_untouched():
    """Weights, statistics of batch norms and moments; also under weight decay and momentum."""
    spec = toy_spec(2)
    batches = toy_batches(spec)
    module = toy_module(
        spec, method=partial(Umt, teacher_share=0.4), fusion=CONCAT, optimizer=ADAMW
    )
    normed = {n: nn.Sequential(nn.Linear(WIDTH, DIM), nn.BatchNorm1d(DIM)) for n in spec.names}
    module.method.adopt(nn.ModuleDict(normed))
    first = copy.deepcopy(module.state_dict())
    seen = Epochs()
    fit(module, batches, epochs=5, callbacks=[seen])
    assert [facts["phase"] for facts in seen.facts] == ["teachers"] * 2 + ["student"] * 3
    taught, last = seen.weights[1], seen.weights[-1]
    ours = [n for n in first if n.startswith(("method.teachers", "method.heads"))]
    others = [n for n in first if n.startswith(("encoders", "fusion")) and "log_prior" not in n]
    assert any("running_mean" in n for n in ours)
    for name in ours:
        assert torch.equal(taught[name], last[name]), name
        assert not torch.equal(first[name], taught[name]), name
    for name in others:
        assert torch.equal(first[name], taught[name]), name
        assert not torch.equal(taught[name], last[name]), name
    assert all(n.startswith(("method.teachers", "method.heads")) for n in seen.moments[1])
    for name, moments in seen.moments[1].items():
        for key, value in moments.items():
            assert torch.equal(value, seen.moments[-1][name][key]), name


def test_batch_norms_of_teachers_see_only_samples_that_have_the_modality():
    spec = toy_spec(2, complete=False)
    (batch,) = toy_batches(spec, count=1)
    batch["present"][:6, 0] = False
    batch["inputs"]["a"][:6] = 0.0
    module = toy_module(spec, method=Umt, fusion=CONCAT)
    normed = {n: nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, DIM)) for n in spec.names}
    module.method.adopt(nn.ModuleDict(normed))
    alone, teacher = copy.deepcopy(normed["a"]), module.method.teachers["a"]
    wanted = alone(batch["inputs"]["a"][6:])
    rows = module.method.train().taught(batch).rows
    torch.testing.assert_close(rows[0][6:], wanted)
    torch.testing.assert_close(teacher[0].running_mean, alone[0].running_mean)
    batch["present"][:, 0] = False  # nobody has it
    module.method.taught(batch)
    torch.testing.assert_close(teacher[0].running_mean, alone[0].running_mean)


@pytest.mark.parametrize(
    ("epochs", "share", "wanted"), [(1, 0.3, 1), (4, 0.3, 1), (4, 0.0, 1), (5, 0.4, 2), (3, 1.0, 2)]
)
def test_teachers_have_their_share_and_leave_an_epoch(epochs, share, wanted):
    spec = toy_spec(2)
    module = toy_module(spec, method=partial(Umt, teacher_share=share), fusion=CONCAT)
    fit(module, toy_batches(spec, count=1), epochs=epochs)
    assert module.method.teacher_epochs == wanted
    assert module.method.min_epochs() == 2  # the configuration refuses fewer


def test_teachers_are_copies_and_survive_a_checkpoint():
    spec = toy_spec(2)
    module = toy_module(spec, method=partial(Umt, teacher_share=0.5), fusion=CONCAT)
    for a, b in zip(module.method.teachers.parameters(), module.encoders.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b
    fit(module, toy_batches(spec), epochs=4)
    other = toy_module(spec, method=partial(Umt, teacher_share=0.9), fusion=CONCAT)
    other.load_state_dict(module.state_dict())
    assert other.method.teacher_epochs == 2
    for (name, a), b in zip(
        module.method.state_dict().items(), other.method.state_dict().values(), strict=True
    ):
        assert a == b if name.endswith("extra_state") else torch.equal(a, b)
    # a longer run goes on with the teachers that it has
    fit(other, toy_batches(spec), epochs=10)
    assert other.method.teacher_epochs == 2


@pytest.mark.parametrize(
    ("option", "value"), [("weight", -1.0), ("teacher_share", 1.5), ("teacher_share", float("nan"))]
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Umt("ab", dim=DIM, classes=CLASSES, **{option: value})


def test_classes_of_toy_are_learnt_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = gaps(spec, toy_batches(spec, count=8), 0.3)
    module = toy_module(spec, method=Umt, fusion=Concat)
    fit(module, batches, batches, epochs=6)
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())
