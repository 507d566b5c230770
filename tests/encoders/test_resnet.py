"""ResNet-18: torchvision's own network behind each kind, its weights, and batch norm's manners."""

import hashlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.transforms.functional import normalize

from mmeq.data.spec import Modality
from mmeq.encoders.resnet import AudioResNet, PictureResNet
from mmeq.encoders.resnet_weights import fetch
from mmeq.errors import MmeqError

SHAPES = {
    "audio": (40, 50),
    "image": (3, 40, 36),
    "video": (3, 3, 40, 36),
    "flow": (2, 2, 40, 36),
}
KINDS = list(SHAPES)


def build(kind, dim=512, shape=None, **options):
    torch.manual_seed(0)
    named = "video" if kind == "flow" else kind
    modality = Modality("m", named, shape or SHAPES[kind])
    return (AudioResNet if kind == "audio" else PictureResNet)(modality, dim, **options)


def inputs(kind, count=4, shape=None, seed=0):
    shape, generator = shape or SHAPES[kind], torch.Generator().manual_seed(seed)
    if kind == "audio":
        return torch.randn(count, *shape, generator=generator) * 3 - 8
    return torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)


def plain(channels, seed=0):
    """A network by torchvision alone, away from its beginning."""
    torch.manual_seed(seed)
    net = resnet18()
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    net.train()
    with torch.no_grad():
        net(torch.randn(8, channels, 48, 48))
    return net.eval()


def saved(tmp_path, net, name="resnet18-mine.pth"):
    torch.save(net.state_dict(), tmp_path / name)
    return tmp_path / name


def expected(kind, net, x):
    """What the paper's recipe gives: 512 features, before any projection."""
    net.fc = nn.Identity()
    if kind == "audio":
        return net(x[:, None])
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    if kind == "flow":
        mean, std = [0.5, 0.5], [0.226, 0.226]
    frames = x if x.ndim == 5 else x[:, None]
    rows = []
    for clip in frames:  # maps of all frames, averaged over time and space
        maps = normalize(clip.float() / 255, mean, std)
        for name, layer in net.named_children():
            maps = layer(maps) if name not in ("avgpool", "fc") else maps
        rows.append(maps.transpose(0, 1).flatten(1).mean(1))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_torchvision(kind, tmp_path):
    channels = {"audio": 1, "flow": 2}.get(kind, 3)
    net, x = plain(channels), inputs(kind)
    encoder = build(kind, weights=str(saved(tmp_path, net))).eval()
    with torch.no_grad():
        want = expected(kind, net, x)
        torch.testing.assert_close(encoder(x), want, atol=1e-4, rtol=1e-4)
        narrow = build(kind, dim=6, weights=str(tmp_path)).eval()
        assert narrow.project.weight.shape == (6, 512)
        torch.testing.assert_close(narrow(x), narrow.project(want), atol=1e-4, rtol=1e-4)
    assert want.std(0).mean() > 1e-3, "the samples are told apart"


