"""Gradient blending: a step, and the weights of whole runs, against references by hand."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, DIM, fit, toy_batches, toy_module, toy_spec

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.gblend import GBlend

ZERO_CONCAT = partial(Concat, absence="zero")


def method_of(names="ab", **options):
    return GBlend(names, dim=DIM, classes=CLASSES, **options)


def module_of(modalities, complete=True, fusion=ZERO_CONCAT, **options):
    spec = toy_spec(modalities, complete)
    return spec, toy_module(spec, method=partial(GBlend, **options), fusion=fusion)


def gaps(batches, rate, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > rate
    return batches


def losses(spec, encoders, heads, fusion, batch, answering=False):
    """Each head's loss over the samples that have its modality, then the joint one; and counts.

    Answering, a sample that has one modality alone gets that one's head as the joint answer.
    """
    rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
    label, present = batch["label"], batch["present"]
    found, counts = [], []
    for m, h in enumerate(rows):
        have = present[:, m]
        each = F.cross_entropy(heads.each[m](h)[have], label[have], reduction="sum")
        found.append(each / max(1, int(have.sum())))
        counts.append(int(have.sum()))
    every = torch.ones(1, len(rows), dtype=torch.bool)
    fused = fusion(rows, every, None, None if spec.complete else present)[0]
    if answering:
        for i, have in enumerate(present):
            if have.sum() == 1:
                m = int(have.int().argmax())
                fused[i] = heads.each[m](rows[m][i])
    return torch.stack([*found, F.cross_entropy(fused, label)]), torch.tensor([*counts, len(label)])


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("weights", [(0.2, 0.5, 0.3), (0.1, 0.0, 0.3, 0.6)])
def test_training_equals_plain_pytorch(weights, complete):
    spec, module = module_of(len(weights) - 1, complete)
    module.method.weight_K.copy_(torch.tensor(weights))
    batches = toy_batches(spec, count=2)
    if not complete:
        batches = gaps(batches, 0.3)
        batches[1]["present"][:, 0] = False  # nobody has it
    copies = [copy.deepcopy(part) for part in (module.encoders, module.method.heads, module.fusion)]
    fit(module, batches)

    reference = torch.optim.SGD([p for part in copies for p in part.parameters()], lr=0.1)
    for batch in batches:
        reference.zero_grad()
        loss_K, _ = losses(spec, *copies, batch)
        sum(w * loss for w, loss in zip(weights, loss_K, strict=True)).backward()
        reference.step()
    for ours, theirs in zip(
        (module.encoders, module.method.heads, module.fusion), copies, strict=True
    ):
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


class Book(ShapleyScheduler):
    """Keeps V and T of each epoch, T by hand, and the weights that the method set."""

    def __init__(self, spec, validation):
        super().__init__()
        self.spec, self.validation = spec, validation
        self.valid, self.train, self.weights = [], [], []
        self.parts = []

    @torch.no_grad()
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        loss_K, count_K = losses(
            self.spec, module.encoders, module.method.heads, module.fusion, batch
        )
        self.parts.append((loss_K.double() * count_K, count_K))

    @torch.no_grad()
    def on_validation_end(self, trainer, module):
        super().on_validation_end(trainer, module)
        module.eval()
        parts = (module.encoders, module.method.heads, module.fusion)
        each = [losses(self.spec, *parts, batch, answering=True) for batch in self.validation]
        for kept, parts in (
            (self.valid, [(loss.double() * n, n) for loss, n in each]),
            (self.train, self.parts),
        ):
            sums, counts = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
            kept.append(sums / counts)
        self.parts = []
        self.weights.append(module.method.weight_K.clone())


@pytest.mark.parametrize(("modalities", "complete"), [(2, True), (3, True), (2, False), (3, False)])
def test_weights_of_a_run_follow_gain_over_squared_overfitting(modalities, complete):
    """Seven epochs, super-epochs of three, odd batches: from V and T measured by hand."""
    floor, even = 0.02, 0.2
    spec, module = module_of(modalities, complete, super_epoch=3, floor=floor, even=even)
    train = [*toy_batches(spec, count=4), *toy_batches(spec, batch=7, count=1, seed=5)]
    validation = toy_batches(spec, batch=40, count=2, seed=3)
    for number, batch in enumerate(validation):
        batch["index"] = torch.arange(40) + 40 * number
    if not complete:  # validation lacks less than training does
        train, validation = gaps(train, 0.5), gaps(validation, 0.2, seed=2)
    book = Book(spec, validation)
    fit(module, train, validation, epochs=7, callbacks=[book])

    equal = torch.full((modalities + 1,), 1 / (modalities + 1))
    now, start = equal, 0
    for epoch in range(7):
        if epoch in (2, 5):
            gain = book.valid[start] - book.valid[epoch]
            gap = [book.valid[e] - book.train[e] for e in (start, epoch)]
            worth = gain.clamp(min=0) / (gap[1] - gap[0]).abs().clamp(min=floor) ** 2
            now = even * equal + (1 - even) * worth / worth.sum()
            start = epoch
        torch.testing.assert_close(book.weights[epoch], now.float(), atol=1e-4, rtol=1e-3)
    assert not torch.equal(book.weights[1], book.weights[2])
    assert not torch.equal(book.weights[4], book.weights[5])
    assert float(now.sum()) == pytest.approx(1)
    assert set(module.train_losses) == {"joint", *(f"head/{n}" for n in spec.names)}


def test_training_losses_are_the_mean_over_ranks(monkeypatch):
    """The other rank's sums and counts come in once an epoch, after the last batch."""
    spec, module = module_of(2, complete=False)
    other = torch.tensor([[30.0, 5.0, 44.0], [20.0, 4.0, 33.0]])
    monkeypatch.setattr(module, "mean", lambda value: (value + other) / 2)
    batches = gaps(toy_batches(spec, count=3), 0.3)
    book = Book(spec, [])
    fit(module, batches, epochs=2, callbacks=[book])
    sums, counts = (torch.stack(column[3:]).sum(0) for column in zip(*book.parts, strict=True))
    expected = (torch.stack([sums, counts]) + other) / 2
    torch.testing.assert_close(module.method.tally_2K, expected.float(), atol=1e-4, rtol=1e-5)


