"""Samples that lack a modality change no other sample's features, gradients or statistics."""

import copy
from functools import partial

import pytest
import torch
from e2e.test_methods import METHODS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from timm.layers import BatchNormAct2d, EvoNorm2dB0
from torch import nn
from toy import CLASSES, DIM, WIDTH, fit, toy_batches, toy_module, toy_spec

from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.config import conf_dir
from mmeq.config.signatures import resolve
from mmeq.data.spec import Modality
from mmeq.encoders.present import PresentRows
from mmeq.encoders.resnet import AudioResNet, PictureResNet
from mmeq.encoders.transformer import SequenceTransformer, TextTransformer
from mmeq.fusions.concat import Concat
from mmeq.fusions.memory import Memory
from mmeq.methods.joint import Joint

B = 6
HAVE = torch.tensor([True, False, True, True, False, True])
ADAM = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5)


def dense(norm=nn.BatchNorm1d):
    return nn.Sequential(nn.Linear(WIDTH, DIM), norm(DIM), nn.Linear(DIM, DIM))


class Normed(nn.Module):
    """An encoder of anything, and a batch norm over what it gives."""

    def __init__(self, body):
        super().__init__()
        self.body, self.norm = body, nn.BatchNorm1d(DIM)

    def forward(self, inputs):
        return self.norm(self.body(inputs))


class Kept(nn.Module):
    """A head over kept features; or lengths of texts, which come as strings."""

    def __init__(self, texts=False):
        super().__init__()
        self.texts, self.head = texts, dense()

    def forward(self, inputs):
        if self.texts:
            lengths = [[len(text), *map(ord, text.ljust(WIDTH - 1))] for text in inputs]
            return self.head(torch.tensor(lengths, dtype=torch.float32))
        return self.head(inputs["features"])


