"""MMPareto: its steps against gradients of each loss by itself, its weights against a search."""

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.mmpareto import MmPareto, enlargement, joint_weight


def module_of(spec, signs, **options):
    """Heads start as ± the fusion's blocks: their gradients go with the fusion's, or against."""
    module = toy_module(spec, method=MmPareto, fusion=Concat, **options)
    with torch.no_grad():
        for head, block, sign in zip(
            module.method.heads.each, module.fusion.weight_MCD, signs, strict=True
        ):
            head.weight.copy_(sign * block)
    return module


def with_gaps(batches, rate=0.4):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        present = torch.rand(batch["present"].shape, generator=generator) > rate
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(batch["inputs"]):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


def losses(encoders, fusion, heads, batch, complete):
    """The fused loss, and those of the heads over the samples that have their modality."""
    graph = [encoder(batch["inputs"][name]) for name, encoder in encoders.items()]
    present = None if complete else batch["present"]
    fusion.observe(graph, present)
    every = torch.ones(1, len(graph), dtype=torch.bool)
    joint = F.cross_entropy(fusion(graph, every, None, present)[0], batch["label"])
    own = []
    for m, head in enumerate(heads.each):
        has = batch["present"][:, m]
        own.append(F.cross_entropy(head(graph[m][has]), batch["label"][has]))
    return joint, own


def found_weight(g_joint, g_own):
    """The weight of the shortest convex combination, by search; one half without conflict."""
    g_joint, g_own = (torch.cat([g.flatten() for g in gs]).double() for gs in (g_joint, g_own))
    if g_joint @ g_own > 0:
        return 0.5, False
    weight = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    square = (
        weight**2 * (g_joint @ g_joint)
        + (1 - weight) ** 2 * (g_own @ g_own)
        + 2 * weight * (1 - weight) * (g_joint @ g_own)
    )
    return float(weight[square.argmin()]), True


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(("count", "signs"), [(2, (1, -1)), (3, (-1, 1, -1))])
def test_two_batches_equal_plain_pytorch(count, signs, complete):
    spec = toy_spec(count, complete=complete)
    module = module_of(spec, signs)
    batches = toy_batches(spec, count=2)
    if not complete:
        batches = with_gaps(batches)
    encoders, fusion, heads = (
        copy.deepcopy(part) for part in (module.encoders, module.fusion, module.method.heads)
    )
    fit(module, batches)

    fusion.train()
    conflicts = {name: [] for name in spec.names}
    for batch in batches:
        joint, own = losses(encoders, fusion, heads, batch, complete)
        new = {}
        for m, name in enumerate(spec.names):
            parameters = list(encoders[name].parameters())
            # each loss differentiated by itself: what gradients that pile up would get wrong
            g_joint = torch.autograd.grad(joint, parameters, retain_graph=True)
            g_own = torch.autograd.grad(own[m], parameters, retain_graph=True)
            weight, conflict = found_weight(g_joint, g_own)
            conflicts[name].append(conflict)
            for parameter, j, o in zip(parameters, g_joint, g_own, strict=True):
                g = 2 * weight * j + 2 * (1 - weight) * o
                new[parameter] = 1.5 * g * max(1.0, float((j + o).norm() / g.norm()))
        rest = [*fusion.parameters(), *heads.parameters()]
        new.update(zip(rest, torch.autograd.grad(joint + sum(own), rest), strict=True))
        with torch.no_grad():
            for parameter, gradient in new.items():
                parameter -= 0.1 * gradient
    assert {True, False} == {c for found in conflicts.values() for c in found}
    for ours, theirs in (
        (module.encoders, encoders),
        (module.fusion, fusion),
        (module.method.heads, heads),
    ):
        for (name, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)
    assert module.method.describe()["conflict"] == {
        name: pytest.approx(sum(found) / 2) for name, found in conflicts.items()
    }


def test_aligned_gradients_take_gamma_times_the_plain_step():
    """Heads and fusion step as on the plain sum, encoders γ times as far."""
    spec = toy_spec(3)
    module = module_of(spec, (1, 1, 1))
    start = copy.deepcopy(module)
    batch = toy_batches(spec, count=1)
    trainer = fit(module, batch)
    assert module.method.describe() == {
        "conflict": dict.fromkeys("abc", 0.0),
        "weight": dict.fromkeys("abc", 0.5),
    }
    start.fusion.train()
    joint, own = losses(start.encoders, start.fusion, start.method.heads, batch[0], True)
    (joint + sum(own)).backward()
    for group in trainer.optimizers[0].param_groups:
        assert group["lr"] == 0.1
    for part, factor in (("encoders", 1.5), ("fusion", 1.0), ("method", 1.0)):
        for p, q in zip(
            getattr(module, part).parameters(), getattr(start, part).parameters(), strict=True
        ):
            torch.testing.assert_close(
                p.detach(), q.detach() - 0.1 * factor * q.grad, atol=1e-6, rtol=1e-5
            )


