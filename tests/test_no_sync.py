"""A training step never waits for the device: nothing in it reads on the host what a GPU holds.

Shown without a GPU, on real training: see `pretend`.
"""

from functools import partial
from types import SimpleNamespace

import lightning
import pytest
import torch
from e2e.equal import METHODS
from omegaconf import OmegaConf
from pretend import DEVICE, Pretended, strategy
from test_absent_rows import FORMS, Normed, batch_of, module_of
from toy import DIM, WIDTH, fit, toy_batches, toy_module, toy_spec

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.callbacks.tuning import TuningDynamics
from mmeq.config import conf_dir, groups
from mmeq.config.signatures import resolve
from mmeq.data.spec import Modality
from mmeq.encoders.sequence import SequenceEncoder
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley
from mmeq.module import MultimodalModule

ADAM = partial(torch.optim.AdamW, lr=0.01)
HAS_TO = {
    "greedy": (
        "tolist at mmeq/methods/greedy.py",
        "which encoders the next step runs and moves is decided by what this one has measured",
    ),
}
"""Method → (what waits in its steps, why nothing else would do)."""
FUSIONS = {
    **{name: [] for name in ("attention", "concat", "film", "gated", "late", "memory", "sum")},
    "memory, feature and sample": ["fusion.align=both", "fusion.inherit=true"],
    "memory, sample": ["fusion.align=sample"],
    "memory alone": ["fusion.align=none", "fusion.readout=memory", "fusion.cell=lstm"],
    **{f"gated, {a}": [f"fusion.absence={a}"] for a in ("token", "input", "zero")},
    **{f"concat, {a}": [f"fusion.absence={a}"] for a in ("token", "input", "zero")},
}
"""Fusion → options; the name before the comma is that of the file."""
STEPS = {
    "final": (["method.supervise=final", "method.alternate=epoch"], {}),
    "sequential": (["method.supervise=sequential"], {"clip_norm": 0.5}),
    "prefixes": (["method.supervise=prefixes"], {"accumulate": 2}),
    "refresh": (["method.refresh=true"], {"inference": "sampled"}),
}
"""Kinds of step of the default method → options, and those of the module."""
COPIES = {
    "mmeq/fusions/tree.py": "plans: once a kind of step, then kept",
    "mmeq/methods/steps.py": "plans: once a kind of step, then kept",
}
"""Files that copy to the device such that the host waits, and what; others may not."""
DATA = pytest.mark.parametrize("gaps", [False, True], ids=["complete", "gaps"])


def made(group, name, options=()):
    """What a file of ``conf`` describes, as toys are made of it: a partial."""
    node = OmegaConf.load(conf_dir() / group / f"{name}.yaml")
    given = OmegaConf.from_dotlist([text.replace("m0", "a") for text in options])
    every = OmegaConf.to_container(OmegaConf.merge(node, given.get(group, {})))
    every.pop("defaults", None)
    return partial(resolve(every.pop("_target_")), **every)


def watched(monkeypatch, gaps, epochs=1, callbacks=(), **options):
    """What waits, is copied and mixed in the steps of a real training on the pretended device."""
    spec = toy_spec(3, complete=not gaps)
    module = toy_module(spec, optimizer=ADAM, wrap=Normed, **options)
    batches = toy_batches(spec, batch=8, count=2)
    if gaps:
        lacking = torch.zeros(2, 8, 3, dtype=torch.bool)
        lacking[0, :3, 0] = lacking[0, 5:, 1] = lacking[0, 2:4, 2] = True
        lacking[1, :, 0] = lacking[1, :7, 1] = True  # nobody has a, one has b
        for batch, lacks in zip(batches, lacking, strict=True):
            batch["present"] &= ~lacks
            for m, name in enumerate(spec.names):
                batch["inputs"][name][lacks[:, m]] = 0.0
    pretended, step, taken = Pretended(), MultimodalModule.training_step, []

    def watched_step(self, batch, batch_idx):
        assert self.device == DEVICE
        assert pretended.there(batch["label"])
        assert all(map(pretended.there, [*self.parameters(), *self.buffers()]))
        taken.append(batch_idx)
        with pretended.step():
            step(self, batch, batch_idx)

    monkeypatch.setattr(MultimodalModule, "training_step", watched_step)
    with pretended:
        fit(
            module,
            batches,
            batches,
            epochs=epochs,
            callbacks=[ShapleyScheduler(), *callbacks],
            strategy=strategy(),
        )
    assert taken == [0, 1] * epochs
    return pretended


