"""The loop: update(), accumulation, clipping, evaluation of coalitions, losses."""

import copy
from functools import partial

import pytest
import torch
from toy import fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.losses import LossMeter
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley
from mmeq.methods.unimodal import Unimodal


def test_accumulated_batches_equal_one_large_batch():
    spec = toy_spec(2)
    batches = toy_batches(spec, count=4)
    large = [
        {
            "inputs": {n: torch.cat([x["inputs"][n], y["inputs"][n]]) for n in spec.names},
            **{k: torch.cat([x[k], y[k]]) for k in ("present", "label", "index")},
            "id": x["id"] + y["id"],
        }
        for x, y in (batches[:2], batches[2:])
    ]
    concat = partial(Concat, absence="zero")
    one = toy_module(spec, method=Joint, fusion=concat)
    two = toy_module(spec, method=Joint, fusion=concat, accumulate=2)
    fit(one, large)
    fit(two, batches)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_accumulation_keeps_the_steps_of_modalities_apart():
    """With alternation each modality's step averages its own gradients, not its neighbours'."""
    spec = toy_spec(2)
    batches = toy_batches(spec, count=1) * 2
    module, plain = toy_module(spec, accumulate=2), toy_module(spec)
    # the same batch twice averages to the same gradient, so the first modality moves as in one
    # plain step; the second one's first gradient is from before the fusion moved
    fit(module, batches)
    fit(plain, batches[:1])
    for name, value in plain.encoders["a"].state_dict().items():
        torch.testing.assert_close(module.encoders["a"].state_dict()[name], value)


def test_last_window_of_an_epoch_steps_with_what_there_is():
    spec = toy_spec(2)
    module = toy_module(spec, accumulate=3)
    before = copy.deepcopy(module.state_dict())
    fit(module, toy_batches(spec, count=1))
    assert not torch.equal(
        before["fusion.readout_memory.weight"], module.fusion.readout_memory.weight
    )


def test_clipping_bounds_the_step():
    spec = toy_spec(2)
    module = toy_module(spec, method=Joint, clip_norm=1e-3)
    before = [p.detach().clone() for p in module.parameters()]
    fit(module, toy_batches(spec, count=1))
    step = torch.cat([(p - b).flatten() for p, b in zip(module.parameters(), before, strict=True)])
    assert float(step.norm()) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_unimodal_moves_one_encoder_and_sees_one_modality():
    spec = toy_spec(3)
    module = toy_module(spec, method=partial(Unimodal, modality="b"))
    before = copy.deepcopy(module.encoders.state_dict())
    batches = toy_batches(spec)
    fit(module, batches, batches, epochs=2)
    moved = {
        n.split(".")[0]
        for n, v in module.encoders.state_dict().items()
        if not torch.equal(v, before[n])
    }
    assert moved == {"b"}
    values = module.report.values["accuracy"]
    assert values[0b001] == values[0b101] == values[0b100] == values[0]
    assert torch.all(values[torch.tensor([0b010, 0b011, 0b110])] == values[0b111])
    with pytest.raises(MmeqError, match="did you mean 'b'"):
        Unimodal(("a", "b"), modality="bb")


def test_report_holds_the_axioms_and_is_logged():
    spec = toy_spec(3)
    module = toy_module(spec)
    batches = toy_batches(spec)
    trainer = fit(module, batches, batches, epochs=3)
    report = module.report
    values = report.values["accuracy"]
    assert float(report.phi.sum()) == pytest.approx(float(values[-1] - values[0]))
    assert float(trainer.callback_metrics["val/accuracy"]) == pytest.approx(float(values[-1]))
    assert set(module.train_losses) == {"step/a", "step/b", "step/c"}
    assert module.first_bad is None


def test_too_few_modalities_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1))


def test_first_bad_loss_is_the_first_in_time():
    meter = LossMeter()
    meter.add({"step/a": torch.tensor(1.0), "step/b": torch.tensor(2.0)}, 4)
    meter.add({"step/a": torch.tensor(3.0), "step/b": torch.tensor(float("nan"))}, 4)
    meter.add({"step/a": torch.tensor(float("nan")), "step/b": torch.tensor(float("inf"))}, 4)
    means, bad = meter.summary()
    assert bad == ("step/b", 1)
    assert means["step/b"] != means["step/b"]
    meter.reset()
    meter.add({"step/a": torch.tensor(1.0)}, 1)
    meter.add({"step/a": torch.tensor(4.0)}, 3)
    assert meter.summary() == ({"step/a": pytest.approx(3.25)}, None)


@pytest.mark.parametrize("training", [True, False])
def test_absence_input_stands_for_what_the_encoder_makes_of_zeros(training):
    spec = toy_spec(2)
    module = toy_module(spec, fusion=partial(Concat, absence="input"), dropout=0.5)
    batch = toy_batches(spec, count=1)[0]
    module.train(training)
    torch.manual_seed(3)
    features = module.encode(batch)
    alone = module.fuse(features, torch.tensor([[True, False]]))[0]
    with torch.no_grad():
        zero = module.encoders.eval()["b"](torch.zeros(1, 5)).expand(16, -1)
    both = torch.cat([features.rows[0], zero], 1)
    weight = module.fusion.weight_MCD.permute(1, 0, 2).reshape(3, -1)
    torch.testing.assert_close(alone, both @ weight.T + module.fusion.bias_C)


def test_batch_in_which_nobody_has_what_a_step_is_about():
    """Under modality dropout a small batch may lack a modality; its step then teaches nothing."""
    spec = toy_spec(2, complete=False)
    batches = toy_batches(spec, batch=4, count=2)
    for batch in batches:
        batch["present"][:, 0] = False
    module = toy_module(spec, method=partial(Shapley, supervise="sequential"))
    before = copy.deepcopy(module.encoders["a"].state_dict())
    fit(module, batches)
    for name, value in before.items():
        assert torch.equal(module.encoders["a"].state_dict()[name], value)
    assert all(torch.isfinite(p).all() for p in module.parameters())
