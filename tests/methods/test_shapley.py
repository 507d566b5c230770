"""The mission's method: its steps against plain PyTorch, its order rules, what it leaves alone."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.methods.shapley import Shapley


def report(phi, alone=None, banzhaf=None, se=0.0, alone_se=0.0, banzhaf_se=0.0):
    phi = torch.tensor(phi, dtype=torch.float64)
    other = torch.zeros_like(phi)
    return SimpleNamespace(
        phi=phi,
        alone=other if alone is None else torch.tensor(alone),
        banzhaf=other if banzhaf is None else torch.tensor(banzhaf),
        gap_se=torch.full((len(phi), len(phi)), se),
        alone_gap_se=torch.full((len(phi), len(phi)), alone_se),
        banzhaf_gap_se=torch.full((len(phi), len(phi)), banzhaf_se),
    )


def reference_losses(fusion, rows, label, order, place, supervise, weight):
    """The four step losses, written out."""

    def ce(members, chain):
        mask = torch.zeros(1, len(rows), dtype=torch.bool)
        mask[0, list(members)] = True
        return F.cross_entropy(fusion(rows, mask, (chain,))[0], label)

    if supervise == "final":
        return ce(order, order)
    if supervise == "sequential":
        return ce(order[: place + 1], order)
    if supervise == "unimodal":
        return ce(order, order) + weight * ce([order[place]], order)
    prefixes = [order[: k + 1] for k in range(place, len(order))]
    return torch.stack([ce(p, order) for p in prefixes]).mean()


@pytest.mark.parametrize("pace", ["batch", "step"])
@pytest.mark.parametrize("supervise", ["final", "sequential", "unimodal", "prefixes"])
def test_two_batches_equal_plain_pytorch(supervise, pace):
    """One forward of each encoder, then a step a modality: the same weights as a loop by hand."""
    spec = toy_spec(3)
    order = (2, 0, 1)
    module = toy_module(spec, method=partial(Shapley, supervise=supervise, weight=0.7, pace=pace))
    module.method.order = order
    batches = toy_batches(spec, count=2)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches)

    encoders.train()
    fusion.train()
    names = spec.names
    for batch in batches:
        graph = [encoders[n](batch["inputs"][n]) for n in names]
        fusion.observe(graph, None)
        for place, m in enumerate(order):
            rows = [h if k == m else h.detach() for k, h in enumerate(graph)]
            loss = reference_losses(fusion, rows, batch["label"], order, place, supervise, 0.7)
            own, common = [*encoders[names[m]].parameters()], [*fusion.parameters()]
            parameters, rate = [*own, *common], 0.1 / len(order) if pace == "batch" else 0.1
            rates = [0.1] * len(own) + [rate] * len(common)
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, grad, lr in zip(parameters, grads, rates, strict=True):
                    if grad is not None:
                        parameter -= lr * grad
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        for (name, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            # float32: another processor rounds the running correlations by 1.5e-6
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


def test_alternate_epoch_moves_one_encoder_and_no_moments_of_others():
    spec = toy_spec(3)
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    module = toy_module(spec, method=partial(Shapley, alternate="epoch"), optimizer=optimizer)
    before = copy.deepcopy(module.encoders.state_dict())
    trainer = fit(module, toy_batches(spec))
    moved = {
        n.split(".")[0]
        for n, v in module.encoders.state_dict().items()
        if not torch.equal(v, before[n])
    }
    assert moved == {"a"}
    touched = {
        group["name"]
        for group in trainer.optimizers[0].param_groups
        if any(p in trainer.optimizers[0].state for p in group["params"])
    }
    assert touched == {"encoder/a", "fusion"}


def test_refresh_changes_later_steps_only_when_asked():
    spec = toy_spec(2)
    results = []
    for refresh in (False, True):
        module = toy_module(spec, method=partial(Shapley, refresh=refresh))
        fit(module, toy_batches(spec, count=1))
        results.append(module.encoders.state_dict())
    first = [n for n in results[0] if n.startswith("a.")]
    second = [n for n in results[0] if n.startswith("b.")]
    assert all(torch.equal(results[0][n], results[1][n]) for n in first)
    assert not all(torch.equal(results[0][n], results[1][n]) for n in second)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("shapley", (2, 0, 1)),
        ("strong_first", (1, 0, 2)),
        ("unimodal", (1, 2, 0)),
        ("banzhaf", (0, 2, 1)),
        ("fixed", (0, 1, 2)),
    ],
)
def test_order_rules(rule, expected):
    method = Shapley("abc", order=rule)
    method.on_report(
        report([0.2, 0.3, 0.1], alone=[0.9, 0.1, 0.5], banzhaf=[0.1, 0.3, 0.2]), epoch=0
    )
    assert method.order == expected


def test_random_order_depends_on_seed_and_epoch_alone():
    def orders(seed):
        method = Shapley("abcd", seed=seed, order="random")
        out = [method.order]
        for epoch in range(6):
            method.on_report(report([1.0, 2.0, 3.0, 4.0]), epoch)
            out.append(method.order)
        return out

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
    assert len(set(orders(1))) > 2


def test_hysteresis_ema_and_warmup():
    method = Shapley("ab", hysteresis=2.0)
    method.on_report(report([0.30, 0.25], se=0.05), 0)
    assert method.order == (0, 1)  # a gap of one standard error is not enough
    method.on_report(report([0.30, 0.15], se=0.05), 1)
    assert method.order == (1, 0)
    method = Shapley("ab", ema=0.9)
    method.on_report(report([0.1, 0.5]), 0)
    method.on_report(report([0.5, 0.1]), 1)
    assert method.order == (0, 1)
    assert method.scores == pytest.approx([0.14, 0.46])
    method = Shapley("ab", warmup=2)
    method.on_report(report([0.5, 0.1]), 0)
    assert method.order == (0, 1)
    method.on_report(report([0.5, 0.1]), 1)
    assert method.order == (1, 0)


@pytest.mark.parametrize("rule", ["shapley", "unimodal", "banzhaf"])
def test_hysteresis_is_in_standard_errors_of_what_sorts(rule):
    own = {"shapley": "se", "unimodal": "alone_se", "banzhaf": "banzhaf_se"}[rule]
    score = [0.3, 0.2, 0.1]
    for error, order in ((1.0, (0, 1, 2)), (0.01, (2, 1, 0))):
        noise = {"se": 1.0, "alone_se": 1.0, "banzhaf_se": 1.0, own: error}
        method = Shapley("abc", order=rule, hysteresis=1.0)
        method.on_report(report(score, alone=score, banzhaf=score, **noise), 0)
        assert method.order == order


def test_alternate_epoch_reorders_after_a_round():
    method = Shapley("ab", alternate="epoch")
    method.on_report(report([0.5, 0.1]), 0)
    assert method.order == (0, 1)
    method.on_report(report([0.5, 0.1]), 1)
    assert method.order == (1, 0)


def test_state_survives_a_checkpoint():
    method = Shapley("ab", ema=0.5)
    method.on_report(report([0.5, 0.1]), 0)
    other = Shapley("ab", ema=0.5)
    other.load_state_dict(method.state_dict())
    assert (other.order, other.scores) == (method.order, method.scores)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("supervise", "finale"),
        ("order", "shaply"),
        ("alternate", "step"),
        ("pace", "epoch"),
        ("ema", 1.0),
        ("weight", -1.0),
    ],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Shapley("ab", **{option: value})


def test_classes_of_toy_are_learnt_with_gaps():
    """Training with missing modalities runs, lowers the loss, and leaves no NaN."""
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=8)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        batch["present"] = torch.rand(16, 3, generator=generator) > 0.3
        batch["present"][~batch["present"].any(1), 0] = True
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    module = toy_module(spec)
    fit(module, batches, batches, epochs=5)
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())


def reported(values: dict[tuple[int, ...], float], metric: str = "accuracy", modalities: int = 3):
    """A report of a game with these values; what is not given is 0.5."""
    from mmeq.game.coalitions import all_coalitions
    from mmeq.methods.steps import capacity_share

    rows = all_coalitions(modalities)
    table = [
        values.get(tuple(m for m in range(modalities) if row[m]), 0.5) for row in rows.tolist()
    ]
    sign = -1.0 if metric == "nll" else 1.0
    alone = torch.tensor([sign * values[(m,)] for m in range(modalities)], dtype=torch.float64)
    report = SimpleNamespace(
        value=metric,
        values={metric: torch.tensor(table, dtype=torch.float64)},
        alone=alone,
        higher_is_better=metric != "nll",
    )
    return capacity_share(report)


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("accuracy", {(): 0.2, (0,): 0.7, (1,): 0.45, (2,): 0.2}, [1.0, 0.5, 0.0]),
        ("accuracy", {(): 0.2, (0,): 0.6, (1,): 0.4, (2,): 0.1}, [1.0, 0.5, 0.0]),
        ("nll", {(): 2.0, (0,): 1.0, (1,): 1.5, (2,): 2.5}, [1.0, 0.5, 0.0]),
        ("accuracy", {(): 0.5, (0,): 0.5, (1,): 0.4, (2,): 0.3}, [1.0, 1.0, 1.0]),
    ],
)
def test_capacity_is_what_a_modality_tells_alone(metric, values, expected):
    assert reported(values, metric) == pytest.approx(expected)


def test_weights_follow_capacity_from_the_second_epoch_and_are_resumed():
    spec = toy_spec(3)
    module = toy_module(spec, method=partial(Shapley, weigh="capacity", weight=0.8))
    assert module.method.targets(0)[1].tolist() == pytest.approx([1.0, 0.8])
    module.method.share = [1.0, 0.5, 0.0]
    module.method.order = (2, 1, 0)
    weights = [module.method.targets(k)[1].tolist() for k in range(3)]
    assert weights == [pytest.approx([1.0, w]) for w in (0.0, 0.4, 0.8)]
    other = Shapley(spec.names, weigh="capacity")
    other.load_state(module.method.state())
    assert other.share == [1.0, 0.5, 0.0]
    old = {k: v for k, v in module.method.state().items() if k != "share"}
    fresh = Shapley(spec.names)
    fresh.load_state(old)
    assert fresh.share == [1.0, 1.0, 1.0]
