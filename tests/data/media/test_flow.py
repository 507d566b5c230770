"""Optical flow: pairs of real JPEG folders, what is kept, crops, mirroring, damage."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from mmeq.data.media.clip import Broken
from mmeq.data.media.flow import FlowClip, FlowFormat
from mmeq.errors import MmeqError


def write(root, count=12, size=(80, 60), u=None, v=None, first=1):
    """Frame n is grey 100 + n in u and 200 - n in v, unless told otherwise."""
    for axis, given in (("u", u), ("v", v)):
        (root / axis / "clip").mkdir(parents=True)
        for n in range(first, first + count):
            grey = 100 + n if axis == "u" else 200 - n
            picture = np.full(size[::-1], grey, np.uint8) if given is None else given
            Image.fromarray(picture).save(root / axis / "clip" / f"frame{n:06d}.jpg", quality=95)
    return FlowClip(root / "u" / "clip", "u/clip")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def near(found, wanted, by=2):
    assert np.abs(np.asarray(found, int) - np.asarray(wanted, int)).max() <= by


def test_evenly_spaced_pairs_are_kept(tmp_path):
    blob = FlowFormat(most=4, size=40, resize=60).read(write(tmp_path))
    assert blob.shape == (4, 60, 80, 2)
    field = blob.data.reshape(blob.shape)
    assert field.dtype == np.uint8
    near(field[:, 30, 40, 0], [102, 105, 108, 111])  # frames 2, 5, 8, 11 of 12
    near(field[:, 30, 40, 1], [198, 195, 192, 189])


def test_a_short_clip_keeps_what_it_has(tmp_path):
    form = FlowFormat(most=10, frames=4, size=40, resize=60)
    blob = form.read(write(tmp_path, count=2))
    assert blob.shape[0] == 2
    batch = form.view([blob], False, generator())
    near(batch[0, :, 0, 20, 20], [101, 101, 102, 102])


def test_the_order_is_by_number(tmp_path):
    clip = write(tmp_path, count=3, first=9)
    for axis in "uv":  # 9, 10, 11 without filled digits sorts 10, 11, 9 by name
        for n in (9, 10, 11):
            old = tmp_path / axis / "clip" / f"frame{n:06d}.jpg"
            old.rename(old.with_name(f"frame{n}.jpg"))
    field = FlowFormat(size=40, resize=60).read(clip)
    near(field.data.reshape(field.shape)[:, 0, 0, 0], [109, 110, 111])


def test_the_shorter_side_is_resized(tmp_path):
    clip = write(tmp_path, size=(80, 60))
    assert FlowFormat(resize=30, size=20).read(clip).shape == (10, 30, 40, 2)
    assert FlowFormat(resize=90, size=20).read(clip).shape == (10, 90, 120, 2)
    batch = FlowFormat().view([FlowFormat().read(clip)], False, generator())
    assert batch.shape == (1, 3, 2, 224, 224)
    near(batch[0, 0, 0, 100, 100], 102)


def test_batch_is_the_centre_without_training(tmp_path):
    u = np.full((60, 80), 128, np.uint8)
    u[20:40, 30:50] = 250
    form = FlowFormat(frames=3, most=6, resize=60, size=20)
    blob = form.read(write(tmp_path, u=u))
    batch = form.view([None, blob], False, generator())
    assert batch.shape == (2, 3, 2, 20, 20)
    assert batch.dtype == torch.uint8
    assert not batch[0].any()
    near(batch[1, :, 0, 2:-2, 2:-2], 250, by=8)
    assert torch.equal(batch, form.view([None, blob], False, generator(5)))


def test_training_draws_from_the_generator(tmp_path):
    form = FlowFormat(frames=3, most=12, resize=60, size=40)
    blob = form.read(
        write(tmp_path, u=np.arange(4800, dtype=np.float64).reshape(60, 80).astype("u1"))
    )
    one, same, other = (form.view([blob], True, generator(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    plain = FlowFormat(frames=3, most=12, resize=60, size=40, augment=False)
    assert torch.equal(
        plain.view([blob], True, generator(1)), form.view([blob], False, generator())
    )
    assert form.augments
    assert not plain.augments


def test_an_absent_clip_takes_its_draws(tmp_path):
    form = FlowFormat(frames=3, most=12, resize=60, size=40)
    blob = form.read(write(tmp_path, u=np.arange(60 * 80).reshape(60, 80).astype(np.uint8)))
    both, one = (form.view([first, blob], True, generator(3)) for first in (blob, None))
    assert torch.equal(both[1], one[1])


def test_every_stretch_gives_an_instant(tmp_path):
    form = FlowFormat(frames=3, most=12, resize=60, size=40)
    blob = form.read(write(tmp_path))
    seen = set()
    for seed in range(40):
        v = form.view([blob], True, generator(seed))[0, :, 1, 20, 20]
        frames = [round(200 - int(x)) for x in v]
        assert 0 <= frames[0] <= 5
        assert 4 <= frames[1] <= 9
        assert 8 <= frames[2] <= 13
        seen.add(tuple(frames))
    assert len(seen) > 10


def test_mirroring_turns_the_sign_of_u_alone(tmp_path):
    u = np.full((60, 80), 90, np.uint8)
    v = np.tile(np.linspace(40, 220, 80), (60, 1)).astype(np.uint8)
    form = FlowFormat(frames=1, resize=60, size=40)
    blob = form.read(write(tmp_path, u=u, v=v))
    kinds = set()
    for seed in range(30):
        field = form.view([blob], True, generator(seed))[0, 0].int()
        falls = bool(field[1, 20, -1] < field[1, 20, 0])
        near(field[0], 165 if falls else 90)
        kinds.add(falls)
    assert kinds == {True, False}


def test_jpeg_is_smaller_and_nearly_the_same(tmp_path):
    noise = np.random.default_rng(0).normal(128, 10, (60, 80)).clip(0, 255).astype(np.uint8)
    clip = write(tmp_path, u=noise)
    raw, packed = FlowFormat(size=40, resize=60), FlowFormat(size=40, resize=60, jpeg=95)
    one, two = raw.read(clip), packed.read(clip)
    assert len(two.data) < len(one.data) / 2
    assert two.shape[0] == one.shape[0] == 10
    assert sum(two.shape[1:]) == len(two.data)
    near(packed.view([two], False, generator()), raw.view([one], False, generator()), by=12)
    assert raw.stored() != packed.stored()


def test_stored_says_what_read_depends_on():
    base = FlowFormat().stored()
    assert FlowFormat(frames=5, size=100, augment=False).stored() == base
    assert FlowFormat(most=5).stored() != base
    assert FlowFormat(resize=300).stored() != base


def test_damage(tmp_path):
    clip = write(tmp_path)
    form = FlowFormat(size=40, resize=60)
    assert form.probe(clip) is None
    (tmp_path / "v" / "clip" / "frame000005.jpg").rename(tmp_path / "kept")
    for use in (form.probe, form.read):
        with pytest.raises(Broken, match=r"frame 5 is in u alone \(12 in u, 11 in v\)"):
            use(clip)
    (tmp_path / "v" / "clip" / "frame000005.jpg").write_bytes(
        (tmp_path / "kept").read_bytes()[:300]
    )
    with pytest.raises(Broken, match=r"v/frame000005\.jpg cannot be"):
        FlowFormat(size=40, resize=60, most=12).read(clip)
    (tmp_path / "u" / "clip" / "frame000001.jpg").write_bytes(b"<html>")
    with pytest.raises(Broken, match=r"u/frame000001\.jpg cannot be opened"):
        form.probe(clip)
    (tmp_path / "kept").rename(tmp_path / "v" / "clip" / "frame000005.jpg")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "u" / "clip" / "frame000001.jpg")
    with pytest.raises(Broken, match=r"v/frame000001\.jpg has another size"):
        FlowFormat(size=40, resize=60, most=12).read(clip)


def test_no_folder_of_v_and_no_pictures(tmp_path):
    clip = write(tmp_path)
    assert clip.fingerprint()
    (tmp_path / "v").rename(tmp_path / "w")
    assert clip.fingerprint()
    with pytest.raises(Broken, match="no folder v/clip"):
        FlowFormat().probe(clip)
    for axis in "uv":
        (tmp_path / "bare" / axis / "clip").mkdir(parents=True)
    with pytest.raises(Broken, match="no pictures"):
        FlowFormat().probe(FlowClip(tmp_path / "bare" / "u" / "clip", "x"))
    with pytest.raises(FileNotFoundError):
        FlowClip(tmp_path / "bare" / "u" / "other", "x").fingerprint()


@pytest.mark.parametrize("axis", ["u", "v"])
def test_the_fingerprint_tells_of_a_changed_folder(tmp_path, axis):
    clip = write(tmp_path)
    before = clip.fingerprint()
    assert clip.fingerprint() == before
    os.utime(tmp_path / axis / "clip", ns=(1, 1))
    assert clip.fingerprint() != before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 0}, r"dataset\.flow\.frames=0"),
        ({"most": 0}, r"dataset\.flow\.most=0"),
        ({"frames": 11}, r"dataset\.flow\.frames=11.*most=10"),
        ({"size": 300}, r"dataset\.flow\.size=300"),
        ({"jpeg": 101}, r"dataset\.flow\.jpeg=101"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(MmeqError, match=words):
        FlowFormat(**options)