def check(found, has_to=frozenset()):
    """Nothing waits but what has to, which does: an entry that is not true any more has to go."""
    assert not found.mixed
    assert {place.rpartition(":")[0] for place in found.waits} == has_to
    copying = {place.rpartition(" at ")[2].partition(":")[0] for place in found.copies}
    assert copying <= COPIES.keys()


def test_all_there_is_is_watched():
    assert set(METHODS) == set(groups()["method"])
    assert {name.partition(",")[0].split()[0] for name in FUSIONS} == set(groups()["fusion"])
    assert set(HAS_TO) <= set(METHODS)


@DATA
@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_step_of_a_method_waits(monkeypatch, name, gaps):
    epochs = 6 if name == "reconboost" else 3
    method = made("method", name, METHODS[name])
    found = watched(monkeypatch, gaps, epochs, method=method, fusion=Concat)
    check(found, {HAS_TO[name][0]} if name in HAS_TO else set())


@DATA
@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("method", [Shapley, Joint])
def test_no_step_of_a_fusion_waits(monkeypatch, method, name, gaps):
    fusion = made("fusion", name.partition(",")[0].split()[0], FUSIONS[name])
    found = watched(monkeypatch, gaps, method=method, fusion=fusion)
    check(found)


@DATA
@pytest.mark.parametrize("kind", STEPS)
def test_no_kind_of_step_waits(monkeypatch, kind, gaps):
    options, given = STEPS[kind]
    method = made("method", "shapley", options)
    found = watched(monkeypatch, gaps, 2, method=method, fusion=Memory, **given)
    check(found)


ENCODERS = {
    **{name: form for name, form in FORMS.items() if name != "strings"},
    "dilated": (
        lambda: SequenceEncoder(Modality("m", "sequence", (5, WIDTH)), DIM, 6),
        FORMS["sequence"][1],
    ),
}


@DATA
@pytest.mark.parametrize("name", ENCODERS)
def test_no_encoder_waits(name, gaps):
    """Neither with a graph nor, as others are encoded, in eval mode without."""
    build, inputs = ENCODERS[name]
    module = module_of(build(), complete=not gaps)
    with Pretended() as pretended:
        module.to(DEVICE)
        batch = module.transfer_batch_to_device(batch_of(inputs()), DEVICE, 0)
        with pretended.step():
            features = module.encode(batch)
            features.rows[0].sum().backward()
            module.reencode(batch, features, 0)
    check(pretended)


class Counted(lightning.Callback):
    """The toy data, with the count of samples that `TuningDynamics` draws by."""

    def setup(self, trainer, pl_module, stage):
        trainer.datamodule.manifest = SimpleNamespace(rows=lambda split: torch.arange(16))


@DATA
@pytest.mark.parametrize("name", ["joint", "shapley", "mses"])
def test_no_step_waits_that_tuning_is_watched_in(monkeypatch, tmp_path, name, gaps):
    callbacks = [Counted(), TuningDynamics(tmp_path, every=1)]
    method = made("method", name, METHODS[name])
    found = watched(monkeypatch, gaps, callbacks=callbacks, method=method, fusion=Concat)
    check(found)


class Planted(Joint):
    """Joint training with something beside it in its steps."""

    plant = None

    def train_batch(self, loop, batch):
        features = loop.encode(batch)
        loss = loop.loss(loop.fuse(features, self.coalitions_SM), batch["label"])[0]
        self.plant(loop, batch, features, loss)
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss.detach()}


