"""What the loop offers to methods: edits, rates, gradients, sweeps, means, an early end."""

import copy
from functools import partial

import pytest
import torch
from toy import SGD, fit, toy_batches, toy_module, toy_spec

from mmeq.fusions.concat import Concat
from mmeq.fusions.gated import Gated
from mmeq.fusions.memory import Memory
from mmeq.methods.base import Method, coalition_rows, own_loss, own_mean, there


class Probing(Method):
    """Joint training that calls what it is given with each batch."""

    def __init__(self, modalities, seed=0, act=None, **options):
        super().__init__(modalities, seed)
        self.act, self.options, self.seen = act, options, []
        self.all_1M = coalition_rows([range(len(self.modalities))], len(self.modalities))

    def train_batch(self, loop, batch):
        features = loop.encode(batch)
        loss = loop.loss(loop.fuse(features, self.all_1M), batch["label"])[0]
        self.seen.append((loop.epoch, loop.epochs, loop.batch, loop.batches))
        if self.act is not None:
            self.options = self.act(loop, batch, features, loss)
        loop.update(loss, range(len(self.modalities)), **self.options)
        return {"joint": loss.detach()}


def probing(spec, act=None, optimizer=SGD, fusion=Concat, **options):
    return toy_module(
        spec, method=partial(Probing, act=act, **options), optimizer=optimizer, fusion=fusion
    )


def moved(module, before):
    return {
        name: (value - before[name]).clone()
        for name, value in module.encoders.state_dict().items()
        if value.is_floating_point()
    }


