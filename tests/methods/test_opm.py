"""Dropping dominant features: probabilities, draws and steps by hand, what it leaves alone."""

import copy
from functools import partial
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toy import DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.base import Features
from mmeq.methods.joint import Joint
from mmeq.methods.opm import Opm

ZERO = partial(Concat, absence="zero")
ALWAYS = {"q_base": 1.0, "p_exe": 1.0, "warmup": 0}


def toy(spec, fusion=ZERO, method=Opm, **options):
    return toy_module(spec, method=partial(method, **options), fusion=fusion)


class Described(lightning.Callback):
    """What the method says of each epoch."""

    def __init__(self):
        self.facts = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.facts.append(pl_module.method.describe())


def test_probabilities_by_hand():
    method = Opm("ab", q_base=0.4, strength=0.5)
    found = method.probability(torch.tensor([0.6, 0.2]), torch.tensor([0.2, 0.6]))
    np.testing.assert_allclose(found, [0.4 * (1 + 0.5 * np.tanh(2)), 0], rtol=1e-6)
    method = Opm("abc", q_base=0.4, strength=0.5)
    score, rival = torch.tensor([0.6, 0.2, 0.3]), torch.tensor([0.2, 0.3, 0.2])
    expected = [0.4 * (1 + 0.5 * np.tanh(2)), 0, 0.4 * (1 + 0.5 * np.tanh(0.5))]
    np.testing.assert_allclose(method.probability(score, rival), expected, rtol=1e-6)
    method = Opm("abc", q_base=0.8, strength=2.0)
    assert method.probability(score, rival).tolist() == [1.0, 0.0, 1.0]
    equal = torch.full((2,), 0.4)
    assert Opm("ab").probability(equal, equal).tolist() == [0.0, 0.0]


def test_features_are_zeroed_at_these_rates_each_sample_by_itself():
    rows = tuple(torch.ones(4000, DIM) for _ in range(3))
    drop_M, draw = torch.tensor([0.7, 0.0, 0.3]), torch.Generator().manual_seed(0)
    found = Opm("abc").dropped(Features(rows, None), drop_M, draw).rows
    kept = torch.stack(found, 1)
    assert ((kept == 0) | (kept == 1)).all()
    assert (kept.amin(2) == kept.amax(2)).all()  # a feature as a whole
    np.testing.assert_allclose(kept[..., 0].mean(0), [0.3, 1.0, 0.7], atol=0.03)
    assert (kept[:, 0, 0] * kept[:, 2, 0]).mean() == pytest.approx(0.21, abs=0.03)


def test_no_sample_loses_all_that_it_has():
    present = torch.tensor([[1, 0, 0], [1, 0, 1], [1, 1, 1], [0, 0, 1]], dtype=torch.bool)
    features = Features(tuple(torch.ones(4, DIM) for _ in range(3)), present)
    rows = Opm("abc").dropped(features, torch.tensor([1.0, 0.0, 1.0]), torch.Generator()).rows
    kept = torch.stack(rows, 1)[..., 0].bool()
    assert (kept & present).tolist() == [
        [True, False, False],
        [True, False, True],
        [False, True, False],
        [False, False, True],
    ]


def test_batches_are_drawn_by_seed_epoch_and_batch_alone():
    def drawn(seed):
        method = Opm("ab", seed=seed)
        places = [(epoch, batch) for epoch in range(20) for batch in range(50)]
        loops = [SimpleNamespace(epoch=e, batch=b) for e, b in places]
        return [method.carried_out(method.draws(loop)) for loop in loops]

    torch.manual_seed(1)
    first = drawn(3)
    torch.manual_seed(2)  # as on another rank
    assert drawn(3) == first
    assert drawn(4) != first
    assert np.mean(first) == pytest.approx(0.7, abs=0.05)
    assert first[:50] != first[50:100]
    never, always = Opm("ab", p_exe=0.0), Opm("ab", p_exe=1.0)
    loops = [SimpleNamespace(epoch=0, batch=b) for b in range(50)]
    assert not any(never.carried_out(never.draws(loop)) for loop in loops)
    assert all(always.carried_out(always.draws(loop)) for loop in loops)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("modalities", [2, 3])