def test_has_the_published_size_and_beginning():
    counts = {kind: sum(p.numel() for p in build(kind).parameters()) for kind in KINDS}
    whole = sum(p.numel() for p in resnet18().parameters()) - 512 * 1000 - 1000
    assert counts["image"] == counts["video"] == whole
    assert whole - counts["audio"] == 2 * (whole - counts["flow"]) == 2 * 64 * 49
    encoder = build("audio", dim=8)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
    assert encoder.project.bias.eq(0).all()
    assert encoder.project.weight.std().item() == pytest.approx((2 / 520) ** 0.5, rel=0.1)
    assert isinstance(build("audio").project, nn.Identity)
    assert isinstance(build("audio", project=True).project, nn.Linear)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind):
    encoder = build(kind, dim=8)
    encoder(inputs(kind)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_learns(kind):
    encoder, head = build(kind, dim=8), nn.Linear(8, 2)
    x, label = inputs(kind, count=16), torch.arange(16) % 2
    for row in label.nonzero().flatten():
        x[row][..., ::4, :] = 0 if kind == "audio" else 255
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], 0.02, 0.9)
    for _ in range(8):
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(x)), label).backward()
        optimizer.step()
    encoder.eval()
    for module in encoder.modules():  # 8 steps are few for a running mean
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    encoder.train()
    with torch.no_grad():
        encoder(x)
    encoder.eval()
    assert (head(encoder(x)).argmax(1) == label).float().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_independent_of_batch_mates_and_leaves_statistics(kind):
    encoder, x = build(kind, dim=8), inputs(kind)
    encoder(x)
    encoder.eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with torch.no_grad():
        alone = torch.cat([encoder(one[None]) for one in x])
        torch.testing.assert_close(alone, encoder(x), atol=1e-5, rtol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_runs_in_bfloat16(kind):
    encoder, x = build(kind, dim=8), inputs(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder(x)
    assert features.dtype == torch.bfloat16
    features.float().square().sum().backward()
    assert all(p.grad.isfinite().all() and p.dtype == torch.float32 for p in encoder.parameters())
    encoder.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        lower = encoder(x).float()
    with torch.no_grad():
        exact = encoder(x)
    assert (lower - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_absent_samples_have_finite_features_and_gradients(kind):
    encoder, x = build(kind, dim=8), inputs(kind)
    x[1:3] = 0
    features = encoder(x)
    features.square().sum().backward()
    assert features.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    wholly = build("audio", dim=8, standardise=True)
    assert wholly(torch.zeros(2, *SHAPES["audio"])).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("audio", (257, 188)),
        ("audio", (1, 1)),
        ("image", (3, 8, 8)),
        ("video", (1, 3, 32, 32)),
        ("flow", (1, 2, 7, 9)),
    ],
)
def test_takes_any_size_and_one_sample_in_training(kind, shape):
    """One picture with a last map of 1×1 has no deviation: running statistics, left alone."""
    encoder = build(kind, dim=8, shape=shape)
    x = inputs(kind, count=1, shape=shape)
    single = max(shape[-2:]) <= 32
    before = encoder.body.bn1.running_mean.clone()
    features = encoder(x)
    assert features.shape == (1, 8)
    assert features.isfinite().all()
    assert encoder.body.bn1.training
    assert torch.equal(before, encoder.body.bn1.running_mean) == single
    assert encoder(inputs(kind, count=2, shape=shape)).isfinite().all()
    assert not torch.equal(before, encoder.body.bn1.running_mean)


@pytest.mark.parametrize(("kind", "channels"), [("audio", 1), ("flow", 2)])
def test_weights_of_pictures_fold_to_fewer_channels(kind, channels, tmp_path):
    """A grey picture gives the same, whatever the channels."""
    net = plain(3)
    encoder = build(kind, weights=str(saved(tmp_path, net))).eval()
    grey = torch.randn(3, 1, 40, 50)
    net.fc = nn.Identity()
    with torch.no_grad():
        want = net(grey.expand(-1, 3, -1, -1))
        got = encoder.pictures(grey.expand(-1, channels, -1, -1))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    first = encoder.body.conv1.weight
    assert torch.equal(first, first[:, :1].expand_as(first))


def test_weights_are_taken_from_what_people_keep(tmp_path):
    net = plain(3)
    x = inputs("image")
    with torch.no_grad():
        want = build("image", weights=str(saved(tmp_path, net))).eval()(x)
        state = {f"module.{k}": v for k, v in net.state_dict().items() if "num_batches" not in k}
        torch.save({"epoch": 3, "state_dict": state}, tmp_path / "wrapped.pt")
        got = build("image", weights=str(tmp_path / "wrapped.pt")).eval()(x)
    assert torch.equal(got, want)


@pytest.mark.parametrize("kind", ["audio", "image", "video"])
def test_a_state_has_all_that_the_first_weights_gave(kind, tmp_path):
    encoder = build(kind, weights=str(saved(tmp_path, plain(3)))).eval()
    assert type(encoder).first_weights == ("weights",)
    again = build(kind, weights=None).eval()
    x = inputs(kind)
    assert not torch.equal(again(x), encoder(x))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x))


def broken(folder, what):
    if what == "text":
        (folder / "w.pth").write_text("not weights")
    elif what == "empty":
        (folder / "w.pth").write_bytes(b"")
    elif what == "torn":
        whole = saved(folder, plain(3), "whole.pth").read_bytes()
        (folder / "w.pth").write_bytes(whole[: len(whole) // 2])
    elif what == "list":
        torch.save([1, 2], folder / "w.pth")
    else:
        state = plain(3).state_dict()
        if what == "lacking":
            del state["layer3.1.conv2.weight"]
        elif what == "wider":
            state["layer1.0.conv1.weight"] = torch.zeros(128, 64, 3, 3)
        else:
            state["layer4.2.conv1.weight"] = torch.zeros(1)
        torch.save(state, folder / "w.pth")
    return str(folder / "w.pth")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("text", "cannot be read"),
        ("empty", "cannot be read"),
        ("torn", "cannot be read"),
        ("list", "no state dict"),
        ("lacking", r"layer3\.1\.conv2\.weight is missing"),
        ("wider", r"layer1\.0\.conv1\.weight is \(128, 64, 3, 3\), expected \(64, 64, 3, 3\)"),
        ("deeper", r"it has layer4\.2\.conv1\.weight too"),
    ],
)
def test_weights_that_are_none_are_refused(what, says, tmp_path):
    with pytest.raises(MmeqError, match=says) as caught:
        build("image", weights=broken(tmp_path, what))
    assert "backbone.encoders.image.weights=" in str(caught.value)
    assert "w.pth" in str(caught.value)