def seen(method, epoch, valid, train):
    """Give an epoch's training means and a report of its validation."""
    count = len(method.modalities)
    nll = torch.full((2**count,), 9.0, dtype=torch.float64)
    for m in range(count):
        nll[2**m] = valid[m]
    nll[-1] = valid[-1]
    method.tally_2K.copy_(torch.stack([10 * torch.tensor(train), torch.full((count + 1,), 10.0)]))
    report = SimpleNamespace(
        values={"nll": nll}, alone_in=lambda metric: {"nll": nll}[metric][2 ** torch.arange(count)]
    )
    method.on_report(report, epoch)


def test_known_numbers_and_the_schedule():
    method = method_of("abc", super_epoch=2, floor=1e-6, even=0.0)
    seen(method, 0, [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0])
    assert method.weight_K.tolist() == [0.25] * 4
    # G = .4 .2 .1 .4; T falls by .6 .4 .2 .6, so O = .2 .2 .1 .2 and G/O² = 10 5 10 10
    seen(method, 1, [0.6, 0.8, 0.9, 0.6], [0.4, 0.6, 0.8, 0.4])
    expected = [10 / 35, 5 / 35, 10 / 35, 10 / 35]
    assert method.weight_K.tolist() == pytest.approx(expected, rel=1e-5)
    assert method.describe()["weights"] == pytest.approx(
        dict(zip(["a", "b", "c", "joint"], expected, strict=True)), rel=1e-5
    )
    seen(method, 2, [0.1, 0.1, 0.1, 0.1], [0.3, 0.3, 0.3, 0.3])  # within a super-epoch
    assert method.weight_K.tolist() == pytest.approx(expected, rel=1e-5)
    # against the end of the last one: G = .1 .1 .1 .1, T falls by .2 .3 .2 .2, O = .1 .2 .1 .1
    seen(method, 3, [0.5, 0.7, 0.8, 0.5], [0.2, 0.3, 0.6, 0.2])
    assert method.weight_K.tolist() == pytest.approx([4 / 13, 1 / 13, 4 / 13, 4 / 13], rel=1e-5)