def integers(*shape, high=256, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(1, high, shape, generator=generator).to(dtype)


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


SOUND, CLIP = Modality("m", "audio", (16, 70)), Modality("m", "video", (2, 3, 40, 40))
FORMS = {
    "vector": (dense, lambda: numbers(B, WIDTH)),
    "sound": (lambda: AudioResNet(SOUND, DIM), lambda: numbers(B, 16, 70)),
    "frames": (lambda: PictureResNet(CLIP, DIM), lambda: integers(B, 2, 3, 40, 40)),
    "text": (
        lambda: Normed(
            TextTransformer(Modality("m", "text", ()), DIM, 64, width=8, heads=2, dropout=0.0)
        ),
        lambda: {
            "ids": integers(B, 4, 3, high=64, dtype=torch.int64),
            "mask": torch.arange(4) < integers(B, 1, high=5),
        },
    ),
    "sequence": (
        lambda: Normed(
            SequenceTransformer(Modality("m", "sequence", (5, WIDTH)), DIM, 8, heads=2, dropout=0)
        ),
        lambda: {"values": numbers(B, 5, WIDTH), "length": integers(B, high=6, dtype=torch.int64)},
    ),
    "kept features": (Kept, lambda: {"features": numbers(B, WIDTH)}),
    "strings": (partial(Kept, texts=True), lambda: ["one", "fish", "two", "bird", "b", "cats"]),
}


def taken(inputs, rows):
    """These rows of inputs of any form."""
    if isinstance(inputs, dict):
        return {key: value[rows] for key, value in inputs.items()}
    return inputs[rows] if torch.is_tensor(inputs) else [inputs[row] for row in rows]


def module_of(encoder, complete=False, **options):
    """Two modalities; the first has this encoder."""
    module = toy_module(toy_spec(2, complete), **{"method": Joint, **options})
    module.encoders["a"] = encoder
    return module


def batch_of(inputs, have=HAVE):
    present = torch.stack([have, torch.ones_like(have)], 1)
    return {"inputs": {"a": inputs, "b": numbers(len(have), WIDTH)}, "present": present}


def made(build):
    torch.manual_seed(2)
    return build()


@pytest.mark.parametrize("graph", ["encode", "reencode"])
@pytest.mark.parametrize("form", FORMS)
def test_present_rows_are_encoded_as_a_batch_of_their_own(form, graph):
    """Features, running statistics and gradients; absent rows are zeros."""
    build, inputs = FORMS[form]
    encoder = made(build)
    alone, batch = copy.deepcopy(encoder), batch_of(inputs())
    module = module_of(encoder)
    kept = HAVE.nonzero().flatten()
    if graph == "encode":
        rows = module.encode(batch).rows[0]
    else:
        features = module.encode(batch, [1])
        rows = module.reencode(batch, features, 0, graph=True).rows[0]
    expected = alone(taken(batch["inputs"]["a"], kept.tolist()))
    torch.testing.assert_close(rows[kept], expected, rtol=0, atol=0)
    assert not rows[~HAVE].any()
    pull = numbers(B, DIM)
    (rows * pull).sum().backward()
    (expected * pull[kept]).sum().backward()
    for ours, theirs in zip(encoder.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    buffers = dict(alone.named_buffers())
    assert any(key.endswith("running_var") for key in buffers)
    for key, value in encoder.named_buffers():
        torch.testing.assert_close(value, buffers[key], rtol=0, atol=0, msg=key)
    assert encoder.training


@settings(max_examples=30, deadline=None)
@example([True] + [False] * 8)
@example([False] * 9)
@given(st.lists(st.booleans(), min_size=2, max_size=9))
def test_whatever_stands_in_absent_rows_changes_nothing(have):
    """NaN even, which one product would spread to the whole batch; any number of rows."""
    have = torch.tensor(have)
    found = []
    for filler in (0.0, float("nan")):
        encoder = made(dense)
        inputs = numbers(len(have), WIDTH)
        if not have.all():
            inputs[~have] = filler
        rows = module_of(encoder).encode(batch_of(inputs, have)).rows[0]
        grads = [torch.zeros(())] * 6
        if have.any():
            grads = torch.autograd.grad(rows.square().sum(), list(encoder.parameters()))
        found.append([rows.detach(), *encoder.state_dict().values(), *grads])
    for one, other in zip(*found, strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


def refuse(module, args):
    raise AssertionError("the encoder was run")


def test_where_nobody_has_it_the_encoder_is_not_run():
    encoder = made(dense)
    before = copy.deepcopy(encoder.state_dict())
    module = module_of(encoder)
    encoder.register_forward_pre_hook(refuse)
    rows = module.encode(batch_of(numbers(B, WIDTH), torch.zeros(B, dtype=torch.bool))).rows[0]
    assert rows.shape == (B, DIM)
    assert not rows.any()
    assert not rows.requires_grad
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key])


def test_where_nobody_has_it_no_weight_moves():
    """Neither by weight decay nor by old moments: the gradient is none, not zero."""
    spec = toy_spec(2, complete=False)
    module = module_of(made(dense), optimizer=ADAM)
    batches = toy_batches(spec, count=3)
    batches[0]["present"][:8, 0] = False
    for batch in batches[1:]:
        batch["present"][:, 0] = False
    first = module_of(made(dense), optimizer=ADAM)
    fit(first, batches[:1])
    fit(module, batches)
    for part, other in ((module.encoders["a"], first.encoders["a"]),):
        for key, value in part.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
    assert not torch.equal(module.encoders["b"].body[0].weight, first.encoders["b"].body[0].weight)


def test_one_value_a_channel_is_normalised_by_running_statistics():
    """It has no deviation of its own, and PyTorch refuses it; gradients flow all the same."""
    encoder = made(dense)
    for _ in range(3):
        encoder(3 + 2 * numbers(B, WIDTH))
    before, alone = copy.deepcopy(encoder.state_dict()), copy.deepcopy(encoder).eval()
    have = torch.arange(B) == 4
    batch = batch_of(numbers(B, WIDTH), have)
    rows = module_of(encoder).encode(batch).rows[0]
    torch.testing.assert_close(rows[have], alone(batch["inputs"]["a"][have]))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key])
    rows.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in encoder[0].parameters())
    assert all(part.training and not part._forward_pre_hooks for part in encoder.modules())