def test_weights_that_are_not_there_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MmeqError, match=r"video\.weights=imagenet: .*resnet18-f37072fd\.pth is not"
    ):
        build("video", weights="imagenet")
    with pytest.raises(MmeqError, match="no such file or folder; give imagenet"):
        build("video", weights=str(tmp_path / "nowhere"))
    with pytest.raises(MmeqError, match="found none"):
        build("video", weights=str(tmp_path))
    for name in ("resnet18-a.pth", "resnet18-b.pt"):
        saved(tmp_path, plain(3), name)
    with pytest.raises(MmeqError, match=r"found resnet18-a\.pth, resnet18-b\.pt; give the file"):
        build("video", weights=str(tmp_path))


def test_imagenet_comes_from_the_hub_cache_and_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    name = ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    saved(folder, plain(3), name)
    with pytest.raises(MmeqError, match="is damaged"):  # ours are not torchvision's
        build("image", weights="imagenet")
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8]
    url = f"https://example.invalid/resnet18-{digest}.pth"
    (folder / name).rename(folder / f"resnet18-{digest}.pth")
    weights = type("Named", (), {"IMAGENET1K_V1": type("One", (), {"url": url})})
    monkeypatch.setattr("mmeq.encoders.resnet_weights.ResNet18_Weights", weights)
    encoder = build("image", weights="imagenet")
    assert torch.equal(encoder.body.conv1.weight, plain(3).conv1.weight)


def test_a_download_is_whole_or_absent(tmp_path):
    source = saved(tmp_path, plain(3))
    there = tmp_path / "new" / "there.pth"
    assert fetch(source.as_uri(), there) == ""
    assert there.read_bytes() == source.read_bytes()
    assert "refused" in fetch("http://127.0.0.1:9/resnet18.pth", tmp_path / "not.pth")
    assert not (tmp_path / "not.pth").exists()


def test_size_reaches_the_format_or_resizes_here(tmp_path):
    assert PictureResNet.needs("image", size=None) == {}
    assert PictureResNet.needs("video", size=224, dropout=0.1) == {"size": 224, "resize": 256}
    assert AudioResNet.needs("audio", weights=None) == {}
    net, x = plain(3), inputs("image")
    encoder = build("image", size=64, weights=str(saved(tmp_path, net))).eval()
    net.fc = nn.Identity()
    bigger = F.interpolate(x.float(), (64, 64), mode="bilinear", antialias=True) / 255
    with torch.no_grad():
        want = net(normalize(bigger, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        torch.testing.assert_close(encoder(x), want, atol=1e-4, rtol=1e-4)


def test_standardised_sound_has_no_unit():
    encoder, x = build("audio", dim=8, standardise=True).eval(), inputs("audio")
    as_given = build("audio", dim=8).eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(3 * x + 7), encoder(x), atol=1e-4, rtol=1e-3)
        assert (as_given(3 * x + 7) - as_given(x)).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["image", "video"])
def test_augmentation_moves_all_frames_alike_and_only_in_training(kind):
    encoder = build(kind)
    frame = inputs("image", count=6)
    x = frame if kind == "image" else frame[:, None].expand(6, 3, 3, 40, 36).contiguous()
    assert encoder.transform(x, False, torch.Generator()) is x
    first, again, other = (
        encoder.transform(x, True, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.dtype, first.shape) == (torch.uint8, x.shape)
    if kind == "video":
        assert torch.equal(first, first[:, :1].expand_as(first))
    ramp = torch.arange(36, dtype=torch.uint8).mul(7).expand(32, 3, 40, 36).contiguous()
    slopes = encoder.transform(ramp, True, torch.Generator()).float().diff(dim=-1).mean((1, 2, 3))
    assert 4 < (slopes < 0).sum() < 28, "about half are mirrored"
    assert (slopes.abs() < 7.01).all(), "crops are never smaller than the picture"


@pytest.mark.parametrize(
    ("modality", "augment"),
    [
        (Modality("m", "image", (3, 32, 32), augmented=True), True),
        (Modality("m", "image", (3, 32, 32)), False),
        (Modality("m", "video", (3, 2, 32, 32)), True),  # flow
    ],
)
def test_leaves_alone_what_is_not_to_be_augmented(modality, augment):
    x = torch.randint(256, (2, *modality.shape), dtype=torch.uint8)
    encoder = PictureResNet(modality, 512, augment=augment)
    assert encoder.transform(x, True, torch.Generator()) is x


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("audio", {"shape": (16000,)}, r"\(16000,\).*dataset\.audio\.features=spectrogram"),
        ("image", {"shape": (3, 3, 8, 8)}, r"takes \(3, height, width\)"),
        ("video", {"shape": (3, 8, 8)}, r"takes \(frames, channels, height, width\)"),
        ("image", {"dim": 64, "project": False}, r"image\.project=false.*backbone\.dim=512"),
        ("flow", {"dropout": 1.0}, r"video\.dropout=1\.0"),
        ("image", {"size": 0}, r"image\.size=0"),
    ],
)
def test_refuses_what_makes_no_network(kind, options, says):
    with pytest.raises(MmeqError, match=says):
        build(kind, **options)
