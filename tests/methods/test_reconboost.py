"""ReconBoost: its phases against plain PyTorch, what each leaves alone, its schedule."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.game.coalitions import all_coalitions
from mmeq.methods.reconboost import ReconBoost

Made = partial(ReconBoost, dim=DIM, classes=CLASSES)


def toy(spec, optimizer=None, **options):
    extra = {} if optimizer is None else {"optimizer": optimizer}
    return toy_module(spec, method=partial(ReconBoost, **options), fusion=Concat, **extra)


def with_gaps(batches, names, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        present = torch.rand(len(batch["label"]), len(names), generator=generator) > 0.4
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(names):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


def reference_loss(own, present, label, k, before, others, rectify, first):
    """The two losses, one sample after the other; w1 = 5, w2 = 1, consolidation 0.5."""
    count = len(own)
    losses, apart = [], []
    for b in range(len(label)):
        y = label[b]
        if rectify:
            has = [m for m in range(count) if (m == k or m in others) and present[b, m]]
            if has:
                losses.append(-sum(own[m][b] for m in has).log_softmax(0)[y])
            continue
        if not present[b, k]:
            continue
        log_p = own[k][b].log_softmax(0)
        frozen = sum((own[m][b].detach() for m in others if present[b, m]), torch.zeros(CLASSES))
        losses.append(-(5.0 - frozen.softmax(0)[y]) * log_p[y])
        if not first and present[b, before]:
            apart.append(((log_p.exp() - own[before][b].detach().softmax(0)) ** 2).mean())
    loss = torch.stack(losses).mean()
    return loss + 0.5 * torch.stack(apart).mean() if apart else loss


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_a_round_and_more_equals_plain_pytorch(count, complete):
    """Stages of one epoch a phase; the second round has all learners from its start."""
    spec = toy_spec(count, complete)
    module = toy(spec, alternation=1, rectification=1)
    batches = toy_batches(spec, count=2)
    if not complete:
        with_gaps(batches, spec.names)
    encoders, heads = copy.deepcopy(module.encoders), copy.deepcopy(module.method.heads.each)
    epochs = 2 * count + 2
    fit(module, batches, epochs=epochs)

    for epoch in range(epochs):
        stage, rectify = epoch // 2, epoch % 2 == 1
        k = stage if stage < count else stage - count
        before = k - 1 if k > 0 else count - 1
        others = [m for m in range(count) if m != k and (stage >= count or m < k)]
        for batch in batches:
            own = [
                heads[m](encoders[name](batch["inputs"][name])) for m, name in enumerate(spec.names)
            ]
            loss = reference_loss(
                own, batch["present"], batch["label"], k, before, others, rectify, stage == 0
            )
            trained = [k, *others] if rectify else [k]
            parameters = [
                p
                for m in trained
                for p in (*encoders[spec.names[m]].parameters(), *heads[m].parameters())
            ]
            grads = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, grad in zip(parameters, grads, strict=True):
                    parameter -= 0.1 * grad
    for ours, theirs in ((module.encoders, encoders), (module.method.heads.each, heads)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def facts(module):
    """Weights and moments by learner."""
    optimizer = module.trainer.optimizers[0]
    return {
        name: [
            (p.detach().clone(), copy.deepcopy(optimizer.state.get(p, {})))
            for p in (
                *module.encoders[name].parameters(),
                *module.method.heads.each[m].parameters(),
            )
        ]
        for m, name in enumerate(module.spec.names)
    }


def test_a_phase_moves_its_learners_alone_moments_included(monkeypatch):
    spec = toy_spec(3)
    adam = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    module = toy(spec, adam, alternation=1, rectification=1)
    fusion = [p.detach().clone() for p in module.fusion.parameters()]
    update, seen = module.update, []

    def spy(*given, **named):
        before = facts(module)
        update(*given, **named)
        after = facts(module)
        seen.append(
            "".join(
                name
                for name in before
                if any(
                    not torch.equal(p, q) or str(s) != str(t)
                    for (p, s), (q, t) in zip(before[name], after[name], strict=True)
                )
            )
        )

    monkeypatch.setattr(module, "update", spy)
    fit(module, toy_batches(spec, count=1), epochs=8)
    assert seen == ["a", "a", "b", "ab", "c", "abc", "a", "abc"]
    for a, b in zip(module.fusion.parameters(), fusion, strict=True):
        assert torch.equal(a, b)


def test_consolidation_has_a_gradient():
    """By itself it pulls the predictions of one modality to those of the one before."""
    spec = toy_spec(2)
    batches = toy_batches(spec, count=1)
    sgd = partial(torch.optim.SGD, lr=1.0)
    module = toy(spec, sgd, alternation=8, rectification=0, agreement=0.0, reconcilement=0.0)

    def distance():
        with torch.no_grad():
            features = module.eval().encode(batches[0])
            p, before = module.method.heads(features.rows).softmax(-1).flip(0)
        return float(((p - before) ** 2).mean())

    module.method.consolidation = 1.0
    start = distance()
    fit(module, batches, epochs=16)  # nothing moves in stage 0, which has only agreement
    assert distance() < 0.7 * start


def test_what_the_others_know_counts_less():
    """Sure and right others: the step is weighted by w1 - w2; without others by w1 - w2/C."""
    spec = toy_spec(2)
    batch = toy_batches(spec, count=1)[0]
    batch["label"] = torch.zeros_like(batch["label"])
    losses = {}
    for stage in (0, 1):
        module = toy(spec, agreement=2.0, reconcilement=2.0, consolidation=0.0)
        with torch.no_grad():
            module.method.heads.each[0].bias[0] = 50.0
        module.update = lambda *given, **named: None
        module.method.stage = stage
        out = module.method.train_batch(module, batch)
        own = module.method.heads(module.encode(batch).rows)[stage].log_softmax(-1)
        losses[stage] = float(out[f"step/{spec.names[stage]}"])
        ce = float(-own[:, 0].detach().mean())
        expected = 0.0 if stage == 1 else 2.0 * (1 - 1 / CLASSES) * ce
        assert losses[stage] == pytest.approx(expected, abs=1e-5)


def test_schedule_is_a_function_of_the_epoch():
    made = Made("abc", alternation=2, rectification=1)
    seen = []
    for epoch in range(12):
        fresh = Made("abc", alternation=2, rectification=1)
        for method in (made, fresh):
            method.on_epoch_start(SimpleNamespace(epoch=epoch, epochs=12))
        assert made.describe() == fresh.describe()
        assert torch.equal(made.learners_M, fresh.learners_M)
        facts = made.describe()
        seen.append((facts["modality"] + facts["phase"][0], int(made.learners_M.sum())))
    turns = [f"{name}{phase}" for name in "abca" for phase in "aar"]
    assert seen == list(zip(turns, [1] * 3 + [2] * 3 + [3] * 6, strict=True))


def test_a_run_too_short_for_a_round_is_refused():
    method = ReconBoost("abc", dim=DIM, classes=CLASSES, alternation=2, rectification=1)
    assert method.min_epochs() == 9  # the configuration refuses fewer, see test_mistakes


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_answers_are_sums_over_learners_of_each_sample_by_itself(count, complete):
    spec = toy_spec(count, complete)
    module = toy(spec, alternation=1, rectification=0).eval()
    batch = toy_batches(spec, count=1)[0]
    if not complete:
        with_gaps([batch], spec.names)
    coalitions = all_coalitions(count)
    for learners in range(count + 1):
        module.method.learners_M[:learners] = True
        with torch.no_grad():
            features = module.encode(batch)
            own = [head(h) for head, h in zip(module.method.heads.each, features.rows, strict=True)]
            found = module.method.logits(module, features, coalitions)
            for s, coalition in enumerate(coalitions.tolist()):
                for b in range(16):
                    has = [
                        own[m][b]
                        for m in range(learners)
                        if coalition[m] and bool(batch["present"][b, m])
                    ]
                    expected = sum(has) if has else module.log_prior
                    torch.testing.assert_close(found[s, b], expected, atol=1e-5, rtol=1e-5)
    one = type(features)(
        tuple(h[3:4] for h in features.rows),
        None if complete else features.present_BM[3:4],
    )
    alone = module.method.logits(module, one, coalitions)
    torch.testing.assert_close(alone[:, 0], found[:, 3], atol=1e-5, rtol=1e-5)


def test_gaps_are_learnt_and_a_modality_nobody_has_breaks_nothing():
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=8), spec.names)
    batches[0]["present"][:, 0] = False
    batches[0]["present"][:, 1] = True
    module = toy(spec, alternation=1, rectification=1)
    fit(module, batches, batches, epochs=6)
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert float(module.report.full) > 1.5 / CLASSES
    assert module.train_losses.keys() == {"joint"}


def test_state_survives_a_checkpoint():
    method = Made("abc")
    method.on_epoch_start(SimpleNamespace(epoch=9, epochs=24))
    other = Made("abc")
    other.load_state_dict(method.state_dict())
    assert other.learners_M.tolist() == [True, True, False]
    for a, b in zip(other.parameters(), method.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("alternation", 0),
        ("rectification", -1),
        ("agreement", -1.0),
        ("reconcilement", -0.5),
        ("reconcilement", 5.5),  # above agreement the loss has no lower bound
        ("consolidation", float("nan")),
    ],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=rf"method\.{option}"):
        Made("ab", **{option: value})
