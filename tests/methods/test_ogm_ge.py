"""Gradient modulation: coefficients and steps by hand, the noise, its window, what it leaves."""

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
from mmeq.methods.joint import Joint
from mmeq.methods.ogm_ge import OgmGe

ZERO = partial(Concat, absence="zero")


def toy(spec, fusion=ZERO, method=OgmGe, **options):
    return toy_module(spec, method=partial(method, **options), fusion=fusion)


class Described(lightning.Callback):
    """What the method says of each epoch."""

    def __init__(self):
        self.facts = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.facts.append(pl_module.method.describe())


def test_coefficients_by_hand():
    found = OgmGe("ab", alpha=0.3).factors(torch.tensor([0.6, 0.2]), torch.tensor([0.2, 0.6]))
    np.testing.assert_allclose(found, [1 - np.tanh(0.9), 1.0], rtol=1e-6)
    method = OgmGe("abc", alpha=0.5)
    found = method.factors(torch.tensor([0.6, 0.2, 0.3]), torch.tensor([0.2, 0.3, 0.2]))
    np.testing.assert_allclose(found, [1 - np.tanh(1.5), 1.0, 1 - np.tanh(0.75)], rtol=1e-6)


@pytest.mark.parametrize("modalities", [2, 3])
def test_two_batches_equal_plain_pytorch(modalities):
    """Without noise: joint gradients, weights of the stronger encoders scaled, biases left."""
    spec = toy_spec(modalities)
    module = toy(spec, generalise=False, alpha=0.7)
    batches = toy_batches(spec, count=2)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    weight, bias = fusion.weight_MCD, fusion.bias_C
    scaled = 0
    for batch in batches:
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        own = [h @ w.T + bias / modalities for h, w in zip(rows, weight, strict=True)]
        F.cross_entropy(sum(own), batch["label"]).backward()
        right = range(len(batch["label"])), batch["label"]
        score = [float(o.detach().softmax(-1)[right].sum()) for o in own]  # sums, as published
        with torch.no_grad():
            for m, name in enumerate(spec.names):
                ratio = score[m] / min(s for j, s in enumerate(score) if j != m)
                factor = 1 - np.tanh(0.7 * ratio) if ratio > 1 else 1.0
                scaled += factor < 1
                for parameter in encoders[name].parameters():
                    parameter -= 0.1 * parameter.grad * (factor if parameter.ndim > 1 else 1.0)
            weight -= 0.1 * weight.grad
            bias -= 0.1 * bias.grad
        for parameter in [*encoders.parameters(), weight, bias]:
            parameter.grad = None
    assert scaled == 2 * (modalities - 1)
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        torch.testing.assert_close(
            dict(ours.state_dict()), dict(theirs.state_dict()), atol=1e-6, rtol=1e-5
        )


def modulated(gradients, factors, seed=0, epoch=0, batch=0, **options):
    """The gradients of two encoders after the edit."""
    parts = [nn.Linear(gradient.shape[1], gradient.shape[0]) for gradient in gradients]
    for part, gradient in zip(parts, gradients, strict=True):
        part.weight.grad, part.bias.grad = gradient.clone(), torch.ones(gradient.shape[0])
    loop = SimpleNamespace(encoder=lambda m: parts[m], epoch=epoch, batch=batch)
    OgmGe("ab", seed=seed, **options).modulate(loop, torch.tensor(factors))
    assert all(torch.equal(part.bias.grad, torch.ones_like(part.bias)) for part in parts)
    return [part.weight.grad for part in parts]


def test_noise_has_the_spread_of_the_gradient_before_it_was_scaled():
    gradients = [3 * torch.randn(400, 100), 0.1 * torch.randn(300, 100) + 5]
    found = modulated(gradients, [0.1, 1.0])
    for after, before, factor in zip(found, gradients, [0.1, 1.0], strict=True):
        noise = after - factor * before
        assert float(noise.std()) == pytest.approx(float(before.std()), rel=0.03)
        assert abs(float(noise.mean())) < 0.03 * float(before.std())
    shared = [
        (f - k * g)[:300].flatten() for f, g, k in zip(found, gradients, (0.1, 1), strict=True)
    ]
    assert abs(float(torch.corrcoef(torch.stack(shared))[0, 1])) < 0.03  # not one draw for both
    (silent, _) = modulated([torch.zeros(50, 50), torch.zeros(1, 1)], [1.0, 1.0])
    assert float(silent.std()) == pytest.approx(1e-8, rel=0.1)


def test_noise_depends_on_seed_epoch_and_batch_alone():
    gradients = [torch.randn(5, 4), torch.randn(6, 4)]
    torch.manual_seed(1)
    first = modulated(gradients, [0.5, 1.0], seed=1, epoch=2, batch=3)
    torch.manual_seed(2)  # as on another rank
    again = modulated(gradients, [0.5, 1.0], seed=1, epoch=2, batch=3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in ({"seed": 2}, {"epoch": 1}, {"batch": 4}):
        drawn = {"seed": 1, "epoch": 2, "batch": 3, **other}
        assert not torch.equal(first[0], modulated(gradients, [0.5, 1.0], **drawn)[0])


def test_noise_is_added_in_training_unless_switched_off():
    spec = toy_spec(2)
    batches = toy_batches(spec, count=1)
    noisy, again, quiet = toy(spec), toy(spec), toy(spec, generalise=False)
    for module in (noisy, again, quiet):
        fit(module, batches)
    for name in spec.names:  # the weaker one too
        weight = noisy.encoders[name].body[0].weight
        assert not torch.allclose(weight, quiet.encoders[name].body[0].weight)
        assert torch.equal(weight, again.encoders[name].body[0].weight)
    for part in ("weight_MCD", "bias_C"):
        assert torch.equal(getattr(noisy.fusion, part), getattr(quiet.fusion, part))


def test_window_of_epochs_ends_included():
    spec = toy_spec(2)
    module, joint, notes = toy(spec, start=1, end=2), toy(spec, method=Joint), Described()
    batches = toy_batches(spec)
    fit(module, batches, epochs=4, callbacks=[notes])
    assert [bool(facts) for facts in notes.facts] == [False, True, True, False]
    assert all(min(facts["coefficient"].values()) < 1 for facts in notes.facts[1:3])
    early = toy(spec, start=1)
    fit(early, batches)
    fit(joint, batches)
    for a, b in zip(early.parameters(), joint.parameters(), strict=True):
        assert torch.equal(a, b)


def test_scope_of_convolutions():
    encoders = nn.ModuleDict({"a": nn.Conv2d(1, 2, 3), "b": nn.Linear(3, 2)})
    method = OgmGe("ab", scope="convolutions", generalise=False)
    method.adopt(encoders)
    for parameter in encoders.parameters():
        parameter.grad = torch.ones_like(parameter)
    loop = SimpleNamespace(encoder=lambda m: encoders["ab"[m]])
    method.modulate(loop, torch.tensor([0.5, 0.5]))
    changed = {n for n, p in encoders.named_parameters() if not (p.grad == 1).all()}
    assert changed == {"a.weight"}
    with pytest.raises(MmeqError, match=r"method\.scope=convolutions"):
        toy(toy_spec(2), scope="convolutions")


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", -0.1), ("alpha", float("nan")), ("start", -1), ("end", -1), ("scope", "weight")],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        OgmGe("ab", **{option: value})


def test_one_modality_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy(toy_spec(1))


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