def test_guards():
    """A head that got worse counts for nothing, no growth of the gap does not divide by 0."""
    method = method_of(super_epoch=1, floor=0.1, even=0.3)
    seen(method, 0, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    # a: worse; b: G = .1 without overfitting (O = 0 → 0.1); joint: G = .3, gap shrank by .1
    seen(method, 1, [1.2, 0.9, 0.7], [0.5, 0.9, 0.8])
    worth = [0.0, 0.1 / 0.01, 0.3 / 0.01]
    expected = [0.1 + 0.7 * w / 40 for w in worth]
    assert method.weight_K.tolist() == pytest.approx(expected, rel=1e-4)
    seen(method, 2, [1.3, 1.0, 0.8], [0.1, 0.1, 0.1])  # all of them worse
    assert method.weight_K.tolist() == pytest.approx(expected, rel=1e-4)
    seen(method, 3, [float("nan"), 0.5, 0.5], [0.1, 0.1, 0.1])
    assert method.weight_K.tolist() == pytest.approx(expected, rel=1e-4)


def test_state_survives_a_checkpoint():
    method, other = (method_of(super_epoch=2) for _ in range(2))
    series = [
        ([1.0, 1.1, 0.9], [1.0, 1.0, 0.9]),
        ([0.8, 1.0, 0.6], [0.5, 0.7, 0.3]),
        ([0.7, 0.8, 0.6], [0.4, 0.6, 0.2]),
        ([0.6, 0.7, 0.5], [0.3, 0.2, 0.2]),
    ]
    for epoch, (valid, train) in enumerate(series[:3]):
        seen(method, epoch, valid, train)
    method.share = [0.5, 0.8]
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert torch.equal(other.weight_K, method.weight_K)
    assert other.weight_K.unique().numel() == 3
    before = other.weight_K.clone()
    for one in (method, other):
        seen(one, 3, *series[3])
    assert torch.equal(other.weight_K, method.weight_K)
    assert not torch.equal(other.weight_K, before)
    assert "tally_2K" not in method.state_dict()


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    def run(epochs, path=None):
        spec, module = module_of(2, complete=False, fusion=Memory, super_epoch=2)
        train = gaps(toy_batches(spec), 0.3)
        trainer = fit(module, train, train, epochs=0)
        trainer.fit_loop.max_epochs = epochs
        trainer.callbacks.append(ShapleyScheduler())
        trainer.fit(module, datamodule=trainer.datamodule, ckpt_path=path)
        return module, trainer

    whole, _ = run(5)
    _, trainer = run(3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = run(5, tmp_path / "last.ckpt")
    assert resumed.method.share == whole.method.share
    assert max(whole.method.share) < 1
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("option", "value"),
    [("super_epoch", 0), ("floor", 0.0), ("even", -0.1), ("even", 1.1), ("even", float("nan"))],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=rf"method\.{option}"):
        method_of(**{option: value})


def test_classes_are_learnt_with_gaps_under_an_ordered_fusion():
    spec, module = module_of(3, complete=False, fusion=Memory, super_epoch=2)
    batches = gaps(toy_batches(spec, count=8), 0.3)
    fit(module, batches, batches, epochs=5, callbacks=[ShapleyScheduler()])
    assert float(module.report.full) > 1.5 / CLASSES
    assert all(torch.isfinite(p).all() for p in module.parameters())
