"""Re-learning: purities and weights known by hand, the schedule, what it leaves alone."""

import copy
import math
from functools import partial

import lightning
import pytest
import torch
from torch import nn
from toy import CLASSES, DIM, WIDTH, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.d_and_r import DAndR, purity
from mmeq.methods.joint import Joint

TRAIN = {"a": 1.0, "b": 1.0, "c": 0.75}
VALIDATION = {"a": 0.75, "b": 0.5, "c": 0.75}
"""Purities: what share of the samples of a cluster has its label."""


def clustered(spec, shares, seed):
    """Tight clusters of 16, of which a known share has the cluster's own label, a batch each.

    In modality m the samples that do not are those m places on; their labels are the next class.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(5)) * 3
    batches = []
    for label in range(CLASSES):
        inputs = {}
        for m, name in enumerate(spec.names):
            cluster = torch.full((16,), label)
            foreign = round(16 * (1 - shares[name]))
            cluster[m : m + foreign] = (label + 1) % CLASSES
            noise = 0.01 * torch.randn(16, WIDTH, generator=generator)
            inputs[name] = centres[cluster + 3 * m] + noise
        batches.append(
            {
                "inputs": inputs,
                "present": torch.ones(16, len(spec.modalities), dtype=torch.bool),
                "label": torch.full((16,), label),
                "index": torch.arange(16) + 16 * label,
                "id": [f"s{i}" for i in range(16)],
            }
        )
    return batches


class Spy(lightning.Callback):
    """State before and after the start of each epoch: hooks run callbacks first."""

    def __init__(self):
        self.before, self.after, self.facts = [], [], []

    @staticmethod
    def state(module):
        parts = {"encoders": module.encoders, "fusion": module.fusion}
        out = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
        out["moments"] = copy.deepcopy(module.optimizers().state_dict()["state"])
        return out

    def on_train_epoch_start(self, trainer, pl_module):
        self.before.append(self.state(pl_module))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.after.append(self.state(pl_module))
            self.facts.append(pl_module.method.describe())


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_weights_by_hand(modalities, complete):
    """θ ← w θ_init + (1 − w) θ with w = tanh(λ |P_train − P_validation|), P by construction."""
    spec = toy_spec(modalities, complete)
    train, validation = clustered(spec, TRAIN, 0), clustered(spec, VALIDATION, 1)
    if not complete:  # whoever lacks b has zeros there, a cluster of their own if they counted
        for batch in (*train, *validation):
            batch["present"][::4, 1] = False
            batch["inputs"]["b"][::4] = 0.0
        # of the 8 foreign samples 1..8 of a validation cluster, 4 and 8 do not count: 6 of 12
    module = toy_module(
        spec,
        method=partial(DAndR, every=1, times=1, strength=2.0),
        fusion=Concat,
        optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    )
    first = copy.deepcopy(module.encoders.state_dict())
    spy = Spy()
    fit(module, train, validation, epochs=2, callbacks=[spy])
    before, after = spy.before[1], spy.after[1]
    weights = {n: math.tanh(2.0 * abs(TRAIN[n] - VALIDATION[n])) for n in spec.names}
    assert spy.facts[1]["weight"] == pytest.approx(weights, abs=1e-6)
    assert spy.facts[1]["train"] == pytest.approx({n: TRAIN[n] for n in spec.names})
    assert spy.facts[1]["validation"] == pytest.approx({n: VALIDATION[n] for n in spec.names})
    for name, value in after["encoders"].items():
        w, old = weights[name.split(".")[0]], before["encoders"][name]
        torch.testing.assert_close(value, w * first[name] + (1 - w) * old)
        assert not torch.equal(first[name], old)
    if modalities == 3:
        assert weights["c"] == 0.0  # generalises as it should, however little it knows
    assert same(before["fusion"], after["fusion"])
    for key, moments in before["moments"].items():
        assert torch.equal(moments["momentum_buffer"], after["moments"][key]["momentum_buffer"])


def test_schedule():
    """After `every`, 2 `every`, … epochs, at most `times`; else it is joint training."""
    spec = toy_spec(2)
    train, validation = clustered(spec, TRAIN, 0), clustered(spec, VALIDATION, 1)
    module = toy_module(spec, method=partial(DAndR, every=2, times=2), fusion=Concat)
    spy = Spy()
    fit(module, train, validation, epochs=8, callbacks=[spy])
    changed = [
        epoch
        for epoch, (before, after) in enumerate(zip(spy.before, spy.after, strict=True))
        if not same(before["encoders"], after["encoders"])
    ]
    assert changed == [2, 4]
    assert [bool(facts) for facts in spy.facts] == [e in (2, 4) for e in range(8)]

    plain = toy_module(spec, method=Joint, fusion=Concat)
    module = toy_module(spec, method=partial(DAndR, every=1, times=0), fusion=Concat)
    for each in (plain, module):
        fit(each, train, validation, epochs=2)
    for a, b in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_buffers_and_frozen_parameters_stay():
    spec = toy_spec(2)
    module = toy_module(spec, method=partial(DAndR, every=1), fusion=Concat)
    net = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.Linear(6, DIM))
    net[0].requires_grad_(False)
    module.encoders["a"] = net
    module.method.adopt(module.encoders)
    assert module.method.first_0.shape == (6 + 6 + 6 * DIM + DIM,)
    assert module.method.first_0.dtype == torch.float32
    spy = Spy()
    train, validation = clustered(spec, TRAIN, 0), clustered(spec, VALIDATION, 1)
    fit(module, train, validation, epochs=2, callbacks=[spy])
    before, after = spy.before[1]["encoders"], spy.after[1]["encoders"]
    for name in ("0.weight", "0.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(before[f"a.{name}"], after[f"a.{name}"]), name
    for name in ("1.weight", "2.weight", "2.bias"):
        assert not torch.equal(before[f"a.{name}"], after[f"a.{name}"]), name


def test_first_weights_survive_a_checkpoint():
    """What a resumed run adopts at its construction is overwritten by the checkpoint."""
    spec = toy_spec(2)
    module = toy_module(spec, method=DAndR, fusion=Concat)
    first = module.method.first_1.clone()
    fit(module, toy_batches(spec))
    state = module.state_dict()
    other = toy_module(spec, method=DAndR, fusion=Concat)
    with torch.no_grad():
        other.method.first_1.zero_()
    other.load_state_dict(state)
    assert torch.equal(other.method.first_1, first)
    parts = [p.detach().flatten() for p in module.encoders["b"].parameters()]
    assert not torch.equal(torch.cat(parts), first)


def test_modality_that_nobody_of_validation_has_stays():
    spec = toy_spec(2, complete=False)
    train, validation = clustered(spec, TRAIN, 0), clustered(spec, VALIDATION, 1)
    for batch in validation:
        batch["present"][:, 1] = False
    module = toy_module(spec, method=partial(DAndR, every=1), fusion=Concat)
    spy = Spy()
    fit(module, train, validation, epochs=2, callbacks=[spy])
    before, after = spy.before[1]["encoders"], spy.after[1]["encoders"]
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("b."))
    assert not all(torch.equal(before[n], after[n]) for n in before if n.startswith("a."))
    assert spy.facts[1]["weight"]["b"] == 0


def test_purity_of_known_clusters():
    feature = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [5.0, 5.0], [5.1, 5.0]])
    assert purity(feature, torch.tensor([0, 0, 1, 1, 1]), 2, 0) == pytest.approx(4 / 5)
    assert purity(feature, torch.tensor([2, 2, 2, 7, 7]), 2, 0) == 1  # labels need not be 0..C-1
    assert purity(feature, torch.tensor([0, 0, 0, 1, 1]), 1, 0) == pytest.approx(3 / 5)
    assert purity(feature[:2], torch.tensor([0, 1]), 9, 0) == 1  # no more clusters than samples
    assert math.isnan(purity(feature[:0], torch.tensor([], dtype=torch.long), 2, 0))


def test_columns_are_scaled_before_clustering():
    """The wide column says nothing of the label; as it is, it would make the clusters."""
    label = torch.arange(40) % 2
    wide = 1000 * torch.rand(40, generator=torch.Generator().manual_seed(0))
    feature = torch.stack([label.float(), wide, torch.full((40,), 3.0)], 1)
    assert purity(feature, label, 2, 0) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("every", 0), ("times", -1), ("strength", -0.5), ("strength", math.nan)]
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        DAndR("ab", classes=CLASSES, **{option: value})
