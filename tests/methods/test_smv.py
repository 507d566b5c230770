"""Valuation and copies: against every order of joining by hand, and against a longer batch."""

import copy
from functools import partial
from itertools import permutations

import lightning
import pytest
import torch
from torch.nn import functional as F
from toy import fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.joint import Joint
from mmeq.methods.smv import Smv, copies

ZERO = partial(Concat, absence="zero")
STILL = partial(torch.optim.SGD, lr=0.0)


def with_gaps(batches, spec, rate=0.3):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        present = torch.rand(batch["present"].shape, generator=generator) > rate
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


def answer(fusion, rows, i, members):
    """Logits [C] of one sample from some modalities, the features of the others zero."""
    seen = [rows[m][i] if m in members else torch.zeros_like(rows[m][i]) for m in range(len(rows))]
    return sum(w @ h for w, h in zip(fusion.weight_MCD, seen, strict=True)) + fusion.bias_C


def valued(module, batch, names):
    """Mean marginal contribution over all orders in which what a sample has may join."""
    with torch.no_grad():
        rows = [module.encoders[n](batch["inputs"][n]) for n in names]
    out = []
    for i, label in enumerate(batch["label"]):
        has = [m for m in range(len(names)) if batch["present"][i, m]]

        def value(members, i=i, label=label):
            if not members:
                return 0
            right = answer(module.fusion, rows, i, members).argmax() == label
            return len(members) * int(right)

        phi = [0.0] * len(names)
        orders = list(permutations(has))
        for order in orders:
            for k, m in enumerate(order):
                phi[m] += (value(order[: k + 1]) - value(order[:k])) / len(orders)
        out.append(phi)
    return out


def number(phi, there):
    if not there:
        return 0
    if phi < -0.1:
        return 3
    if phi < 0.4:
        return 2
    return 1 if phi < 0.9 else 0


class Spy(lightning.Callback):
    """What the method holds when the first batch of each epoch comes."""

    def __init__(self):
        self.copies, self.facts = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.copies.append(pl_module.method.copies_NM)
            self.facts.append(pl_module.method.describe())


def some_training(spec, batches, **options):
    """A module that has learnt enough for all kinds of contributions to be there."""
    module = toy_module(spec, method=partial(Smv, warmup=0, **options), fusion=ZERO)
    module.method.warmup = 99
    fit(module, batches, epochs=3)
    module.method.warmup = 0
    return module


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_copies_equal_shapley_values_by_hand(modalities, complete):
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=3)
    if not complete:
        with_gaps(batches, spec)
    for batch in batches:
        batch["index"] = batch["index"] * 2 + 5  # rows of a manifest that others share
    module = some_training(spec, batches)
    module.make_optimizer = STILL
    spy = Spy()
    fit(module, batches, callbacks=[spy])
    found, kinds = spy.copies[0], set()
    assert found.dtype == torch.int8
    assert len(found) == 2 * 47 + 5 + 1
    for batch in batches:
        for i, phi in enumerate(valued(module, batch, spec.names)):
            there = batch["present"][i].tolist()
            expected = [number(p, t) for p, t in zip(phi, there, strict=True)]
            assert found[batch["index"][i]].tolist() == expected
            kinds |= set(expected)
    assert kinds == {0, 1, 2, 3}
    rows = torch.cat([batch["index"] for batch in batches])
    assert int(found.sum()) == int(found[rows].sum())
    mean = found[rows].double().mean(0).tolist()
    assert list(spy.facts[0]["copies"].values()) == pytest.approx(mean)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_step_equals_one_on_a_batch_with_the_copies(modalities, complete):
    """The mean loss of a longer batch, in which copies have one modality and zeros else."""
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=1)
    batches[0]["index"] = batches[0]["index"].flip(0) * 3 + 2
    if not complete:
        with_gaps(batches, spec)
    module = some_training(spec, batches)
    batch, names = batches[0], spec.names
    wanted = [
        [number(p, t) for p, t in zip(phi, there, strict=True)]
        for phi, there in zip(valued(module, batch, names), batch["present"].tolist(), strict=True)
    ]
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    rows = [encoders[n](batch["inputs"][n]) for n in names]
    logits, labels = [], []
    for i, label in enumerate(batch["label"]):
        seen = [[m for m in range(modalities) if batch["present"][i, m]]]
        seen += [[m] for m in range(modalities) for _ in range(wanted[i][m])]
        logits += [answer(fusion, rows, i, members) for members in seen]
        labels += [label] * len(seen)
    assert len(labels) > 16
    loss = F.cross_entropy(torch.stack(logits), torch.stack(labels))
    parameters = [*encoders.parameters(), *fusion.parameters()]
    grads = torch.autograd.grad(loss, parameters)
    fit(module, batches)
    ours = [*module.encoders.parameters(), *module.fusion.parameters()]
    for a, b, grad in zip(ours, parameters, grads, strict=True):
        torch.testing.assert_close(a, b - 0.1 * grad, atol=1e-5, rtol=1e-4)


