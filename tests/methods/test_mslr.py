"""Learning rates by validation accuracy: known factors, and steps of a plain optimizer."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.errors import MmeqError
from mmeq.fusions.late import Late
from mmeq.fusions.sum import Sum
from mmeq.methods.mslr import Mslr

ZERO_SUM = partial(Sum, absence="zero")


def report(*alone):
    """A report of which the coalitions of one modality have these accuracies."""
    count = len(alone)
    accuracy = torch.full((2**count,), 0.9, dtype=torch.float64)
    for m, value in enumerate(alone):
        accuracy[2**m] = value
    # the game may be played for another value: `alone` is none of the method's business
    return SimpleNamespace(
        alone_in=lambda metric: {"accuracy": accuracy}[metric][2 ** torch.arange(count)],
        alone=-accuracy[:count],
    )


def test_factors_are_accuracy_over_the_mean_of_the_window():
    method = Mslr("ab", window=3)
    assert method.factors == [1.0, 1.0]
    series = [(0.2, 0.8), (0.4, 0.8), (0.6, 0.4), (0.3, 0.5)]
    expected = [
        (1.0, 1.0),
        (0.4 / 0.3, 1.0),
        (0.6 / 0.4, 0.4 * 3 / 2.0),
        (0.3 * 3 / 1.3, 0.5 * 3 / 1.7),  # 0.2 and 0.8 have left the window
    ]
    for epoch, (alone, factors) in enumerate(zip(series, expected, strict=True)):
        method.on_report(report(*alone), epoch)
        assert method.factors == pytest.approx(factors)
        assert method.describe() == {"rates": dict(zip("ab", method.factors, strict=True))}


def test_three_modalities_zeros_and_a_window_of_one():
    method = Mslr("abc", window=2)
    method.on_report(report(0.0, 0.5, 0.1), 0)
    assert method.factors == [1.0, 1.0, 1.0]  # not 0/0
    method.on_report(report(0.0, 0.0, 0.3), 1)
    assert method.factors == pytest.approx([1.0, 0.0, 1.5])
    plain = Mslr("abc", window=1)
    for epoch in range(3):
        plain.on_report(report(0.1 * (epoch + 1), 0.5, 0.1), epoch)
        assert plain.factors == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("fusion", "modalities"), [(ZERO_SUM, 2), (ZERO_SUM, 3), (Late, 3)])
def test_training_equals_an_optimizer_with_a_rate_a_group(fusion, modalities):
    """Momentum and weight decay: the rate is scaled, not the gradient."""
    spec = toy_spec(modalities)
    factors = (0.25, 1.6, 1.2)[:modalities]
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    module = toy_module(spec, method=Mslr, fusion=fusion, optimizer=optimizer)
    module.method.history = [[1.0] * modalities, [f / (2 - f) for f in factors]]
    assert module.method.factors == pytest.approx(factors)
    batches = toy_batches(spec, count=3)
    encoders, head = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    groups = [
        {"params": encoders[n].parameters(), "lr": 0.01 * factor}
        for n, factor in zip(spec.names, factors, strict=True)
    ]
    reference = optimizer([*groups, {"params": head.parameters()}])
    every = torch.ones(1, modalities, dtype=torch.bool)
    for batch in batches:
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        loss = F.cross_entropy(head(rows, every)[0], batch["label"])
        reference.zero_grad()
        loss.backward()
        reference.step()
    for ours, theirs in ((module.encoders, encoders), (module.fusion, head)):
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("value", ["accuracy", "nll"])
def test_a_run_follows_the_accuracies_of_its_validations(value):
    """With gaps, whatever the game is played for; the schedule's rate is what is multiplied."""
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=6)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(16, 3, generator=generator) > 0.3
    module = toy_module(spec, method=partial(Mslr, window=2), fusion=Sum, value=value)
    seen = []

    class Watch(ShapleyScheduler):
        def on_validation_end(self, trainer, pl_module):
            super().on_validation_end(trainer, pl_module)
            accuracy = pl_module.report.values["accuracy"]
            seen.append([float(accuracy[2**m]) for m in range(3)])

    trainer = fit(module, batches, batches, epochs=4, callbacks=[Watch()])
    assert len(seen) == 4
    assert seen[-1] != seen[-2]
    now, before = torch.tensor(seen[-1]), torch.tensor(seen[-2])
    assert module.method.factors == pytest.approx((2 * now / (now + before)).tolist())
    assert all(group["lr"] == 0.1 for group in trainer.optimizers[0].param_groups)
    assert float(module.report.values["accuracy"][-1]) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_state_survives_a_checkpoint():
    method, other = Mslr("ab", window=2), Mslr("ab", window=2)
    for epoch, alone in enumerate([(0.2, 0.4), (0.3, 0.3), (0.5, 0.2)]):
        method.on_report(report(*alone), epoch)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert other.factors == method.factors != [1.0, 1.0]
    for one in (method, other):
        one.on_report(report(0.1, 0.9), 3)
    assert other.factors == method.factors


@pytest.mark.parametrize("window", [0, -1, float("nan")])
def test_wrong_option_is_named(window):
    with pytest.raises(MmeqError, match=r"method\.window"):
        Mslr("ab", window=window)
