"""AUG: its losses and steps against plain PyTorch, when classifiers come, what stays put."""

import copy
from functools import partial
from types import SimpleNamespace

import lightning
import pytest
import torch
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.aug import Aug, boosted
from mmeq.methods.base import Features

HEADS = 3
SMALL = partial(Aug, hidden=6, heads=HEADS)
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)


def aug_module(spec, used, method=SMALL, **options):
    module = toy_module(spec, method=method, fusion=Concat, **options)
    module.method.active_M.copy_(torch.tensor(used))
    module.method.in_use = list(used)
    return module


def gappy(spec, count=2, seed=1):
    batches = toy_batches(spec, count=count)
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > 0.4
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    return batches


def error(logits, target):
    """ℓ(logits, target) of each sample for a target that need not sum to one."""
    return -(target * torch.log_softmax(logits, 1)).sum(1)


def reference_loss(terms, label, residual):
    """Equations (2) to (5) of the paper, sample by sample."""
    truth = torch.eye(CLASSES)[label]
    whole = error(sum(terms), truth)
    if len(terms) == 1:
        return whole
    before = sum(terms[:-1])
    left = truth - residual * truth * torch.softmax(before.detach(), 1)
    return error(terms[-1], left) + whole + error(before, truth)


def test_loss_of_known_numbers():
    """Earlier classifiers give the label 3/4: at λ = 1/2 the newest one learns 5/8 of it."""
    log = torch.tensor([[[2.0, 1.0, 1.0]], [[3.0, 1.0, 1.0]], [[1.0, 2.0, 1.0]]]).log()
    loss = boosted(log, torch.tensor([0]), 0.5)
    p_before, p_all, p_new = 6 / 8, 6 / 9, 1 / 4
    expected = torch.tensor([p_before, p_all]).log().sum() + 0.625 * torch.tensor(p_new).log()
    torch.testing.assert_close(loss, -expected[None])
    first = boosted(log[:1], torch.tensor([0]), 0.5)
    torch.testing.assert_close(first, torch.tensor([0.5]).log().neg())


def test_residual_target_is_detached():
    terms = torch.randn(2, 4, CLASSES, requires_grad=True)
    label = torch.tensor([0, 1, 2, 0])
    (ours,) = torch.autograd.grad(boosted(terms, label, 1.0).sum(), terms)
    (theirs,) = torch.autograd.grad(reference_loss(list(terms), label, 1.0).sum(), terms)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("used", [(1, 1), (1, 2), (3, 1, 2)])
def test_two_batches_equal_plain_pytorch(used):
    """Features once, then a step a modality: under momentum and decay the others do not move."""
    spec = toy_spec(len(used))
    module = aug_module(spec, used, optimizer=MOMENTUM)
    method = module.method
    batches = toy_batches(spec, count=2)
    encoders, first, shared = (
        copy.deepcopy(part) for part in (module.encoders, method.first, method.shared)
    )
    fit(module, batches)

    velocity = {}
    seen = torch.zeros(2, len(used))
    for batch in batches:
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        for m, name in enumerate(spec.names):
            mine = [first[m * HEADS + k] for k in range(used[m])]
            terms = [shared(torch.relu(layer(rows[m]))) for layer in mine]
            loss = reference_loss(terms, batch["label"], 0.5).mean()
            sure = torch.softmax(sum(terms).detach(), 1)
            seen[0, m] += sum(sure[i, y] for i, y in enumerate(batch["label"]))
            seen[1, m] += len(sure)
            parameters = [*encoders[name].parameters(), *shared.parameters()]
            parameters += [p for layer in mine for p in layer.parameters()]
            grads = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, grad in zip(parameters, grads, strict=True):
                    step = grad + 0.01 * parameter
                    if parameter in velocity:
                        step = 0.9 * velocity[parameter] + step
                    velocity[parameter] = step
                    parameter -= 0.1 * step
    pairs = ((module.encoders, encoders), (method.first, first), (method.shared, shared))
    for ours, theirs in pairs:
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, atol=1e-5, rtol=1e-5, msg=key)
    torch.testing.assert_close(method.seen_2M, seen)


