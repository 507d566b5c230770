"""Bundled datasets: counts, classes, options, checksums, licences, rebuilding."""

import hashlib
import shutil

import numpy as np
import pytest
import torch

from mmeq.data import store
from mmeq.data.brca import Brca
from mmeq.data.emoji import Emoji
from mmeq.data.mfeat import VIEWS, Mfeat
from mmeq.errors import MmeqError


def counts(manifest):
    return torch.bincount(manifest.labels).tolist()


def test_mfeat():
    manifest = Mfeat(modalities=None).load()
    assert len(manifest) == 1994
    assert manifest.spec.names == VIEWS
    shapes = {m.name: m.shape[0] for m in manifest.spec.modalities}
    assert shapes == {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
    assert sum(counts(manifest)) == 1994
    assert len(counts(manifest)) == 10
    assert min(counts(manifest)) >= 194
    assert len(set(manifest.digests())) == 1994  # the six repeated samples are gone
    parts = [len(manifest.rows(part)) for part in ("train", "validation", "test")]
    assert np.allclose(np.array(parts) / 1994, [0.6, 0.2, 0.2], atol=0.01)
    manifest.check()


def test_brca():
    manifest = Brca().load()
    assert len(manifest) == 769
    assert dict(zip(manifest.spec.classes, counts(manifest), strict=True)) == {
        "normal-like": 34,
        "basal-like": 130,
        "HER2-enriched": 46,
        "luminal A": 419,
        "luminal B": 140,
    }
    assert [m.shape for m in manifest.spec.modalities] == [(400,)] * 3
    assert manifest.ids[0].startswith("TCGA-")
    manifest.check()


def test_emoji():
    manifest = Emoji().load()
    assert len(manifest) == 1906
    assert len(manifest.spec.classes) == 9
    assert dict(zip(manifest.spec.classes, counts(manifest), strict=True))["flags"] == 270
    images = manifest.columns["image"].pixels
    assert images.shape == (1906, 3, 48, 48)
    assert images.dtype == torch.uint8
    assert (images[:, :, 0, 0] > 240).all(1).float().mean() > 0.8  # white corners
    row = manifest.ids.index("1F602")
    assert manifest.columns["text"].texts[row] == "face with tears of joy"
    assert manifest.groups[row] == "face-smiling/joy"
    groups = {part: {manifest.groups[r] for r in manifest.rows(part)} for part in ("train", "test")}
    assert not groups["train"] & groups["test"]
    manifest.check()


def test_emoji_in_full_size_is_not_resampled():
    full = Emoji(modalities=["image"], size=64).load().columns["image"].pixels
    assert full.shape[-2:] == (64, 64)
    with pytest.raises(MmeqError, match="size=128"):
        Emoji(size=128)


@pytest.mark.parametrize("make", [Mfeat, Brca])
def test_subset_and_order_of_modalities(make):
    full = make(modalities=None).load()
    some = list(full.spec.names[2:0:-1])
    part = make(modalities=some).load()
    assert list(part.spec.names) == some
    assert tuple(part.present.shape) == (len(full), 2)
    for name in some:
        assert torch.equal(part.columns[name].values, full.columns[name].values)
    assert (part.split == full.split).all()


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["fuo", "zer"], "no modality 'fuo'; did you mean 'fou'"),
        (["fou", "fou"], "'fou' is given twice"),
        ([], "at least one"),
        ("fou", r"expected a list, e.g. modalities=\[fou\]"),
    ],
)
def test_wrong_modalities(modalities, message):
    with pytest.raises(MmeqError, match=message):
        Mfeat(modalities=modalities)


@pytest.mark.parametrize("name", ["mfeat", "brca", "emoji"])
def test_damage_is_found(name, tmp_path):
    shutil.copy(store.FOLDER / store.SUMS, tmp_path)
    data = bytearray((store.FOLDER / f"{name}.npz").read_bytes())
    data[len(data) // 2] ^= 1  # one bit
    (tmp_path / f"{name}.npz").write_bytes(data)
    with pytest.raises(MmeqError, match=f"damaged.*python -m mmeq.data.rebuild.{name}"):
        store.read(name, tmp_path)
    (tmp_path / f"{name}.npz").unlink()
    with pytest.raises(MmeqError, match="missing"):
        store.read(name, tmp_path)
    with pytest.raises(MmeqError, match="did you mean 'mfeat'"):
        store.read("mfaet", tmp_path)


@pytest.mark.parametrize("name", ["mfeat", "brca", "emoji"])
def test_files_are_small_plain_and_reproducible(name):
    data = (store.FOLDER / f"{name}.npz").read_bytes()
    assert len(data) < 6_000_000
    arrays = store.read(name)
    assert not any(array.dtype.hasobject for array in arrays.values())
    assert store.npz_bytes(arrays) == data  # the bytes follow from the arrays
    assert (store.FOLDER / "LICENSES" / f"{name}.txt").is_file()


def test_store_round_trip(tmp_path):
    blobs = [b"", b"abc", b"\x00\n"]
    data, offsets = store.pack_blobs(blobs)
    texts = ["ü", "", "a b"]
    digest = store.write("x", {"d": data, "o": offsets, "t": store.pack_texts(texts)}, tmp_path)
    assert digest == hashlib.sha256((tmp_path / "x.npz").read_bytes()).hexdigest()
    store.record("x", digest, tmp_path)
    arrays = store.read("x", tmp_path)
    assert store.unpack_blobs(arrays["d"], arrays["o"]) == blobs
    assert store.unpack_texts(arrays["t"]) == texts
