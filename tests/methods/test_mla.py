"""MLA: its steps against numpy, what a step leaves alone, and its test-time weights."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.game.coalitions import all_coalitions
from mmeq.methods.mla import Mla

Made = partial(Mla, dim=DIM, classes=CLASSES)


def toy(spec, **options):
    own = {k: options.pop(k) for k in ("alpha", "project", "dynamic") if k in options}
    return toy_module(spec, method=partial(Mla, **own), fusion=Concat, **options)


def with_gaps(batches, names, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        present = torch.rand(len(batch["label"]), len(names), generator=generator) > 0.4
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(names):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_two_batches_equal_numpy(count, complete, project):
    """Encoders step by autograd alone; head and projector are followed in numpy, float64."""
    spec = toy_spec(count, complete)
    module = toy(spec, project=project, alpha=0.3)
    batches = toy_batches(spec, count=2)
    if not complete:
        with_gaps(batches, spec.names)
    encoders = copy.deepcopy(module.encoders)
    weight = module.method.head.weight.detach().double().numpy().copy()
    bias = module.method.head.bias.detach().double().numpy().copy()
    fit(module, batches)

    projector = np.eye(DIM)
    for number, batch in enumerate(batches):
        for m, name in enumerate(spec.names):
            has = batch["present"][:, m].numpy() if not complete else np.ones(16, bool)
            label = batch["label"].numpy()[has]
            encoders.zero_grad()
            rows = encoders[name](batch["inputs"][name])
            h = rows.detach().double().numpy()[has]
            logits = h @ weight.T + bias
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            slope = (p - np.eye(CLASSES)[label]) / has.sum()
            grad = slope.T @ h
            back = np.zeros((16, DIM))
            back[has] = slope @ weight
            rows.backward(torch.tensor(back).float())
            r = h.mean(0, keepdims=True)
            k = projector @ r.T
            alpha = 0.3 ** (1 + number / 2)
            projector = projector - k @ k.T / (alpha + (r @ k).item())
            projector = projector / np.sqrt((projector**2).sum())
            weight = weight - 0.1 * (grad @ projector.T if project else grad)
            bias = bias - 0.1 * slope.sum(0)
            with torch.no_grad():
                for parameter in encoders[name].parameters():
                    parameter -= 0.1 * parameter.grad
    close = partial(torch.testing.assert_close, atol=2e-5, rtol=2e-5)
    close(module.method.head.weight.detach().double(), torch.tensor(weight))
    close(module.method.head.bias.detach().double(), torch.tensor(bias))
    expected = projector if project else np.eye(DIM)
    close(module.method.projector_DD.double(), torch.tensor(expected))
    for a, b in zip(module.encoders.parameters(), encoders.parameters(), strict=True):
        close(a, b)


def test_a_step_leaves_other_encoders_and_their_moments_alone(monkeypatch):
    spec = toy_spec(3)
    module = toy(spec, optimizer=partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1))
    fusion = copy.deepcopy(module.fusion.state_dict())
    update, seen = module.update, []

    def facts():
        optimizer = module.trainer.optimizers[0]
        return {
            group["name"]: [
                (p.detach().clone(), copy.deepcopy(optimizer.state.get(p, {})))
                for p in group["params"]
            ]
            for group in optimizer.param_groups
        }

    def spy(loss, modalities, edit=None, rates=None):
        before = facts()
        update(loss, modalities, edit, rates)
        after = facts()
        moved = {
            name
            for name in before
            if any(
                not torch.equal(p, q) or str(s) != str(t)
                for (p, s), (q, t) in zip(before[name], after[name], strict=True)
            )
        }
        seen.append((list(modalities), moved))

    monkeypatch.setattr(module, "update", spy)
    fit(module, toy_batches(spec, count=2))
    steps = [([m], {f"encoder/{name}", "method"}) for m, name in enumerate(spec.names)]
    assert seen == steps * 2
    for name in ("weight_MCD", "bias_C"):
        assert torch.equal(module.fusion.state_dict()[name], fusion[name])
    assert set(module.train_losses) <= {"step/a", "step/b", "step/c"}


def test_spared_directions_get_less_of_the_gradient():
    """After many batches with one mean feature, the head's gradient along it is nearly gone."""
    spec = toy_spec(2)
    still = partial(torch.optim.SGD, lr=0.0)
    module = toy(spec, optimizer=still)
    fit(module, toy_batches(spec, count=1) * 8, epochs=2)
    with torch.no_grad():
        r = module.encoders["b"](toy_batches(spec, count=1)[0]["inputs"]["b"]).mean(0)
    projector = module.method.projector_DD
    assert float(projector.norm()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(projector, projector.T)
    along = float((projector @ (r / r.norm())).norm())
    assert along < 0.02 * float(torch.linalg.matrix_norm(projector, 2))
    assert 1 <= module.method.describe()["directions"] < DIM


def reference_answer(head, rows, present, members, prior, dynamic=True):
    """One sample after the other."""
    out = []
    for b in range(len(present)):
        has = [m for m in members if present[b, m]]
        if not has:
            out.append(prior)
            continue
        own = [head(rows[m][b]) for m in has]
        entropy = [-(F.softmax(o, 0) * F.log_softmax(o, 0)).sum() for o in own]
        weights = [torch.exp(max(entropy) - h) if dynamic else torch.tensor(1.0) for h in entropy]
        out.append(sum(w * o for w, o in zip(weights, own, strict=True)) / sum(weights))
    return torch.stack(out)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_answers_weigh_each_sample_by_itself(count, complete, dynamic):
    spec = toy_spec(count, complete)
    module = toy(spec, dynamic=dynamic).eval()
    with torch.no_grad():
        module.method.head.weight.mul_(8)  # certain enough to make the weights differ
    batch = toy_batches(spec, count=1)[0]
    if not complete:
        with_gaps([batch], spec.names)
    coalitions = all_coalitions(count)
    with torch.no_grad():
        features = module.encode(batch)
        found = module.method.logits(module, features, coalitions)
        for row, coalition in zip(found, coalitions, strict=True):
            members = coalition.nonzero().flatten().tolist()
            expected = reference_answer(
                module.method.head,
                features.rows,
                batch["present"],
                members,
                module.log_prior,
                dynamic,
            )
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
        for b in range(16):
            present = None if complete else features.present_BM[b : b + 1]
            alone = type(features)(tuple(h[b : b + 1] for h in features.rows), present)
            one = module.method.logits(module, alone, coalitions)
            torch.testing.assert_close(one[:, 0], found[:, b], atol=1e-5, rtol=1e-5)


def test_gaps_are_learnt_and_a_modality_nobody_has_breaks_nothing():
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=8), spec.names)
    batches[0]["present"][:, 1] = False
    batches[0]["present"][:, 0] = True
    module = toy(spec)
    fit(module, batches, batches, epochs=5)
    assert all(torch.isfinite(p).all() for p in (*module.parameters(), *module.buffers()))
    assert float(module.report.full) > 1.5 / CLASSES


def test_state_survives_a_checkpoint():
    spec = toy_spec(2)
    module = toy(spec)
    fit(module, toy_batches(spec))
    other = Made(spec.names)
    other.load_state_dict(module.method.state_dict())
    assert not torch.equal(other.projector_DD, torch.eye(DIM))
    assert torch.equal(other.projector_DD, module.method.projector_DD)
    assert other.describe() == module.method.describe()


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, float("nan")])
def test_wrong_option_is_named(value):
    with pytest.raises(MmeqError, match=r"method\.alpha"):
        Made("ab", alpha=value)
