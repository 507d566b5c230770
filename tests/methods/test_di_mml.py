"""DI-MML: detached steps and the contrast against plain PyTorch, frozen stage 2, sure voices."""

import copy
from functools import partial
from itertools import permutations
from types import SimpleNamespace

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.memory import Memory
from mmeq.methods.base import Features
from mmeq.methods.di_mml import DiMml

MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)
STAGE1 = partial(DiMml, stage2_share=1.0, contrast_from=0, contrast_temperature=2.0)
STAGE2 = partial(DiMml, stage2_share=0.0)


def di_module(spec, method=STAGE1, **options):
    """With a batch norm in the first encoder, whose statistics must not drift when frozen."""
    module = toy_module(spec, method=method, fusion=Memory, **options)
    module.encoders["a"] = nn.Sequential(module.encoders["a"], nn.BatchNorm1d(DIM))
    return module


def gappy(spec, count=2, seed=1):
    batches = toy_batches(spec, count=count)
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > 0.4
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    return batches


def encoded_in_training(encoder, inputs, have):
    """Features of a batch: those who have the modality make a batch of their own."""
    features = torch.zeros(len(have), DIM)
    if have.any():
        features[have] = encoder(inputs[have])
    return features


def encoded(encoders, batches, names):
    """Features [M, N, D] of all samples in eval mode, who has what, labels."""
    encoders = copy.deepcopy(encoders).eval()
    rows = [torch.cat([encoders[n](b["inputs"][n]) for b in batches]).detach() for n in names]
    return (
        rows,
        torch.cat([b["present"] for b in batches]),
        torch.cat([b["label"] for b in batches]),
    )


def reference_effective(rows, present, label):
    """One sample, one dimension at a time: is the label's mean the nearest?"""
    out = torch.zeros(len(rows), DIM, dtype=torch.bool)
    for m, features in enumerate(rows):
        h, y = features[present[:, m]], label[present[:, m]]
        means = {int(c): h[y == c].mean(0) for c in y.unique()}
        rate = [
            sum(
                min(means, key=lambda c: abs(float(h[i, d] - means[c][d]))) == int(y[i])
                for i in range(len(y))
            )
            / len(y)
            for d in range(DIM)
        ]
        out[m] = torch.tensor([r > sum(rate) / DIM for r in rate])
    return out


def reference_contrast(student, teacher, dims, has_student, has_teacher, temperature):
    """−log of the own teacher's share among the batch's teachers, over the chosen dimensions."""
    losses = []
    for i in range(len(student)):
        if not (has_student[i] and has_teacher[i]):
            continue
        near = torch.stack(
            [
                (student[i][dims] * teacher[j][dims].detach()).sum() / temperature
                for j in range(len(teacher))
                if has_teacher[j]
            ]
        )
        own = (student[i][dims] * teacher[i][dims].detach()).sum() / temperature
        losses.append(near.exp().sum().log() - own)
    return torch.stack(losses).mean() if losses and dims.any() else torch.zeros(())


def reference_step_losses(rows, heads, shared, present, label, effective, weight, temperature):
    """The loss of each modality by itself: its classifiers', and what it is taught."""
    count, out = len(rows), []
    for n in range(count):
        h, y = rows[n][present[:, n]], label[present[:, n]]
        loss = F.cross_entropy(heads[n](h), y) + weight * F.cross_entropy(shared(h), y)
        for m in range(count):
            if m != n and effective is not None:
                dims = effective[m] & ~effective[n]
                loss = loss + reference_contrast(
                    rows[n], rows[m], dims, present[:, n], present[:, m], temperature
                ) / (count - 1)
        out.append(loss)
    return out


