"""Tuning watched: norms, spikes, interference and drift against plain torch; nothing disturbed."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shared import module_of
from torch import nn
from torch.nn import functional as F
from toy import ToyData, fit, toy_batches, toy_module, toy_spec

from mmeq.callbacks.dynamics import (
    body,
    drift,
    final,
    first_weights,
    mean_change,
    norms_entry,
    spikes,
)
from mmeq.callbacks.plot_tuning import plot_tuning
from mmeq.callbacks.tuning import TuningDynamics, load_norms, steps_of
from mmeq.encoders.lora import adapt
from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley


class Data(ToyData):
    """The toy batches, with the count of samples that the callback draws by."""

    def __init__(self, train, validation):
        super().__init__(train, validation)
        size = sum(len(batch["label"]) for batch in validation)
        self.manifest = SimpleNamespace(rows=lambda split: torch.arange(size))


class Lines(lightning.Callback):
    """The entries of the epochs, as the record would have them."""

    def __init__(self):
        self.entries = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.entries.append(pl_module.epoch_findings["tuning"])


def watch(module, tmp_path, epochs=1, count=4, **options):
    """Train with the callback; return the entries of the epochs."""
    lines = Lines()
    watching = TuningDynamics(tmp_path, **{"every": 1, **options})
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        callbacks=[watching, lines],
    )  # fmt: skip
    batches = toy_batches(module.spec, count=count)
    trainer.fit(module, datamodule=Data(batches, toy_batches(module.spec, count=2, seed=5)))
    return lines.entries


@given(
    st.lists(st.floats(0.01, 100), max_size=40),
    st.floats(1, 5),
    st.integers(1, 12),
)
@settings(deadline=None)
def test_a_spike_is_above_the_median_of_the_steps_before_it(norms, factor, window):
    found = spikes(np.asarray(norms), factor, window)
    for t, norm in enumerate(norms):
        before = sorted(norms[max(0, t - window) : t])
        if t < min(5, window):
            assert not found[t]
            continue
        middle = len(before) // 2
        median = before[middle] if len(before) % 2 else (before[middle - 1] + before[middle]) / 2
        assert found[t] == (norm > factor * median)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_no_number_is_a_spike(bad):
    assert spikes(np.asarray([1.0] * 6 + [bad, 1.0]), 3.0, 50).tolist() == [False] * 6 + [
        True,
        False,
    ]


def test_an_epoch_is_judged_by_the_end_of_the_one_before():
    early, late = np.ones(8), np.asarray([4.0, 1.0])
    assert norms_entry(late, early, 3.0, 50)["spikes"] == 1
    assert norms_entry(late, None, 3.0, 50) == {
        "median": 2.5, "max": 4.0, "spikes": 0, "steps": 2,
    }  # fmt: skip


@pytest.mark.parametrize("clip", [None, 0.01])
def test_norms_are_those_of_the_gradients_before_clipping(tmp_path, clip):
    ours = toy_module(toy_spec(2), method=Joint, fusion=Concat, clip_norm=clip)
    plain = copy.deepcopy(ours)
    watch(ours, tmp_path, count=1)
    (batch,) = toy_batches(ours.spec, count=1)
    plain.train()
    logits = plain.fusion(plain.encode(batch).rows, plain.method.coalitions_SM, (plain.order,))
    F.cross_entropy(logits[0], batch["label"]).backward()
    norms = load_norms(tmp_path / "tuning" / "epoch-0000.npz")
    parts = {"encoder/a": plain.encoders["a"], "encoder/b": plain.encoders["b"]}
    for name, part in (parts | {"fusion": plain.fusion}).items():
        squares = [float(p.grad.square().sum()) for p in part.parameters() if p.grad is not None]
        np.testing.assert_allclose(norms[name], [math.sqrt(sum(squares))], rtol=1e-5)


def own_losses(module, batches):
    """Mean losses of each modality alone and of all, in evaluation mode, written out."""
    module = copy.deepcopy(module).eval()
    names = list(module.spec.names)
    sets = torch.tensor([[k == m for k in range(len(names))] for m in range(len(names))])
    sets = torch.cat([sets, torch.ones(1, len(names), dtype=torch.bool)])
    totals = []
    with torch.no_grad():
        for batch in batches:
            rows = [module.encoders[name](batch["inputs"][name]) for name in names]
            logits = module.strategy.answer(module.fusion, rows, sets, None, None)
            totals.append([float(F.cross_entropy(one, batch["label"])) for one in logits])
    return np.mean(totals, axis=0)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", [Joint, partial(Shapley, order="fixed", supervise="final")])
def test_interference_is_what_a_step_does_to_the_losses(tmp_path, method, shared):
    ours = module_of(method) if shared else toy_module(toy_spec(2), method=method, fusion=Concat)
    validation = toy_batches(ours.spec, count=2, seed=5)
    changes, update = [], ours.update

    def kept_update(*args, **kwargs):
        before = own_losses(ours, validation)
        update(*args, **kwargs)
        changes.append(own_losses(ours, validation) - before)

    ours.update = kept_update
    (entry,) = watch(ours, tmp_path, count=1)
    stepped = ["a+b"] if method is Joint else ["a", "b"]
    assert list(entry["interference"]) == stepped
    assert len(changes) == len(stepped)
    for name, change in zip(stepped, changes, strict=True):
        found = entry["interference"][name]
        assert found["steps"] == 1
        np.testing.assert_allclose([found["a"], found["b"], found["a+b"]], change, atol=1e-6)
    assert np.abs(changes).max() > 1e-3


def test_every_so_many_batches_are_measured_and_the_first(tmp_path):
    module = toy_module(toy_spec(2), method=Joint, fusion=Concat)
    entries = watch(module, tmp_path, epochs=2, count=5, every=2)
    assert [entry["interference"]["a+b"]["steps"] for entry in entries] == [3, 3]
    assert [entry["norms"]["fusion"]["steps"] for entry in entries] == [5, 5]


def test_watching_changes_nothing_that_is_trained(tmp_path):
    spec = toy_spec(3)
    plain, watched = (toy_module(spec, dropout=0.3) for _ in range(2))
    batches, validation = toy_batches(spec), toy_batches(spec, count=2, seed=5)
    fit(plain, batches, validation, epochs=3)
    watch(watched, tmp_path, epochs=3)
    for one, two in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert one == two if isinstance(one, dict) else torch.equal(one, two)
    assert plain.report.phi.tolist() == watched.report.phi.tolist()


def test_drift_is_the_way_from_the_first_weights(tmp_path):
    module = toy_module(toy_spec(2), method=Joint, fusion=Concat)
    first = copy.deepcopy(module.encoders)
    *_, entry = watch(module, tmp_path, epochs=2)
    for name in module.spec.names:
        was, now = (
            torch.cat([p.detach().flatten() for p in part[name].body.parameters()])
            for part in (first, module.encoders)
        )
        assert entry["drift"][name] == pytest.approx(float((now - was).norm() / was.norm()))


def test_drift_counts_what_adapters_add():
    pytest.importorskip("peft")
    torch.manual_seed(0)
    part = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    whole = torch.cat([p.detach().flatten() for p in part.parameters()])
    adapt(part, rank=2, alpha=6.0)
    first, norm = first_weights(part)
    assert first == {}
    assert norm == pytest.approx(float(whole.norm()))
    assert drift(part, first, norm) == 0.0
    with torch.no_grad():
        for key, parameter in part.named_parameters():
            if "lora_B" in key:
                parameter.normal_()
    merged = [
        3.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        for layer in (part[0], part[2])
    ]
    size = math.sqrt(sum(float(one.detach().square().sum()) for one in merged))
    assert drift(part, first, norm) == pytest.approx(size / float(whole.norm()))


def test_a_frozen_body_does_not_drift():
    encoder = SimpleNamespace(body=nn.Linear(3, 2).requires_grad_(False))
    part = body(encoder)
    assert drift(part, *first_weights(part)) == 0.0


def test_a_shared_group_is_nobodys_own():
    names = ("image", "text", "audio")

    def groups(*given):
        return [{"name": name} for name in given]

    assert steps_of(groups("encoder/text", "encoder/image+text", "fusion"), names) == "text"
    assert steps_of(groups("encoder/text", "encoder/image", "method"), names) == "image+text"
    assert steps_of(groups("encoder/image+text"), names) == "image+text"
    assert steps_of(groups("fusion", "method"), names) == "fusion"


def lines(tuning, values):
    return [
        {"epoch": e, "tuning": t, "values": {"a": {"accuracy": v}}}
        for e, (t, v) in enumerate(zip(tuning, values, strict=True))
    ]


def test_a_run_is_summed_up_over_its_epochs():
    entries = [
        {
            "norms": {"encoder/a": {"median": 1.0, "max": 2.0, "spikes": k, "steps": 10}},
            "interference": {"a": {"a": float(k), "steps": k + 1}},
            "drift": {"a": 0.1 * k},
        }
        for k in range(3)
    ]
    found = final([{"epoch": 9, "values": {}}, *lines(entries, [0.5, 0.9, 0.6])])
    assert found["norms"] == {"encoder/a": {"spikes": 3, "steps": 30}}
    assert found["interference"]["a"] == {
        "a": pytest.approx((0 * 1 + 1 * 2 + 2 * 3) / 6),
        "steps": 6,
    }
    assert found["drift"] == {"a": 0.2}
    assert found["forgetting"] == {"a": pytest.approx(0.3)}
    assert mean_change([{"a": 1.0, "steps": 1}]) == {"a": 1.0, "steps": 1}
    gaps = [{"a": None, "b": None, "steps": 3}, {"a": 2.0, "b": None, "steps": 1}]
    assert mean_change(gaps) == {"a": 2.0, "b": None, "steps": 4}


@pytest.mark.parametrize("option", ["every", "samples", "spike", "window"])
@pytest.mark.parametrize("value", [0, math.nan])
def test_numbers_out_of_range_are_refused(option, value, tmp_path):
    with pytest.raises(MmeqError, match=f"callbacks.tuning.{option}={value}: give 1 or more"):
        TuningDynamics(tmp_path, **{option: value})


def test_the_figure_shows_what_was_measured():
    entry = {
        "norms": {},
        "interference": {
            "a": {"a": -0.001, "b": 0.0025, "a+b": 0.0, "steps": 2},
            "b": {"a": 0.001, "b": None, "a+b": 0.0, "steps": 2},
        },
        "drift": {"a": 0.1, "b": 0.0},
    }
    history = [
        {"epoch": e, "tuning": entry, "values": {m: {"accuracy": 0.5} for m in "ab"}}
        for e in range(2)
    ]
    norms = [{"encoder/a": np.asarray([1.0] * 9 + [9.0])}, {"encoder/a": np.ones(4)}]
    figure = plot_tuning(history, norms, 3.0, 50)
    norm, table, *curves = figure.axes[:4]
    crosses = [line for line in norm.lines if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in crosses] == [[0.95]]
    assert {"2.50", "n/a"} <= {text.get_text() for text in table.texts}
    assert {text.get_text() for text in curves[0].get_legend().get_texts()} == {"a", "b"}


def test_nothing_measured_is_said_and_drawn():
    entry = {"norms": {}, "interference": {}, "drift": {"a": 0.0}}
    figure = plot_tuning(lines([entry], [0.5]), [{}], 3.0, 50)
    assert "no step was measured" in figure.axes[1].texts[0].get_text()