PLANTS = {
    "item": lambda loop, batch, features, loss: loss.item(),
    "float": lambda loop, batch, features, loss: float(loss),
    "if": lambda loop, batch, features, loss: 1 if loss > 0 else 0,
    "tolist": lambda loop, batch, features, loss: batch["label"].tolist(),
    "numpy": lambda loop, batch, features, loss: loss.detach().numpy(),
    "cpu": lambda loop, batch, features, loss: features.rows[0].cpu(),
    "to": lambda loop, batch, features, loss: loss.to("cpu"),
    "copy": lambda loop, batch, features, loss: torch.zeros(()).copy_(loss.detach()),
    "mask": lambda loop, batch, features, loss: features.rows[0][batch["label"] > 0],
    "masked write": lambda loop, batch, features, loss: torch.zeros_like(
        batch["label"]
    ).__setitem__(batch["label"] > 0, batch["label"][:1]),
    "masked fill": lambda loop, batch, features, loss: features.rows[0].masked_fill(
        batch["label"][:, None] > 0, loss
    ),
    "nonzero": lambda loop, batch, features, loss: batch["label"].nonzero(),
    "where": lambda loop, batch, features, loss: torch.where(batch["label"] > 0),
    "unique": lambda loop, batch, features, loss: torch.unique(batch["label"]),
    "rows": lambda loop, batch, features, loss: torch.unique(batch["inputs"]["a"], dim=0),
    "count": lambda loop, batch, features, loss: batch["label"].bincount(),
    "repeat": lambda loop, batch, features, loss: loss.repeat_interleave(batch["label"][:1]),
    "equal": lambda loop, batch, features, loss: torch.equal(loss, loss + 1),
    "close": lambda loop, batch, features, loss: torch.allclose(loss, loss + 1),
    "slice": lambda loop, batch, features, loss: features.rows[0][: batch["label"][0]],
    "one hot": lambda loop, batch, features, loss: torch.nn.functional.one_hot(batch["label"]),
    "host": lambda loop, batch, features, loss: float(loop.fusion.log_prior_C[0]),
    "moved": lambda loop, batch, features, loss: torch.ones(3).to(loss.device).sum().item(),
    "made": lambda loop, batch, features, loss: torch.ones(3, device=loss.device).tolist(),
    "backward": lambda loop, batch, features, loss: features.rows[0].register_hook(
        lambda gradient: gradient * float(gradient.sum())
    ),
}
FREE = {
    "structure": lambda loop, batch, features, loss: float(torch.ones(3).sum()),
    "where": lambda loop, batch, features, loss: torch.where(loss > 0, loss, 0.0),
    "masked fill": lambda loop, batch, features, loss: features.rows[0].masked_fill(
        batch["label"][:, None] > 0, 0.0
    ),
    "index": lambda loop, batch, features, loss: features.rows[0][batch["label"]],
    "one hot": lambda loop, batch, features, loss: torch.nn.functional.one_hot(batch["label"], 3),
    "shape": lambda loop, batch, features, loss: len(features.rows[0]) + loss.dim(),
}


@pytest.mark.parametrize("name", PLANTS)
def test_what_waits_is_found_with_its_place(monkeypatch, name):
    monkeypatch.setattr(Planted, "plant", staticmethod(PLANTS[name]))
    found = watched(monkeypatch, False, method=Planted, fusion=Concat)
    assert found.waits
    assert min(found.waits.values()) >= 2  # in each batch
    assert all(" at tests/test_no_sync.py:" in place for place in found.waits)


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_not_found(monkeypatch, name):
    monkeypatch.setattr(Planted, "plant", staticmethod(FREE[name]))
    assert not watched(monkeypatch, False, method=Planted, fusion=Concat).waits


def test_mixing_sides_and_waiting_copies_are_found(monkeypatch):
    def plant(loop, batch, features, loss):
        torch.ones(8) + batch["label"]
        torch.ones(8).to(loss.device)
        torch.ones(8).to(loss.device, non_blocking=True)

    monkeypatch.setattr(Planted, "plant", staticmethod(plant))
    found = watched(monkeypatch, False, method=Planted, fusion=Concat)
    assert list(found.mixed.values()) == [2]
    assert [place.partition(" at tests")[0] for place in found.copies if "tests" in place] == [
        "to of (8,)"
    ]