def test_an_edit_sees_the_gradient_and_decides_the_step():
    spec = toy_spec(2)
    found = {}

    def act(loop, batch, features, loss):
        def edit():
            for m in range(2):
                for parameter in loop.encoder(m).parameters():
                    found[m] = found.get(m, 0.0) + float(parameter.grad.abs().sum())
                    parameter.grad.mul_(0.0 if m == 0 else 2.0)

        return {"edit": edit}

    plain, edited = probing(spec), probing(spec, act)
    before = copy.deepcopy(plain.encoders.state_dict())
    batches = toy_batches(spec, count=1)
    fit(plain, batches)
    fit(edited, batches)
    assert found[0] > 0
    assert found[1] > 0
    one, two = moved(plain, before), moved(edited, before)
    for name in one:
        if name.startswith("a."):
            assert not two[name].any()
        else:
            torch.testing.assert_close(two[name], 2 * one[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("optimizer", [SGD, partial(torch.optim.AdamW, lr=0.01)])
def test_rates_scale_the_steps_of_named_encoders_and_no_schedule(optimizer):
    spec = toy_spec(2)
    plain, scaled = probing(spec, optimizer=optimizer), probing(spec, None, optimizer)
    scaled.method.options = {"rates": {1: 0.5}}
    before = copy.deepcopy(plain.encoders.state_dict())
    batches = toy_batches(spec, count=1)
    fit(plain, batches)
    trainer = fit(scaled, batches)
    one, two = moved(plain, before), moved(scaled, before)
    for name in one:
        factor = 0.5 if name.startswith("b.") else 1.0
        torch.testing.assert_close(two[name], factor * one[name], atol=1e-7, rtol=1e-4)
    assert len({group["lr"] for group in trainer.optimizers[0].param_groups}) == 1


def test_gradients_are_those_of_autograd_and_leave_grad_alone():
    spec = toy_spec(3)
    found = []

    def act(loop, batch, features, loss):
        loss_M = own_loss(loop.alone(features), batch["label"], features)
        before = [p.grad.clone() for p in loop.encoder(0).parameters() if p.grad is not None]
        found.append(loop.gradients(loss_M.sum(), [0, 2]))
        after = [p.grad for p in loop.encoder(0).parameters() if p.grad is not None]
        assert all(map(torch.equal, before, after))
        assert len(before) == len(after)
        for m in (0, 2):
            parameters = list(loop.encoder(m).parameters())
            for ours, theirs in zip(
                found[-1][m],
                torch.autograd.grad(loss_M[m], parameters, retain_graph=True),
                strict=True,
            ):
                torch.testing.assert_close(ours, theirs)
        return {}

    fit(probing(spec, act), toy_batches(spec, count=2))
    assert len(found) == 2
    assert set(found[0]) == {0, 2}


def test_gradients_of_frozen_encoders_are_none_at_all():
    spec = toy_spec(2)

    def act(loop, batch, features, loss):
        for m in range(2):
            loop.encoder(m).requires_grad_(False)
        assert loop.gradients(loss, [0, 1]) == {0: [], 1: []}
        return {}

    fit(probing(spec, act), toy_batches(spec, count=1))


def test_a_sweep_changes_nothing_and_sees_what_the_encoders_give_now():
    spec = toy_spec(2)
    batches = toy_batches(spec, count=3)
    rows = []

    class Sweeping(Probing):
        def on_epoch_start(self, loop):
            modes = [part.training for part in loop.modules()]
            for batch, features in loop.sweep():
                assert torch.is_grad_enabled()  # the consumer's own work is not touched
                assert not loop.training
                rows.append(features.rows[0])
                assert features.rows[0].grad_fn is None
                with torch.no_grad():
                    expected = loop.encoder(0)(batch["inputs"]["a"])
                torch.testing.assert_close(features.rows[0], expected)
            assert modes == [part.training for part in loop.modules()]
            next(loop.sweep("validation", share=0.1))  # one that is broken off
            for _ in loop.sweep("validation", share=0.1):
                pass

    module = toy_module(spec, method=Sweeping, fusion=Concat, dropout=0.5)
    means = module.fusion.moments.mean_MD.clone()
    fit(module, batches, batches[:1], epochs=1)
    assert len(rows) == 3
    assert not torch.equal(module.fusion.moments.mean_MD, means)  # the training moved them
    assert module.method.seen == [(0, 1, k, 3) for k in range(3)]


def test_a_method_that_is_finished_ends_the_run():
    spec = toy_spec(2)

    class Short(Probing):
        def on_epoch_start(self, loop):
            self.finished = loop.epoch == 1

    module = toy_module(spec, method=Short, fusion=Concat)
    trainer = fit(module, toy_batches(spec, count=1), epochs=5)
    assert trainer.current_epoch == 2
    other = Short("ab")
    other.load_state_dict(module.method.state_dict())
    assert other.finished


def test_accumulated_calls_that_differ_by_batch_are_averaged_by_their_own_number():
    """Of three batches the middle one makes another call: its gradient is not mixed in."""
    spec = toy_spec(2)
    batches = toy_batches(spec, count=3)

    class Uneven(Probing):
        def train_batch(self, loop, batch):
            chosen = [1] if loop.batch == 1 else [0]
            loss = loop.loss(loop.alone(loop.encode(batch))[chosen], batch["label"])[0]
            loop.update(loss, chosen)
            return {"joint": loss.detach()}

    module = toy_module(spec, method=Uneven, fusion=partial(Concat, absence="zero"), accumulate=3)
    reference = copy.deepcopy(module)
    fit(module, batches)
    encoder, total = reference.encoders["a"].train(), 0.0
    for batch in (batches[0], batches[2]):
        rows = (encoder(batch["inputs"]["a"]), torch.zeros(16, 8))
        own = reference.fusion.terms(rows)[0]
        total = total + torch.nn.functional.cross_entropy(own, batch["label"]) / 2
    grads = torch.autograd.grad(total, list(encoder.parameters()))
    for parameter, grad, now in zip(
        encoder.parameters(), grads, module.encoders["a"].parameters(), strict=True
    ):
        torch.testing.assert_close(now, parameter - 0.1 * grad, atol=1e-6, rtol=1e-5)


def test_a_loss_that_says_nothing_moves_no_fusion_that_is_not_used():
    spec = toy_spec(2)

    class Own(Probing):
        uses_fusion = False

        def __init__(self, modalities, seed=0):
            super().__init__(modalities, seed)
            self.head = torch.nn.Linear(3, 3)

        def train_batch(self, loop, batch):
            loss = torch.zeros(())
            loop.update(loss, [0])
            return {"joint": loss}

    optimizer = partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5)
    module = toy_module(spec, method=Own, optimizer=optimizer, fusion=Concat)
    weight = module.fusion.weight_MCD.clone()
    fit(module, toy_batches(spec, count=1))
    assert torch.equal(module.fusion.weight_MCD, weight)


@pytest.mark.parametrize("fusion", [Concat, Gated, Memory])
def test_own_logits_add_up_where_the_fusion_adds_and_are_the_coalition_elsewhere(fusion):
    spec = toy_spec(3, complete=False)
    module = toy_module(spec, fusion=fusion).eval()
    batch = toy_batches(spec, count=1)[0]
    batch["present"][:4, 1] = False
    with torch.no_grad():
        features = module.encode(batch)
        own_MBC = module.alone(features)
        fused_BC = module.fuse(features, torch.ones(1, 3, dtype=torch.bool))[0]
        single_MBC = module.fuse(features, torch.eye(3, dtype=torch.bool))
    prior_BC = module.log_prior.expand(4, -1)
    torch.testing.assert_close(own_MBC[1, :4], prior_BC)
    if fusion is Concat:
        torch.testing.assert_close(own_MBC.sum(0)[4:], fused_BC[4:], atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(own_MBC, single_MBC)


def test_who_has_what_and_means_over_them():
    spec = toy_spec(2, complete=False)
    module = toy_module(spec, fusion=Concat).eval()
    batch = toy_batches(spec, batch=4, count=1)[0]
    batch["present"] = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 0]]).bool()
    features = module.encode(batch)
    both_1M = torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(there(features, both_1M)[0], batch["present"])
    assert not there(features, torch.tensor([[False, True]]))[0, :, 0].any()
    value_MB = torch.tensor([[1.0, 2.0, 100.0, 6.0], [4.0, 100.0, 8.0, 100.0]])
    assert own_mean(value_MB, features).tolist() == [3.0, 6.0]
    batch["present"][:, 1] = False
    assert own_mean(value_MB, module.encode(batch)).tolist()[1] == 0.0


def test_options_outside_their_range_are_named():
    method = Probing("ab")
    method.check(rate=(0.5, 0, 1))
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"method\.rate=.*: give 0 to 1"):
            method.check(rate=(value, 0, 1))
    with pytest.raises(ValueError, match=r"method\.epochs=0: give 1 or more"):
        method.check(epochs=(0, 1, float("inf")))


def test_draws_depend_on_seed_epoch_and_batch_alone():
    spec = toy_spec(2)
    drawn = []

    def act(loop, batch, features, loss):
        drawn.append(float(torch.rand((), generator=loop.method.draws(loop))))
        return {}

    for _ in range(2):
        fit(probing(spec, act), toy_batches(spec, count=3), epochs=2)
    assert drawn[:6] == drawn[6:]
    assert len(set(drawn)) == 6