def test_one_picture_has_statistics_of_its_own_where_it_has_places():
    """The first norm sees all pixels, the second one place alone."""
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    second.running_mean += 2.0
    encoder = nn.Sequential(
        first, nn.AdaptiveAvgPool2d(1), second, nn.Flatten(), nn.ConstantPad1d((0, DIM - 3), 0.0)
    )
    x, have = numbers(B, 3, 4, 4), torch.arange(B) == 2
    rows = module_of(encoder).encode(batch_of(x, have)).rows[0]
    torch.testing.assert_close(first.running_mean, 0.1 * x[2].mean((1, 2)))
    torch.testing.assert_close(first.running_var, 0.9 + 0.1 * x[2].var((1, 2)))
    assert torch.equal(second.running_mean, torch.full((3,), 2.0))
    expected = torch.full((3,), -2 / (1 + second.eps) ** 0.5)  # of a mean that is zero
    torch.testing.assert_close(rows[2, :3], expected, atol=1e-6, rtol=0)


class Seen(nn.Module):
    """Keeps the inputs that it was given."""

    def __init__(self, body):
        super().__init__()
        self.body, self.inputs = body, []

    def forward(self, inputs):
        self.inputs.append(inputs)
        return self.body(inputs)


NONE_LACKS = torch.ones(B, dtype=torch.bool)
UNTOUCHED = {
    "complete data": (dense, True, HAVE, True),
    "nobody lacks it": (dense, False, NONE_LACKS, True),
    "no batch norm": (partial(dense, nn.LayerNorm), False, HAVE, True),
    "instance norm by itself": (partial(dense, nn.InstanceNorm1d), False, HAVE, True),
    "evaluation": (dense, False, HAVE, False),
    "synchronised": (partial(dense, nn.SyncBatchNorm), False, HAVE, True),
}


@pytest.mark.parametrize("case", UNTOUCHED)
def test_the_batch_comes_as_it_is(case):
    """The very same object: nothing is copied or computed beside it."""
    build, complete, have, training = UNTOUCHED[case]
    encoder = Seen(made(build))
    module = module_of(encoder, complete).train(training)
    batch = batch_of(numbers(B, WIDTH), have)
    expected = copy.deepcopy(encoder.body)(batch["inputs"]["a"])
    rows = module.encode(batch).rows[0]
    assert encoder.inputs[0] is batch["inputs"]["a"]
    assert torch.equal(rows, expected)


def test_other_modalities_are_encoded_quietly_as_they_come():
    """Without graph they are in eval mode, where no row depends on another."""
    encoder = Seen(made(dense))
    batch = batch_of(numbers(B, WIDTH))
    module_of(encoder).encode(batch, [1])
    assert encoder.inputs[0] is batch["inputs"]["a"]


@pytest.mark.parametrize(
    ("build", "training", "apart"),
    [
        (partial(nn.BatchNorm2d, 3), True, True),
        (partial(nn.BatchNorm2d, 3), False, False),
        (partial(nn.BatchNorm2d, 3, track_running_stats=False), False, True),
        (partial(nn.InstanceNorm2d, 3, track_running_stats=True), True, True),
        (partial(nn.InstanceNorm2d, 3, track_running_stats=True), False, False),
        (partial(BatchNormAct2d, 3), True, True),
        (partial(EvoNorm2dB0, 3), True, True),
        (partial(nn.GroupNorm, 1, 3), True, False),
    ],
)
def test_who_has_batch_statistics(build, training, apart):
    """Found by what a part is and keeps; one in eval mode, as a frozen one, has none."""
    encoder = Seen(nn.Sequential(made(build).train(training), nn.Flatten()))
    PresentRows().encode(encoder, numbers(B, 3, 2, 2), HAVE, 12)
    assert len(encoder.inputs[0]) == (int(HAVE.sum()) if apart else B)


class Walked(nn.Sequential):
    """Counts how often somebody goes through its parts."""

    walks = 0

    def modules(self):
        self.walks += 1
        return super().modules()


def test_an_encoder_is_looked_through_once_and_anew_when_parts_may_have_changed():
    spec = toy_spec(2, complete=False)
    batch = toy_batches(spec, count=1)[0]
    batch["present"][::2, 0] = False
    encoder = Walked(*made(partial(dense, nn.LayerNorm)))
    module = module_of(encoder)
    for _ in range(3):
        module.encode(batch)
    assert encoder.walks == 1
    encoder[1] = nn.BatchNorm1d(DIM)
    fit(module, [batch])
    assert encoder[1].num_batches_tracked == 1
    other = Seen(made(dense))
    module.encoders["a"] = other
    module.encode(batch)
    assert len(other.inputs[0]) == 8