@pytest.mark.parametrize("contrast", [True, False])
@pytest.mark.parametrize(("count", "gaps"), [(2, False), (3, False), (3, True)])
def test_two_batches_equal_plain_pytorch(count, gaps, contrast):
    """Each encoder moves by the gradient of its own loss alone, the shared classifier by all."""
    spec = toy_spec(count, complete=not gaps)
    options = {"shared_weight": 0.7} | ({} if contrast else {"contrast_from": 1})
    module = di_module(spec, partial(STAGE1, **options), optimizer=MOMENTUM)
    method, batches = module.method, gappy(spec) if gaps else toy_batches(spec, count=2)
    encoders, heads, shared = (
        copy.deepcopy(part) for part in (module.encoders, method.heads.each, method.shared)
    )
    effective = reference_effective(*encoded(encoders, batches, spec.names))
    before = copy.deepcopy(method.concat.state_dict())
    fit(module, batches)
    if contrast:
        assert torch.equal(method.effective_MD, effective)
        pairs = permutations(effective, 2)
        assert any((m & ~n).any() for m, n in pairs)  # there is something to teach

    velocity = {}

    def step(parameters, grads):
        with torch.no_grad():
            for p, grad in zip(parameters, grads, strict=True):
                velocity[p] = 0.9 * velocity.get(p, 0.0) + grad + 0.01 * p
                p -= 0.1 * velocity[p]

    encoders.train()
    for batch in batches:
        rows = [
            encoded_in_training(encoders[n], batch["inputs"][n], batch["present"][:, m])
            for m, n in enumerate(spec.names)
        ]
        losses = reference_step_losses(
            rows,
            heads,
            shared,
            batch["present"],
            batch["label"],
            effective if contrast else None,
            0.7,
            2.0,
        )
        found = []
        for m, name in enumerate(spec.names):
            mine = [*encoders[name].parameters(), *heads[m].parameters()]
            found.append((mine, torch.autograd.grad(losses[m], mine, retain_graph=True)))
        common = list(shared.parameters())
        found.append((common, torch.autograd.grad(sum(losses), common)))
        for mine, grads in found:
            step(mine, grads)
    ours = ((module.encoders, encoders), (method.heads.each, heads), (method.shared, shared))
    for part, expected in ours:
        for key, value in expected.state_dict().items():
            torch.testing.assert_close(part.state_dict()[key], value, atol=1e-5, rtol=1e-4)
    assert ("contrast" in module.losses.summary()[0]) is contrast
    for key, value in before.items():  # the head waits for stage 2
        assert torch.equal(method.concat.state_dict()[key], value)


def contrast_of(rows, present, effective, temperature=2.0):
    names = "abcd"[: len(rows)]
    method = DiMml(names, dim=DIM, classes=CLASSES, contrast_temperature=temperature)
    method.effective_MD.copy_(effective)
    return method._contrast(Features(tuple(rows), present))


def test_one_way_only():
    """The student's chosen dimensions learn, the teacher and the other dimensions do not."""
    torch.manual_seed(3)
    rows = [torch.randn(5, DIM, requires_grad=True) for _ in range(2)]
    effective = torch.zeros(2, DIM, dtype=torch.bool)
    effective[0, :3] = True
    effective[:, 4] = True  # effective in both: nobody teaches it
    teacher, student = torch.autograd.grad(
        contrast_of(rows, None, effective), rows, materialize_grads=True
    )
    assert not teacher.any()
    assert student[:, :3].all()
    assert not student[:, 3:].any()


