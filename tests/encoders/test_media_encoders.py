"""Encoders of sound and clips: they learn, take any size, and see no batch mates."""

import pytest
import torch
from torch.nn import functional as F

from mmeq.data.spec import Modality
from mmeq.encoders.audio import AudioEncoder
from mmeq.encoders.video import VideoEncoder
from mmeq.errors import MmeqError

D = 8


def make(kind, count=64, seed=0):
    """An encoder, inputs of two classes, labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=generator)
    torch.manual_seed(0)
    if kind == "spectrogram":  # a tone at one of two pitches
        x = torch.randn(count, 32, 40, generator=generator)
        x[label == 0, 6:8] += 2
        x[label == 1, 22:24] += 2
        return AudioEncoder(Modality("m", "audio", (32, 40)), D, 8, 3), 5 * x - 30, label
    if kind == "waveform":
        hertz = torch.where(label == 0, 300.0, 900.0)[:, None]
        phase = 6.28 * torch.rand(count, 1, generator=generator)
        x = torch.sin(6.2832 * hertz * torch.arange(4000) / 8000 + phase)
        x = 0.1 * x + 0.03 * torch.randn(count, 4000, generator=generator)
        return AudioEncoder(Modality("m", "audio", (4000,)), D, 8, 2), x, label
    channels = 2 if kind == "flow" else 3
    x = torch.randint(256, (count, 3, channels, 32, 32), generator=generator, dtype=torch.uint8)
    x[label == 1, 1, 0, :, ::2] = 255  # stripes in the second frame alone
    return VideoEncoder(Modality("m", "video", (3, channels, 32, 32)), D, 8, 3), x, label


KINDS = ["spectrogram", "waveform", "video", "flow"]


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_ends_in_the_common_width(kind):
    encoder, x, label = make(kind)
    head = torch.nn.Linear(D, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        features = encoder(x)
        assert features.shape == (len(label), D)
        F.cross_entropy(head(features), label).backward()
        optimizer.step()
    assert all(p.grad is not None for p in encoder.parameters())
    encoder.eval()
    _, new, wanted = make(kind, seed=1)
    assert (head(encoder(new)).argmax(1) == wanted).float().mean() > 0.85


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_independent_of_batch_mates(kind, training):
    encoder, x, _ = make(kind, count=5)
    encoder.train(training)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    together = encoder(x)
    alone = torch.cat([encoder(one[None]) for one in x])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder(x)
    assert all(torch.equal(state[key], value) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_absent_samples_have_finite_features_and_gradients(kind):
    encoder, x, _ = make(kind, count=4)
    x[1] = 0
    features = encoder(x)
    assert torch.isfinite(features).all()
    features.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_runs_in_bfloat16(kind):
    encoder, x, _ = make(kind, count=4)
    encoder.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = encoder(x)
    assert lower.dtype == torch.bfloat16
    torch.testing.assert_close(lower.float(), encoder(x), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("shape", "encoder"),
    [
        ((257, 188), AudioEncoder),
        ((128, 1024), AudioEncoder),
        ((1, 1), AudioEncoder),
        ((48000,), AudioEncoder),
        ((304,), AudioEncoder),
        ((3, 3, 224, 224), VideoEncoder),
        ((1, 2, 7, 9), VideoEncoder),
    ],
)
def test_takes_any_size_with_its_defaults(shape, encoder):
    kind = "audio" if encoder is AudioEncoder else "video"
    x = torch.randint(256, (2, *shape), dtype=torch.uint8)
    built = encoder(Modality("m", kind, shape), D)
    features = built(x if kind == "video" else x.float())
    assert features.shape == (2, D)
    assert torch.isfinite(features).all()


def test_sound_is_judged_without_its_unit():
    encoder, x, _ = make("spectrogram", count=4)
    encoder.eval()
    torch.testing.assert_close(encoder(3 * x + 7), encoder(x), atol=1e-4, rtol=1e-4)


def test_pitch_tells_sounds_apart():
    encoder, _, _ = make("spectrogram")
    encoder.eval()
    x = torch.zeros(2, 32, 40)
    x[0, 8], x[1, 16] = 1, 1  # 8 bins apart: the same to convolutions and pooling
    low, high = encoder(x)
    assert (low - high).abs().max() > 0.01


def test_frames_count_in_any_order():
    encoder, x, _ = make("video", count=3)
    encoder.eval()
    torch.testing.assert_close(encoder(x[:, [2, 0, 1]]), encoder(x))
    one = VideoEncoder(Modality("m", "video", (1, 3, 32, 32)), D, 8, 3)
    one.load_state_dict(encoder.state_dict())
    one.eval()
    means = torch.stack([one(x[:, k : k + 1]) for k in range(3)]).mean(0)
    torch.testing.assert_close(encoder(x), means)


def test_augmentation_moves_all_frames_alike_and_only_in_training():
    encoder, _, _ = make("video")
    frame = torch.randint(256, (6, 1, 3, 32, 32), dtype=torch.uint8)
    x = frame.expand(6, 3, 3, 32, 32).contiguous()
    assert torch.equal(encoder.transform(x, False, torch.Generator()), x)
    first, again, other = (
        encoder.transform(x, True, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == x.shape
    assert torch.equal(first, first[:, :1].expand_as(first))
    assert not torch.equal(first[:, 0], frame[:, 0])


@pytest.mark.parametrize(
    ("modality", "augment"),
    [
        (Modality("m", "video", (3, 3, 32, 32), augmented=True), True),
        (Modality("m", "video", (3, 3, 32, 32)), False),
        (Modality("m", "video", (3, 2, 32, 32)), True),  # flow
    ],
)
def test_leaves_alone_what_is_not_to_be_augmented(modality, augment):
    x = torch.randint(256, (2, *modality.shape), dtype=torch.uint8)
    encoder = VideoEncoder(modality, D, 8, 3, augment=augment)
    assert torch.equal(encoder.transform(x, True, torch.Generator()), x)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: AudioEncoder(Modality("m", "audio", (8, 8)), D, channels=2), "audio.channels=2"),
        (lambda: AudioEncoder(Modality("m", "audio", (8, 8)), D, blocks=0), "audio.blocks=0"),
        (lambda: AudioEncoder(Modality("m", "audio", (1, 8, 8)), D), r"\(1, 8, 8\)"),
        (lambda: AudioEncoder(Modality("m", "audio", (303,)), D), "303 samples.*304 or more"),
        (lambda: VideoEncoder(Modality("m", "video", (3, 3, 8, 8)), D, 2), "video.channels=2"),
        (lambda: VideoEncoder(Modality("m", "video", (3, 8, 8)), D), r"\(3, 8, 8\)"),
    ],
)
def test_refuses_what_makes_no_network(build, says):
    with pytest.raises(MmeqError, match=says):
        build()