def test_two_batches_equal_plain_pytorch(modalities, rescale):
    """With q = 1 the stronger modalities are zeroed in every sample."""
    spec = toy_spec(modalities)
    module = toy(spec, **ALWAYS, rescale=rescale)
    batches = toy_batches(spec, count=2)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    parameters = [*encoders.parameters(), *fusion.parameters()]
    weight, bias = fusion.weight_MCD, fusion.bias_C
    weakest = []
    for batch in batches:
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        right = range(len(batch["label"])), batch["label"]
        score = [
            float((h @ w.T + bias / modalities).detach().softmax(-1)[right].sum())
            for h, w in zip(rows, weight, strict=True)
        ]
        keep = int(np.argmin(score))
        weakest.append(keep)
        feature = rows[keep] * (modalities if rescale else 1)  # 1 − mean q = 1/M
        loss = F.cross_entropy(feature @ weight[keep].T + bias, batch["label"])
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    parameter -= 0.1 * grad
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        torch.testing.assert_close(
            dict(ours.state_dict()), dict(theirs.state_dict()), atol=1e-6, rtol=1e-5
        )
    assert len(module.method.kept) == 2
    assert all(int(q.argmin()) == m for q, m in zip(module.method.kept, weakest, strict=True))


def test_warm_up_is_joint_training_and_as_long_as_it_says():
    spec = toy_spec(2)
    options = {"q_base": 1.0, "p_exe": 1.0}
    module, joint, notes = toy(spec, warmup=2, **options), toy(spec, method=Joint), Described()
    batches = toy_batches(spec)
    fit(module, batches, epochs=3, callbacks=[notes])
    assert [facts.get("carried_out") for facts in notes.facts] == [None, None, 4]
    assert notes.facts[2]["drop"].keys() == {"a", "b"}
    warm = toy(spec, warmup=2, **options)
    fit(warm, batches, epochs=2)
    fit(joint, batches, epochs=2)
    for a, b in zip(warm.parameters(), joint.parameters(), strict=True):
        assert torch.equal(a, b)


def test_moments_and_predictions_see_whole_features():
    spec = toy_spec(2)
    module, joint = toy(spec, fusion=Concat, **ALWAYS), toy(spec, fusion=Concat, method=Joint)
    batches = toy_batches(spec, count=1)
    fit(module, batches)
    fit(joint, batches)
    assert torch.equal(module.fusion.moments.mean_MD, joint.fusion.moments.mean_MD)
    assert not torch.equal(module.fusion.weight_MCD, joint.fusion.weight_MCD)
    module.eval()
    features = module.encode(batches[0])
    torch.testing.assert_close(
        module.method.logits(module, features, torch.tensor([[True, True]])),
        module.fuse(features, torch.tensor([[True, True]])),
    )


def test_state_survives_a_checkpoint():
    method, other = Opm("ab"), Opm("ab")
    method.order = (1, 0)
    other.load_state_dict(method.state_dict())
    assert other.order == (1, 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("q_base", 1.1), ("strength", -1.0), ("p_exe", float("nan")), ("warmup", -1)],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Opm("ab", **{option: value})


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("fusion", [ZERO, Memory])
def test_gaps_leave_no_nan(fusion, rescale):
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=6)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(16, 3, generator=generator) > 0.3
    batches[0]["present"][:, 0] = False
    batches[1]["present"] = torch.tensor([True, False, False]).repeat(16, 1)
    module = toy(spec, fusion=fusion, rescale=rescale, **ALWAYS)
    fit(module, batches, batches, epochs=2)
    assert all(torch.isfinite(p).all() for p in module.parameters())