def test_contrast_leaves_absent_ones_out_and_teaches_nothing_without_dimensions():
    torch.manual_seed(3)
    rows = [torch.randn(6, DIM, requires_grad=True) for _ in range(3)]
    present = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 0], [0, 0, 1]]) > 0
    effective = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]).repeat(1, DIM // 4) > 0
    ours = contrast_of(rows, present, effective)
    theirs = sum(
        reference_contrast(
            rows[n], rows[m], effective[m] & ~effective[n], present[:, n], present[:, m], 2.0
        )
        for m, n in permutations(range(3), 2)
    )
    torch.testing.assert_close(ours, theirs / 2)
    for one, other in zip(
        torch.autograd.grad(ours, rows), torch.autograd.grad(theirs / 2, rows), strict=True
    ):
        torch.testing.assert_close(one, other)
    nobody = contrast_of(rows, torch.zeros(6, 3, dtype=torch.bool), effective)
    same = contrast_of(rows, present, torch.ones(3, DIM, dtype=torch.bool))
    assert float(nobody.detach()) == float(same.detach()) == 0.0


def test_class_that_nobody_has_is_never_nearest():
    spec = toy_spec(2, complete=False)
    module = di_module(spec)
    batches = gappy(spec)
    for batch in batches:
        batch["label"].clamp_(max=1)
    expected = reference_effective(*encoded(module.encoders, batches, spec.names))
    fit(module, batches)
    assert torch.equal(module.method.effective_MD, expected)


def test_dimensions_are_chosen_once_and_only_when_the_contrast_begins():
    spec = toy_spec(2)
    module = di_module(spec, partial(STAGE1, contrast_from=1))
    seen = []

    class Look(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            seen.append(pl_module.method.effective_MD.clone())

    fit(module, toy_batches(spec, count=2), epochs=3, callbacks=[Look()])
    assert not torch.stack(seen[:2]).any()
    assert seen[2].any(1).all()
    assert all(torch.equal(each, seen[2]) for each in seen[2:])
    assert module.method.describe() == {
        "stage": 1,
        "effective": {"a": int(seen[2][0].sum()), "b": int(seen[2][1].sum())},
    }


def test_stage_2_moves_the_head_alone():
    """Frozen: no weight, statistic or moment of an encoder or classifier, of the fusion neither."""
    spec = toy_spec(2)
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    module = di_module(spec, partial(DiMml, stage2_share=0.5), optimizer=optimizer)
    kept = {}

    def snapshot(trainer):
        state = trainer.optimizers[0].state
        frozen = [module.encoders, module.method.heads, module.method.shared]
        moments = [state[p] for part in frozen for p in part.parameters()]
        return copy.deepcopy(([part.state_dict() for part in frozen], moments))

    class Look(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            kept[trainer.current_epoch] = snapshot(trainer)
            kept["head", trainer.current_epoch] = copy.deepcopy(module.method.concat.state_dict())

    trainer = fit(module, toy_batches(spec), epochs=4, callbacks=[Look()])
    torch.testing.assert_close(kept[1], kept[3], rtol=0, atol=0)
    changed = kept["head", 0]["weight_MCD"], kept["head", 1]["weight_MCD"]
    assert torch.equal(*changed)
    assert not torch.equal(kept["head", 1]["weight_MCD"], kept["head", 2]["weight_MCD"])
    weights = kept[0][0][0], kept[1][0][0]
    assert not torch.equal(weights[0]["b.body.0.weight"], weights[1]["b.body.0.weight"])
    assert all(p not in trainer.optimizers[0].state for p in module.fusion.parameters())
    assert module.method.describe()["stage"] == 2


@pytest.mark.parametrize(("count", "gaps"), [(2, False), (3, True)])
def test_head_equals_plain_pytorch(count, gaps):
    """Features in eval mode, despite dropout; an absent one is its running mean."""
    spec = toy_spec(count, complete=not gaps)
    module = di_module(spec, STAGE2, optimizer=MOMENTUM, dropout=0.5)
    batches = gappy(spec) if gaps else toy_batches(spec, count=2)
    for batch in batches:
        batch["present"][~batch["present"].any(1), 0] = True
    head = module.method.concat
    layer = nn.Linear(count * DIM, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(head.weight_MCD.permute(1, 0, 2).reshape(CLASSES, -1))
        layer.bias.copy_(head.bias_C)
    rows, _, _ = encoded(module.encoders, batches, spec.names)
    optimizer = MOMENTUM(layer.parameters())
    sums, sizes = torch.zeros(count, DIM), torch.zeros(count)
    for number, batch in enumerate(batches):
        has = batch["present"]
        mine = [h[16 * number : 16 * number + 16] for h in rows]
        sums = 0.95 * sums + torch.stack([h[has[:, m]].sum(0) for m, h in enumerate(mine)])
        sizes = 0.95 * sizes + has.sum(0)
        filled = [torch.where(has[:, m : m + 1], h, sums[m] / sizes[m]) for m, h in enumerate(mine)]
        optimizer.zero_grad()
        F.cross_entropy(layer(torch.cat(filled, 1)), batch["label"]).backward()
        optimizer.step()
    fit(module, batches)
    weight = head.weight_MCD.permute(1, 0, 2).reshape(CLASSES, -1)
    torch.testing.assert_close(weight, layer.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(head.bias_C, layer.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("epochs", "share", "first"), [(10, 0.7, 7), (100, 0.7, 70), (4, 1.0, None), (4, 0.0, 0)]
)
def test_stage_2_begins_on_time(epochs, share, first):
    method = DiMml("ab", dim=DIM, classes=CLASSES, stage2_share=share, contrast_from=1000)
    stages = []
    for epoch in range(epochs):
        method.on_epoch_start(SimpleNamespace(epoch=epoch, epochs=epochs))
        stages.append(method.describe()["stage"])
    start = epochs if first is None else first
    assert stages == [1] * start + [2] * (epochs - start)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_answers(count, second):
    """Sample by sample: softmax of the voices' certainties over T weighs their logits."""
    spec = toy_spec(count, complete=False)
    module = di_module(spec, partial(STAGE2 if second else STAGE1, temperature=0.3))
    fit(module, gappy(spec))
    method = module.eval().method
    rows = [2 * torch.randn(6, DIM) for _ in range(count)]
    present = torch.rand(6, count, generator=torch.Generator().manual_seed(2)) > 0.3
    present[0], present[1] = False, True
    sets = (torch.arange(2**count)[:, None] >> torch.arange(count)) % 2 == 1
    logits = method.logits(module, Features(tuple(rows), present), sets)
    head, heard = method.concat, 0
    for s, members in enumerate(sets):
        for b in range(6):
            have = [m for m in range(count) if members[m] and present[b, m]]
            voices = [method.heads.each[m](rows[m][b]) for m in have]
            if second and len(have) > 1:
                heard += 1
                filled = [
                    rows[m][b] if m in have else head.moments.mean_MD[m] for m in range(count)
                ]
                terms = [w @ h for w, h in zip(head.weight_MCD, filled, strict=True)]
                voices.append(sum(terms) + head.bias_C)
            expected = module.log_prior
            if voices:
                sure = torch.stack([torch.softmax(o, 0).max() for o in voices])
                weight = torch.softmax(sure / 0.3, 0)
                expected = sum(w * o for w, o in zip(weight, voices, strict=True))
            torch.testing.assert_close(logits[s, b], expected, atol=1e-5, rtol=1e-4)
    assert bool(heard) is second
    complete = method.logits(module, Features(tuple(rows), None), sets)
    alone = method.logits(module, Features(tuple(h[:1] for h in rows), None), sets)
    torch.testing.assert_close(complete[:, :1], alone)


def test_state_survives_a_checkpoint():
    """Dimensions and, in the answers, the head: without another look at the data."""
    spec = toy_spec(2)
    method = partial(DiMml, stage2_share=0.5, contrast_from=0)
    module, other = di_module(spec, method), di_module(spec, method)
    fit(module, toy_batches(spec), epochs=2)
    rows = Features(tuple(torch.randn(2, 4, DIM)), None)
    both = torch.tensor([[True, True]])
    other.load_state_dict(copy.deepcopy(module.state_dict()))
    assert torch.equal(other.method.effective_MD, module.method.effective_MD)
    ours, theirs = (x.eval().method.logits(x, rows, both) for x in (module, other))
    torch.testing.assert_close(ours, theirs)
    head = module.method.concat.bias_C
    with torch.no_grad():
        head += 5.0 * torch.arange(CLASSES)
    assert not torch.allclose(module.method.logits(module, rows, both), theirs)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("shared_weight", -1.0),
        ("contrast_from", -1),
        ("contrast_temperature", 0.0),
        ("stage2_share", 1.1),
        ("temperature", 0.0),
        ("temperature", float("nan")),
    ],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        DiMml("ab", dim=DIM, classes=CLASSES, **{option: value})


def test_it_learns_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = gappy(spec, count=8)
    batches[0]["present"][:, 0] = False  # nobody has it
    module = di_module(spec, partial(DiMml, contrast_from=1, stage2_share=0.6))
    fit(module, batches, batches, epochs=5)
    assert module.method.describe()["stage"] == 2
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_one_modality_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1), method=DiMml)
