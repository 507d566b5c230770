"""Early stopping a modality: when it is frozen, what a step trains, and that frozen is frozen."""

import copy
from functools import partial
from types import SimpleNamespace

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import CLASSES, DIM, SGD, fit, toy_batches, toy_module, toy_spec

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.mses import Mses

ADAM = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5)
ZERO_CONCAT = partial(Concat, absence="zero")


def method_of(names="ab", **options):
    return Mses(names, dim=DIM, classes=CLASSES, **options)


def report(metric, *alone):
    """A report of which the coalitions of one modality have these values."""
    count = len(alone)
    values = {
        name: torch.rand(2**count, dtype=torch.float64) for name in ("accuracy", "nll", "macro_f1")
    }
    for m, value in enumerate(alone):
        values[metric][2**m] = value
    return SimpleNamespace(alone_in=lambda name: values[name][2 ** torch.arange(count)])


def module_of(modalities=2, complete=True, optimizer=ADAM, **options):
    """Encoders end in a batch norm, which a frozen one must not move either."""
    spec = toy_spec(modalities, complete)
    module = toy_module(
        spec, method=partial(Mses, **options), fusion=ZERO_CONCAT, optimizer=optimizer, dropout=0.0
    )
    for name in spec.names:
        module.encoders[name] = nn.Sequential(module.encoders[name], nn.BatchNorm1d(DIM))
    return spec, module


def gaps(batches):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > 0.3
    return batches


@pytest.mark.parametrize(("metric", "sign"), [("nll", -1), ("accuracy", 1), ("macro_f1", 1)])
def test_frozen_after_patience_epochs_without_a_new_best(metric, sign):
    method = method_of("abc", metric=metric, patience=2)
    goodness = [
        # a, b, c
        (0.1, 0.5, 0.5),
        (0.2, 0.4, 0.5),  # b worse, c equal: one epoch each
        (0.1, 0.6, 0.5),  # b a new best; c waits a second epoch
        (0.3, 0.5, 0.9),  # c comes too late
        (0.2, 0.6, 0.9),  # b equals its best only
        (0.4, 0.9, 0.9),
        (0.4, 0.9, 0.9),
        (0.4, 0.9, 0.9),
    ]
    frozen = []
    for epoch, alone in enumerate(goodness):
        method.on_report(report(metric, *(sign * g for g in alone)), epoch)
        frozen.append("".join(n for n, f in zip("abc", method.frozen, strict=True) if f))
        assert method.describe()["frozen"] == list(frozen[-1])
        assert method.finished == (frozen[-1] == "abc")
    assert frozen == ["", "", "c", "c", "bc", "bc", "bc", "abc"]