def test_unused_classifiers_keep_weights_and_have_no_moments():
    spec = toy_spec(2)
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    module = aug_module(spec, (1, 2), optimizer=optimizer)
    before = copy.deepcopy(module.state_dict())
    state = fit(module, toy_batches(spec)).optimizers[0].state
    for place, layer in enumerate(module.method.first):
        used = place in (0, HEADS, HEADS + 1)
        key = f"method.first.{place}.weight"
        assert torch.equal(layer.weight, before[key]) is not used
        assert (layer.weight in state) is used
        assert (layer.bias in state) is used
    for key in ("fusion.weight_MCD", "fusion.bias_C"):
        assert torch.equal(module.state_dict()[key], before[key])
    assert all(p not in state for p in module.fusion.parameters())


def grown(scores, epoch, used=None, samples=10.0, **options):
    method = SMALL("abcd"[: len(scores)], dim=DIM, classes=CLASSES, **options)
    if used is not None:
        method.active_M.copy_(torch.tensor(used))
        method.in_use = list(used)
    counts = torch.tensor(samples).expand(len(scores))
    method.seen_2M.copy_(torch.stack([torch.tensor(scores) * counts, counts]))
    method.on_epoch_start(SimpleNamespace(epoch=epoch))
    assert method.in_use == method.active_M.tolist()
    assert not method.seen_2M.any()  # each epoch is judged by itself
    return method.in_use


@pytest.mark.parametrize(
    ("scores", "epoch", "options", "expected"),
    [
        ([0.6, 0.4], 20, {}, [1, 2]),
        ([0.4, 0.6], 40, {}, [2, 1]),
        ([0.6, 0.4], 1, {}, [1, 1]),  # not after the first epoch, as the released code does
        ([0.6, 0.4], 21, {}, [1, 1]),
        ([0.6, 0.595], 20, {}, [1, 1]),  # inside the dead zone, from both sides
        ([0.595, 0.6], 20, {}, [1, 1]),
        ([0.6, 0.4], 20, {"sigma": 1.49}, [1, 1]),
        ([0.6, 0.4], 20, {"sigma": 1.45}, [1, 2]),
        ([0.6, 0.4], 20, {"threshold": 0.25}, [1, 1]),
        ([0.6, 0.4], 3, {"every": 3}, [1, 2]),
        ([0.5, 0.9, 0.3], 20, {}, [1, 1, 2]),  # M > 2: the weakest only, against the strongest
        ([0.3, 0.31, 0.305], 20, {}, [1, 1, 1]),
        ([0.5, 0.3, 0.3, 0.9], 20, {"used": (1, HEADS, 1, 1)}, [1, HEADS, 1, 1]),  # no more left
    ],
)
def test_growth(scores, epoch, options, expected):
    assert grown(scores, epoch, **options) == expected


def test_modality_that_no_sample_had_is_not_the_weakest():
    method = SMALL("abc", dim=DIM, classes=CLASSES)
    method.seen_2M.copy_(torch.tensor([[0.0, 8.0, 4.0], [0.0, 10.0, 10.0]]))
    assert method.describe()["confidence"] == pytest.approx({"b": 0.8, "c": 0.4})
    method.on_epoch_start(SimpleNamespace(epoch=20))
    assert method.in_use == [1, 1, 2]
    method.on_epoch_start(SimpleNamespace(epoch=40))  # nothing seen at all
    assert method.in_use == [1, 1, 2]