def test_no_tensor_steps_less_far_than_gamma_times_the_plain_sum():
    spec = toy_spec(2)
    module = module_of(spec, (-1, -1))
    start = copy.deepcopy(module)
    batch = toy_batches(spec, count=1)
    fit(module, batch)
    assert module.method.describe()["conflict"] == {"a": 1.0, "b": 1.0}
    start.fusion.train()
    joint, own = losses(start.encoders, start.fusion, start.method.heads, batch[0], True)
    (joint + sum(own)).backward()
    ratios = torch.stack(
        [
            (p - q).norm() / (0.1 * q.grad.norm())
            for p, q in zip(module.encoders.parameters(), start.encoders.parameters(), strict=True)
        ]
    ).detach()
    assert (ratios > 1.5 * (1 - 1e-4)).all()
    assert torch.isclose(ratios, torch.tensor(1.5), rtol=1e-4).any()  # brought up to it
    assert (ratios > 1.51).any()  # longer by itself


def test_weights_by_hand():
    def weight(joint, own):
        joint, own = torch.tensor(joint), torch.tensor(own)
        return float(joint_weight(joint @ joint, joint @ own, own @ own))

    assert weight([1.0, 0.0], [-1.0, 1.0]) == pytest.approx(3 / 5)  # the foot (1/5, 2/5)
    assert weight([1.0, 0.0], [-3.0, 0.0]) == pytest.approx(3 / 4)  # opposite: nothing is left
    assert weight([3.0, 0.0], [-1.0, 0.0]) == pytest.approx(1 / 4)
    assert weight([1.0, 0.0], [5.0, 1.0]) == 0.5
    assert weight([1.0, 0.0], [0.0, 9.0]) == 0.5
    assert weight([0.0, 0.0], [0.0, 1.0]) == 0.5  # a loss that says nothing does not stop it
    assert weight([0.0, 0.0], [0.0, 0.0]) == 0.5
    # the shortest combination serves both losses alike
    joint, own = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([-1.0, 0.0, 3.0])
    w = weight(joint.tolist(), own.tolist())
    mixed = w * joint + (1 - w) * own
    assert float(mixed @ joint) == pytest.approx(float(mixed @ own))
    assert float(mixed @ joint) > 0


def test_enlargement_by_hand():
    total = torch.tensor([3.0, 4.0])
    assert float(enlargement(total, torch.tensor([0.0, 2.0]))) == 2.5
    assert float(enlargement(total, torch.tensor([0.0, 10.0]))) == 1.0
    assert float(enlargement(total, torch.zeros(2))) == 1.0  # and zero stays zero, not NaN


def test_modality_that_nobody_in_the_batch_has():
    spec = toy_spec(3, complete=False)
    batches = toy_batches(spec, count=2)
    for batch in batches:
        batch["present"][:, 1] = False
    module = module_of(spec, (1, 1, 1))
    before = copy.deepcopy(module)
    fit(module, batches)
    moved = {
        name
        for (name, p), q in zip(module.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert not any(n.startswith(("encoders.b.", "method.heads.each.1.")) for n in moved)
    assert any(n.startswith("encoders.a.") for n in moved)


def test_lone_modality_is_answered_by_its_head():
    spec = toy_spec(2)
    module = module_of(spec, (-1, -1)).eval()
    features = module.encode(toy_batches(spec, count=1)[0])
    coalitions_SM = torch.tensor([[True, False], [True, True]])
    logits_SBC = module.method.logits(module, features, coalitions_SM)
    torch.testing.assert_close(logits_SBC[0], module.method.heads.each[0](features.rows[0]))
    torch.testing.assert_close(logits_SBC[1], module.fuse(features, coalitions_SM)[1])


def test_heads_survive_a_checkpoint_and_epoch_sums_start_anew():
    module = module_of(toy_spec(2), (1, -1))
    fit(module, toy_batches(toy_spec(2)), epochs=2)
    assert float(module.method.batches) == 4  # of the last epoch alone
    other = MmPareto("ab", dim=DIM, classes=CLASSES)
    other.load_state_dict(module.method.state_dict())
    for a, b in zip(module.method.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert other.describe() == {}


def test_learns_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=8), rate=0.3)
    module = toy_module(spec, method=MmPareto, fusion=Concat)
    fit(module, batches, batches, epochs=4)
    assert float(module.report.full) > 1.5 / CLASSES
    assert set(module.train_losses) == {"joint", "heads"}


def test_wrong_option_is_named():
    make = partial(MmPareto, "ab", dim=DIM, classes=CLASSES)
    for gamma in (-1.0, float("nan")):
        with pytest.raises(MmeqError, match=r"method\.gamma"):
            make(gamma=gamma)
