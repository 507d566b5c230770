"""Adaptive masks: dependence and share by numpy, the masked step by hand, evaluation unmasked."""

import copy
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.amco import Amco, dependence, mask_ratio, masked
from mmeq.methods.base import Features

CONCAT = partial(Concat, absence="zero")
ALONE = SimpleNamespace(mean=lambda value: value)  # the loop of a single rank


def softmax_shares(own_MBC, whole_B):
    """Softmax over the logits of all modalities side by side, summed by modality."""
    count, batch, classes = own_MBC.shape
    side_by_side = own_MBC.transpose(1, 0, 2).reshape(batch, -1)
    power = np.exp(side_by_side - side_by_side.max(1, keepdims=True))
    share_BM = (power / power.sum(1, keepdims=True)).reshape(batch, count, classes).sum(2)
    return share_BM[whole_B].mean(0)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("gaps", [False, True])
def test_dependence_is_the_share_of_the_joint_softmax(modalities, gaps):
    generator = torch.Generator().manual_seed(3)
    own = 2 * torch.randn(modalities, 7, CLASSES, generator=generator)
    present = torch.ones(7, modalities, dtype=torch.bool)
    if gaps:
        present[2, 0] = present[5, 1] = False
    found = dependence(ALONE, own, Features((own[0],), present if gaps else None))
    wanted = softmax_shares(own.double().numpy(), present.all(1).numpy())
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)
    assert float(found.sum()) == pytest.approx(1)


def test_dependence_when_no_sample_has_everything():
    own, present = torch.randn(2, 3, CLASSES), torch.tensor([[True, False]] * 3)
    assert dependence(ALONE, own, Features((own[0],), present)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("share", "wanted"),
    [(0.2, 0.0), (0.5, 0.0), (0.56, np.sin(np.pi / 10)), (0.65, 0.5**0.5), (0.8, 1.0), (1.0, 1.0)],
)
def test_masked_share_rises_by_a_sine_beyond_sigma(share, wanted):
    two = mask_ratio(torch.tensor([share, 1 - share]), 0.5, 0.3)
    assert float(two[0]) == pytest.approx(wanted, abs=1e-6)
    # of three, a balanced one has 1/3: two thirds of the share stand for the same dependence
    three = mask_ratio(torch.tensor([share, 0.5, 0.5]) * 2 / 3, 0.5, 0.3)
    assert three.tolist() == pytest.approx([wanted, 0, 0], abs=1e-6)


def test_masks_are_drawn_by_sample_and_dimension_and_keep_the_mean():
    ones = torch.ones(2000, 50)
    draw = torch.rand(2000, 50, generator=torch.Generator().manual_seed(0))
    out = masked(ones, torch.tensor(0.4), draw)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.6])
    zero = (out == 0).float()
    assert float(zero.mean()) == pytest.approx(0.4, abs=0.01)
    # one mask for the batch, or one for all dimensions, would give means of 0 and 1
    assert float(zero.mean(0).std()) < 0.05
    assert float(zero.mean(1).std()) == pytest.approx((0.4 * 0.6 / 50) ** 0.5, rel=0.1)
    assert torch.equal(masked(ones, torch.tensor(0.0), draw), ones)
    assert not masked(ones, torch.tensor(1.0), draw).any()
    assert float(masked(ones, torch.tensor(0.96), draw).max()) == pytest.approx(10)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_two_batches_equal_plain_pytorch(modalities, complete):
    """Given the masks that were drawn: CE of masked fused features + λ Σ CE of unmasked ones."""
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=2)
    if not complete:
        for batch in batches:
            batch["present"][::3, 0] = False
            batch["inputs"]["a"][::3] = 0.0
    made = partial(Amco, sigma=0.2, epsilon=0.9, weight=0.6)
    module = toy_module(spec, method=made, fusion=CONCAT)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    given = []
    module.fusion.register_forward_pre_hook(
        lambda _, args: given.append([h.detach().clone() for h in args[0]])
    )
    fit(module, batches)

    parameters = [*encoders.parameters(), *fusion.parameters()]
    shares = []
    for batch, shown in zip(batches, given, strict=True):
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        own = [h @ fusion.weight_MCD[m].T + fusion.bias_C / modalities for m, h in enumerate(rows)]
        whole = batch["present"].all(1).numpy()
        share = softmax_shares(torch.stack(own).detach().numpy(), whole)
        shares.append(share)
        loss, fused = 0.0, fusion.bias_C
        for m, h in enumerate(rows):
            has = batch["present"][:, m]
            p = np.sin(np.pi / 2 * min(max(modalities / 2 * share[m] - 0.2, 0), 0.9) / 0.9)
            kept = h * (shown[m] != 0) / max(1 - p, 0.1)
            if p > 0:
                assert 0 < float((shown[m] == 0).float().mean()) < 1
            torch.testing.assert_close(kept, shown[m], atol=1e-6, rtol=1e-5)
            fused = fused + (kept * has[:, None]) @ fusion.weight_MCD[m].T
            loss = loss + 0.6 * F.cross_entropy(own[m][has], batch["label"][has])
        loss = loss + F.cross_entropy(fused, batch["label"])
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            with torch.no_grad():
                parameter -= 0.1 * grad
    trained = [*module.encoders.parameters(), *module.fusion.parameters()]
    for a, b in zip(trained, parameters, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    told = module.method.describe()
    np.testing.assert_allclose(list(told["dependence"].values()), np.mean(shares, 0), rtol=1e-4)


def test_without_dependence_nothing_is_masked():
    """σ = 1: the fusion is given the features as they are, and no one is hidden for good."""
    spec = toy_spec(2)
    module = toy_module(spec, method=partial(Amco, sigma=1.0), fusion=CONCAT)
    given = []
    module.fusion.register_forward_pre_hook(lambda _, args: given.extend(args[0]))
    fit(module, toy_batches(spec))
    assert given
    assert all((h != 0).all() for h in given)
    assert module.method.describe()["masked"] == {"a": 0.0, "b": 0.0}


def test_masks_fall_on_training_alone():
    spec = toy_spec(2)
    batches = toy_batches(spec)
    module = toy_module(spec, method=partial(Amco, sigma=0.0, epsilon=0.01), fusion=CONCAT)
    fit(module, batches, epochs=1)
    assert module.method.describe()["masked"] == {"a": 1.0, "b": 1.0}
    module.eval()
    module._trainer = None
    features = module.encode(batches[0])
    answered = module.method.logits(module, features, torch.tensor([[True, True]]))
    torch.testing.assert_close(answered, module.fuse(features, torch.tensor([[True, True]])))


@pytest.mark.parametrize(
    ("option", "value"),
    [("sigma", 1.1), ("sigma", float("nan")), ("epsilon", 0.0), ("weight", -1.0)],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Amco("ab", **{option: value})


def test_a_checkpoint_holds_no_state_of_an_epoch():
    """The epoch's means are begun anew: a resumed run finds what an uninterrupted one has."""
    spec = toy_spec(2)
    module = toy_module(spec, method=Amco, fusion=CONCAT)
    fit(module, toy_batches(spec))
    other = toy_module(spec, method=Amco, fusion=CONCAT)
    other.load_state_dict(module.state_dict())
    assert list(module.method.state_dict()) == ["_extra_state"]
    assert other.method.state() == module.method.state()


@pytest.mark.parametrize("fusion", [Concat, Memory])
def test_classes_of_toy_are_learnt_with_gaps(fusion):
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=6)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(16, 3, generator=generator) > 0.3
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    module = toy_module(spec, method=Amco, fusion=fusion)
    fit(module, batches, batches, epochs=4)
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())
