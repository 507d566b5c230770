"""Modality dropout: what is drawn, and its steps against a loop over samples."""

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods import modality_dropout
from mmeq.methods.joint import Joint
from mmeq.methods.modality_dropout import ModalityDropout, kept


def with_gaps(batches, rate=0.4):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        present = torch.rand(batch["present"].shape, generator=generator) > rate
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(batch["inputs"]):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


@pytest.mark.parametrize(("count", "rate"), [(2, 0.3), (3, 0.5), (4, 0.0), (3, 1.0)])
def test_rates(count, rate):
    """Each stays with probability 1 − p, or as the last of all: + p^M / M."""
    draw = torch.rand(40_000, count, generator=torch.Generator().manual_seed(0))
    left = kept(torch.ones(40_000, count, dtype=torch.bool), rate, draw)
    assert left.any(1).all()
    expected = 1 - rate + rate**count / count
    for share in left.double().mean(0).tolist():
        assert share == pytest.approx(expected, abs=0.01)
    if rate == 1.0:
        assert (left.sum(1) == 1).all()
    if rate == 0.0:
        assert left.all()


def test_only_what_is_there_is_kept_and_one_of_it_always():
    torch.manual_seed(0)
    present = torch.rand(20_000, 3) > 0.5
    left = kept(present, 0.7, torch.rand(20_000, 3))
    assert not (left & ~present).any()
    assert torch.equal(left.any(1), present.any(1))  # of a sample that has nothing, nothing
    pair = present[:, 0] & present[:, 1] & ~present[:, 2]
    expected = 0.3 + 0.7**2 / 2
    assert left[pair, 0].double().mean().item() == pytest.approx(expected, abs=0.03)


def test_the_last_one_is_the_largest_draw():
    draw = torch.tensor([[0.1, 0.3, 0.2], [0.1, 0.3, 0.2], [0.6, 0.1, 0.7]])
    present = torch.tensor([[True, True, True], [True, False, True], [True, True, True]])
    assert kept(present, 0.5, draw).tolist() == [
        [False, True, False],
        [False, False, True],
        [True, False, True],
    ]


def answer(fusion, graph, sample, members):
    """W[h_1; …; h_M] + b of one sample, the running mean where h_m is away."""
    total = fusion.bias_C
    for m, rows in enumerate(graph):
        h = rows[sample] if members[m] else fusion.moments.mean_MD[m]
        total = total + fusion.weight_MCD[m] @ h
    return total


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_two_batches_equal_plain_pytorch(count, complete, monkeypatch):
    drawn = []

    def record(present, rate, draw):
        drawn.append(kept(present, rate, draw))
        return drawn[-1]

    monkeypatch.setattr(modality_dropout, "kept", record)
    spec = toy_spec(count, complete=complete)
    module = toy_module(spec, method=partial(ModalityDropout, rate=0.5), fusion=Concat)
    batches = toy_batches(spec, count=2)
    if not complete:
        batches = with_gaps(batches)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    fusion.train()
    assert len(drawn) == 2
    for batch, left in zip(batches, drawn, strict=True):
        assert (batch["present"] & ~left).any()
        graph = [encoders[n](batch["inputs"][n]) for n in spec.names]
        # the mean features are of all that is there, dropped or not
        fusion.observe(graph, None if complete else batch["present"])
        logits = torch.stack([answer(fusion, graph, i, row) for i, row in enumerate(left)])
        loss = F.cross_entropy(logits, batch["label"])
        parameters = [*encoders.parameters(), *fusion.parameters()]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.1 * gradient
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        for (name, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("fusion", [Concat, Memory])
def test_at_rate_0_it_is_joint_training(fusion):
    spec = toy_spec(3)
    dropping = toy_module(spec, method=partial(ModalityDropout, rate=0.0), fusion=fusion)
    joint = toy_module(spec, method=Joint, fusion=fusion)
    for module in (dropping, joint):
        fit(module, toy_batches(spec))
    for a, b in zip(dropping.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_same_seed_same_draws_and_another_each_epoch(monkeypatch):
    drawn = []

    def record(present, rate, draw):
        drawn.append(kept(present, rate, draw))
        return drawn[-1]

    monkeypatch.setattr(modality_dropout, "kept", record)
    spec = toy_spec(3)
    for _ in range(2):
        module = toy_module(spec, method=partial(ModalityDropout, rate=0.5))
        fit(module, toy_batches(spec, count=1), epochs=2)
    first, second, again, later = drawn
    assert torch.equal(first, again)
    assert torch.equal(second, later)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_at_test_time():
    spec = toy_spec(2)
    module = toy_module(spec, method=partial(ModalityDropout, rate=1.0), fusion=Concat).eval()
    batch = toy_batches(spec, count=1)[0]
    every = torch.tensor([[True, True]])
    features = module.encode(batch)
    logits = module.method.logits(module, features, every)
    torch.testing.assert_close(logits, module.fuse(features, every))


def test_modality_that_nobody_keeps_stays_where_it_is():
    """The memory skips it: no gradient, so `partial_updates`."""
    assert ModalityDropout.partial_updates
    spec = toy_spec(2, complete=False)
    batches = toy_batches(spec, batch=4, count=2)
    for batch in batches:
        batch["present"][:, 0] = False
    module = toy_module(spec, method=partial(ModalityDropout, rate=0.5))
    before = copy.deepcopy(module.encoders)
    fit(module, batches)
    for name in spec.names:
        same = [
            torch.equal(p, q)
            for p, q in zip(
                module.encoders[name].parameters(), before[name].parameters(), strict=True
            )
        ]
        assert all(same) if name == "a" else not any(same)
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.parametrize("fusion", [Concat, Memory])
def test_learns_with_gaps(fusion):
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=8), rate=0.3)
    module = toy_module(spec, method=ModalityDropout, fusion=fusion)
    fit(module, batches, batches, epochs=4)
    assert float(module.report.full) > 1.5 / CLASSES
    assert set(module.train_losses) == {"joint"}


def test_one_modality_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1), method=ModalityDropout)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_wrong_option_is_named(rate):
    with pytest.raises(MmeqError, match=r"method\.rate"):
        ModalityDropout("ab", rate=rate)