@pytest.mark.parametrize("have", [HAVE, torch.arange(B) == 2, torch.zeros(B, dtype=torch.bool)])
@pytest.mark.parametrize("fusion", [Memory, partial(Concat, absence="mean")])
def test_bfloat16(fusion, have):
    """The other modality's features are bfloat16; the answer is one of all."""
    encoder = made(dense)
    alone = copy.deepcopy(encoder)
    module = module_of(encoder, fusion=fusion)
    batch = batch_of(numbers(B, WIDTH), have)
    with torch.autocast("cpu", torch.bfloat16):
        features = module.encode(batch)
        logits = module.fuse(features, torch.tensor([[True, True]]))
        if have.sum() > 1:
            expected = alone(batch["inputs"]["a"][have])
            assert features.rows[0].dtype == expected.dtype == torch.bfloat16
            assert torch.equal(features.rows[0][have], expected)
    logits.float().sum().backward()
    assert logits.isfinite().all()
    moved = [p.grad is not None for p in encoder.parameters()]
    assert all(moved) if have.any() else not any(moved)
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("absence", ["input", "mean", "zero", "token"])
def test_what_a_fusion_puts_in_place_of_the_absent(absence):
    """Its encoder's answer to zeros by running statistics; nothing of the zeros in the rows."""
    encoder = made(dense)
    module = module_of(encoder, fusion=partial(Concat, absence=absence))
    batch = batch_of(numbers(B, WIDTH))
    logits = module.fuse(module.encode(batch), torch.tensor([[True, True]]))[0]
    features = module.encode(batch)
    garbled = features.with_rows(
        [torch.where(HAVE[:, None], features.rows[0], torch.tensor(7.0)), features.rows[1]]
    )
    again = module.fuse(features, torch.tensor([[True, True]]))[0]
    torch.testing.assert_close(again, module.fuse(garbled, torch.tensor([[True, True]]))[0])
    assert logits.isfinite().all()
    if absence == "input":
        with torch.no_grad():
            zero = copy.deepcopy(encoder).eval()(torch.zeros(1, WIDTH)).expand(B, -1)
        own = torch.where(HAVE[:, None], features.rows[0], zero)
        weight = module.fusion.weight_MCD.permute(1, 0, 2).reshape(CLASSES, -1)
        both = torch.cat([own, features.rows[1]], 1)
        torch.testing.assert_close(again, both @ weight.T + module.fusion.bias_C)


GAPS = [(0, 0), (3, 2), (7, 1), (8, 0), (0, 8), (1, 7)]
"""How many samples of a batch lack the first modality, and how many the second."""


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_trains_where_batches_lack_a_modality(name):
    """Some, all but one and all samples do; with batch norms. Nothing becomes NaN."""
    node = OmegaConf.load(conf_dir() / "method" / f"{name}.yaml")
    given = OmegaConf.from_dotlist([text.replace("m0", "a") for text in METHODS[name]])
    options = OmegaConf.to_container(OmegaConf.merge(node, given.get("method", {})))
    options.pop("defaults", None)
    method = partial(resolve(options.pop("_target_")), **options)
    spec = toy_spec(2, complete=False)
    module = toy_module(spec, method=method, optimizer=ADAM, wrap=Normed)
    batches = toy_batches(spec, batch=8, count=6)
    for batch, (first, second) in zip(batches, GAPS, strict=True):
        batch["present"][:first, 0] = batch["present"][8 - second :, 1] = False
        for m, name in enumerate(spec.names):
            batch["inputs"][name][~batch["present"][:, m]] = 0.0
    before = copy.deepcopy(module.encoders.state_dict())
    fit(module, batches, batches, epochs=6, callbacks=[ShapleyScheduler()])
    after = {k: v for k, v in module.state_dict().items() if torch.is_tensor(v)}
    assert all(value.isfinite().all() for value in after.values())
    moved = [key for key, value in before.items() if not value.equal(after[f"encoders.{key}"])]
    assert {"a.norm.weight", "a.norm.running_var"} <= set(moved)
    assert module.first_bad is None