def test_growth_in_a_real_run_follows_the_epoch_before():
    """Every epoch, the weakest by what `describe` says of the epoch before gets one more."""
    spec = toy_spec(3)
    module = aug_module(spec, (1, 1, 1), partial(SMALL, every=1, threshold=0.0))
    described, expected = [], {"a": 1, "b": 1, "c": 1}

    class Listen(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            described.append(pl_module.method.describe())

    fit(module, toy_batches(spec), epochs=4, callbacks=[Listen()])
    for fact in described:
        assert fact["heads"] == expected
        weakest = min(fact["confidence"], key=fact["confidence"].get)
        expected[weakest] = min(expected[weakest] + 1, HEADS)
    assert sum(described[-1]["heads"].values()) > 3


def test_gaps_leave_losses_and_statistics():
    spec = toy_spec(2, complete=False)
    module = aug_module(spec, (2, 1), optimizer=partial(torch.optim.SGD, lr=0.0))
    batches = gappy(spec)
    fit(module, batches)
    losses, seen = module.losses.summary()[0], torch.zeros(2, 2)
    for m, name in enumerate(spec.names):
        means = []
        for batch in batches:
            has = batch["present"][:, m]
            features = module.encoders[name](batch["inputs"][name][has])
            layers = module.method.first[m * HEADS : m * HEADS + (2, 1)[m]]
            terms = [module.method.shared(torch.relu(layer(features))) for layer in layers]
            label = batch["label"][has]
            means.append(float(reference_loss(terms, label, 0.5).detach().mean()))
            seen[0, m] += torch.softmax(sum(terms), 1)[range(len(label)), label].sum().detach()
            seen[1, m] += len(label)
        assert losses[f"step/{name}"] == pytest.approx(sum(means) / len(means), rel=1e-5)
    torch.testing.assert_close(module.method.seen_2M, seen)


def test_batch_in_which_nobody_has_a_modality():
    spec = toy_spec(2, complete=False)
    module = aug_module(spec, (2, 2))
    before = copy.deepcopy(module.encoders["a"].state_dict())
    batches = toy_batches(spec, count=2)
    for batch in batches:
        batch["present"][:, 0] = False
    fit(module, batches)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    for key, value in before.items():
        torch.testing.assert_close(module.encoders["a"].state_dict()[key], value)
    assert module.method.seen_2M[1].tolist() == [0.0, 32.0]


@pytest.mark.parametrize("used", [(1, 2), (2, 1, 3)])
def test_answers(used):
    """The mean of the summed classifiers of what a sample has; the prior where that is nothing."""
    count = len(used)
    spec = toy_spec(count, complete=False)
    module = aug_module(spec, used).eval()
    rows = [torch.randn(6, DIM) for _ in range(count)]
    present = torch.rand(6, count, generator=torch.Generator().manual_seed(2)) > 0.4
    present[0] = False
    sets = (torch.arange(2**count)[:, None] >> torch.arange(count)) % 2 == 1
    method = module.method
    logits = method.logits(module, Features(tuple(rows), present), sets)
    for s, members in enumerate(sets):
        for b in range(6):
            own = [
                sum(
                    method.shared(torch.relu(method.first[m * HEADS + k](rows[m][b])))
                    for k in range(used[m])
                )
                for m in range(count)
                if members[m] and present[b, m]
            ]
            expected = sum(own) / len(own) if own else module.log_prior
            torch.testing.assert_close(logits[s, b], expected)
    complete = method.logits(module, Features(tuple(rows), None), sets)
    alone = method.logits(module, Features(tuple(h[:1] for h in rows), None), sets)
    torch.testing.assert_close(complete[:, :1], alone)


def test_state_survives_a_checkpoint():
    """What was decided, and what the next decision looks at."""
    spec = toy_spec(2)
    module = aug_module(spec, (1, 2))
    fit(module, toy_batches(spec))
    other = aug_module(spec, (1, 1))
    other.load_state_dict(copy.deepcopy(module.state_dict()))
    assert other.method.in_use == [1, 2]
    rows = Features(tuple(torch.randn(2, 4, DIM)), None)
    both = torch.tensor([[True, True]])
    ours, theirs = (x.method.logits(x, rows, both) for x in (module, other))
    torch.testing.assert_close(ours, theirs)
    for each in (module, other):
        each.method.threshold = 0.0
        each.method.on_epoch_start(SimpleNamespace(epoch=20))
    assert module.method.in_use == other.method.in_use != [1, 2]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("every", 0),
        ("sigma", 0.9),
        ("threshold", -0.1),
        ("threshold", float("nan")),
        ("residual", 1.1),
        ("heads", 0),
        ("hidden", 0),
    ],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Aug("ab", dim=DIM, classes=CLASSES, **{option: value})


def test_it_learns_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = gappy(spec, count=8)
    module = aug_module(spec, (1, 1, 1), partial(SMALL, every=1))
    fit(module, batches, batches, epochs=5)
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_one_modality_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1), method=Aug, fusion=Concat)