def test_losses_are_those_of_samples_and_of_copies():
    spec = toy_spec(2)
    batches = toy_batches(spec, count=1)
    module = some_training(spec, batches)
    wanted = [[number(p, True) for p in phi] for phi in valued(module, batches[0], spec.names)]
    label = batches[0]["label"]
    with torch.no_grad():
        rows = [module.encoders[n](batches[0]["inputs"][n]) for n in spec.names]
        whole = torch.stack([answer(module.fusion, rows, i, [0, 1]) for i in range(16)])
        each = [[answer(module.fusion, rows, i, [m])[None] for m in range(2)] for i in range(16)]
    alone = sum(
        wanted[i][m] * F.cross_entropy(each[i][m], label[i][None])
        for i in range(16)
        for m in range(2)
    )
    fit(module, batches, batches)
    assert module.train_losses["joint"] == pytest.approx(float(F.cross_entropy(whole, label)))
    total = sum(map(sum, wanted))
    assert module.train_losses["resampled"] == pytest.approx(float(alone) / total, rel=1e-4)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_modality_level_copies_by_mean_contributions(modalities, complete):
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=4)
    if not complete:
        with_gaps(batches, spec)
    module = some_training(spec, batches, level="modality", share=0.5, alpha=1.5)
    module.make_optimizer = STILL
    spy = Spy()
    phi = torch.tensor([p for batch in batches[:2] for p in valued(module, batch, spec.names)])
    there = torch.cat([batch["present"] for batch in batches[:2]])
    fit(module, batches, batches, callbacks=[spy])
    mean = [phi[there[:, m], m].mean().item() for m in range(modalities)]
    expected = []
    for m in range(modalities):
        others = [v for k, v in enumerate(mean) if k != m]
        expected.append(1.5 * 2 / 3 * max(0.0, sum(others) / len(others) - mean[m]))
    assert spy.copies[0][0].tolist() == pytest.approx(expected, abs=1e-5)
    assert max(expected) > 0
    assert min(expected) == 0
    assert list(spy.facts[0]["contribution"].values()) == pytest.approx(mean, abs=1e-5)
    means = []
    for batch in batches:
        loss, weight = 0.0, 0.0
        with torch.no_grad():
            rows = [module.encoders[n](batch["inputs"][n]) for n in spec.names]
            for m in range(modalities):
                for i in batch["present"][:, m].nonzero().flatten().tolist():
                    logits = answer(module.fusion, rows, i, [m])[None]
                    loss += expected[m] * float(F.cross_entropy(logits, batch["label"][i][None]))
                    weight += expected[m]
        means.append(loss / weight)
    assert module.train_losses["resampled"] == pytest.approx(sum(means) / 4, rel=1e-4)


def test_warmup_is_joint_training_and_ends():
    spec = toy_spec(2)
    batches = toy_batches(spec)
    plain = toy_module(spec, method=Joint, fusion=ZERO)
    module = toy_module(spec, method=partial(Smv, warmup=2), fusion=ZERO)
    spy = Spy()
    fit(plain, batches, epochs=2)
    fit(module, batches, epochs=2, callbacks=[spy])
    for a, b in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert spy.copies == [None, None]
    module = toy_module(spec, method=partial(Smv, warmup=2), fusion=ZERO)
    spy = Spy()
    fit(module, batches, epochs=4, callbacks=[spy])
    assert [c is None for c in spy.copies] == [True, True, False, False]


def test_valuation_leaves_the_model_as_it_is():
    """The mean features of a fusion are of training batches alone; copies need no checkpoint."""
    spec = toy_spec(2)
    batches = toy_batches(spec)
    module = toy_module(spec, method=partial(Smv, warmup=0), fusion=Concat, optimizer=STILL)
    plain = toy_module(spec, method=Joint, fusion=Concat, optimizer=STILL)
    fit(module, batches)
    fit(plain, batches)
    for (name, a), b in zip(
        module.fusion.state_dict().items(), plain.fusion.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    other = Smv("ab")
    other.load_state_dict(module.method.state_dict())
    assert other.copies_NM is None


@pytest.mark.parametrize("fusion", [ZERO, Concat])
def test_training_with_gaps_stays_finite(fusion):
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=4), spec)
    batches[1]["present"][:, 2] = False
    batches[1]["present"][:, 0] = True
    for level in ("sample", "modality"):
        module = toy_module(spec, method=partial(Smv, warmup=1, level=level), fusion=fusion)
        fit(module, batches, batches, epochs=3)
        assert all(torch.isfinite(p).all() for p in module.parameters())
        assert all(v == v for v in module.train_losses.values())


def test_numbers_of_copies_and_bounds():
    assert copies(torch.tensor([-2.0, -0.5, -1 / 6, 0.0, 1 / 3])).tolist() == [3, 3, 3, 2, 2]
    assert copies(torch.tensor([0.5, 5 / 6, 1.0, 1.5, 3.0])).tolist() == [1, 1, 0, 0, 0]
    with pytest.raises(MmeqError, match="8 modalities at most"):
        toy_module(toy_spec(9), method=Smv)
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1), method=Smv)


@pytest.mark.parametrize(
    ("option", "value"),
    [("level", "samples"), ("warmup", -1), ("share", 0.0), ("share", 1.1), ("alpha", -0.5)],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Smv("ab", **{option: value})