def test_nan_is_no_improvement():
    method = method_of(patience=2)
    for epoch in range(2):
        method.on_report(report("nll", float("nan"), 1.0 - epoch), epoch)
    assert method.frozen == [True, False]


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    "frozen", [(False, False), (True, False), (False, True, False), (True, True, True)]
)
def test_training_equals_plain_pytorch(frozen, complete):
    spec, module = module_of(len(frozen), complete, SGD, weight=0.7)
    module.method.frozen = list(frozen)
    batches = toy_batches(spec, count=2)
    if not complete:
        batches = gaps(batches)
        batches[1]["present"][:, -1] = False  # nobody has it
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    heads = copy.deepcopy(module.method.heads)
    fit(module, batches)

    active = [m for m, stopped in enumerate(frozen) if not stopped]
    trained = [encoders[spec.names[m]] for m in active] + [heads.each[m] for m in active]
    for encoder in encoders.values():
        encoder.train()
    for m, stopped in enumerate(frozen):
        encoders[spec.names[m]].train(not stopped)
    reference = torch.optim.SGD([*nn.ModuleList(trained).parameters(), *fusion.parameters()], 0.1)
    every = torch.ones(1, len(frozen), dtype=torch.bool)
    for batch in batches:
        label = batch["label"]
        rows = [torch.zeros(len(label), DIM) for _ in spec.names]
        for m, name in enumerate(spec.names):
            have = batch["present"][:, m]
            if have.any():  # those who have it make a batch of their own
                rows[m][have] = encoders[name](batch["inputs"][name][have])
        rows = [h.detach() if stopped else h for h, stopped in zip(rows, frozen, strict=True)]
        present = None if complete else batch["present"]
        loss = F.cross_entropy(fusion(rows, every, None, present)[0], label)
        for m in active:
            have = batch["present"][:, m]
            if have.any():
                loss = loss + 0.7 * F.cross_entropy(heads.each[m](rows[m])[have], label[have])
        reference.zero_grad()
        loss.backward()
        reference.step()
    for ours, theirs in (
        (module.encoders, encoders),
        (module.fusion, fusion),
        (module.method.heads, heads),
    ):
        for (name, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


def test_a_frozen_modality_does_not_move_at_all():
    """Weights, head, batch-norm statistics, moments: under weight decay and with old moments."""
    spec, module = module_of(2)
    batches = toy_batches(spec)
    parts = {"a": (0, {}), "b": (1, {})}

    def snapshot(trainer, m):
        name = spec.names[m]
        head = module.method.heads.each[m]
        kept = {**module.encoders[name].state_dict(), **head.state_dict(prefix="head.")}
        parameters = [*module.encoders[name].parameters(), *head.parameters()]
        for k, p in enumerate(parameters):
            state = trainer.optimizers[0].state[p]
            kept |= {f"{key}/{k}": value for key, value in state.items()}
        return copy.deepcopy(kept)

    class Freeze(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                pl_module.method.frozen[0] = True
                for m, kept in parts.values():
                    kept.update(snapshot(trainer, m))

    trainer = fit(module, batches, batches, epochs=3, callbacks=[Freeze()])
    for name, (m, before) in parts.items():
        same = {k: torch.equal(v, before[k]) for k, v in snapshot(trainer, m).items()}
        assert {"0.body.0.weight", "1.running_mean", "head.weight", "exp_avg/0"} <= set(same)
        assert all(same.values()) if name == "a" else not any(same.values()), (name, same)
    assert set(module.train_losses) == {"joint", "head/b"}


def test_the_run_ends_when_all_are_frozen():
    """Nothing improves at a rate of 0: frozen after 1 + patience epochs, and the run is over."""
    spec, module = module_of(3, optimizer=partial(torch.optim.SGD, lr=0.0), patience=2)
    for encoder in module.encoders.values():
        encoder[1].momentum = 0.0
    batches = toy_batches(spec)
    trainer = fit(module, batches, batches, epochs=9, callbacks=[ShapleyScheduler()])
    assert module.method.frozen == [True] * 3
    assert module.method.finished
    assert trainer.current_epoch == 3


def test_state_survives_a_checkpoint():
    series = [(1.0, 1.0), (1.1, 0.9), (1.2, 0.8)]
    method, other = method_of(patience=2), method_of(patience=2)
    for epoch, alone in enumerate(series):
        method.on_report(report("nll", *alone), epoch)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert (other.frozen, other.waited, other.best) == ([True, False], [2, 0], [-1.0, -0.8])
    assert torch.equal(other.heads.each[1].weight, method.heads.each[1].weight)
    for epoch in (3, 4):
        other.on_report(report("nll", 0.1, 0.8), epoch)
    assert other.finished
    third = method_of()
    third.load_state_dict(copy.deepcopy(other.state_dict()))
    assert third.finished


@pytest.mark.parametrize(
    ("option", "value"),
    [("patience", 0), ("metric", "accuarcy"), ("weight", -1.0), ("weight", float("nan"))],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=rf"method\.{option}"):
        method_of(**{option: value})


def test_each_modality_alone_is_answered_by_its_head_and_learnt_with_gaps():
    spec, module = module_of(3, complete=False)
    batches = gaps(toy_batches(spec, count=8))
    fit(module, batches, batches, epochs=5, callbacks=[ShapleyScheduler()])
    assert float(module.report.full) > 1.5 / CLASSES
    assert float(module.report.alone[0]) > 1.3 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())
    module.eval()
    features = module.encode(batches[0])
    alone = module.method.logits(module, features, torch.tensor([[True, False, False]]))[0]
    own = module.method.heads.each[0](features.rows[0])
    prior = torch.full((CLASSES,), 1 / CLASSES).log()
    expected = torch.where(batches[0]["present"][:, :1], own, prior)
    torch.testing.assert_close(alone, expected)
