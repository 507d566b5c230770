"""Image format: what is kept, and which part of it is seen, by training and after."""

import numpy as np
import pytest
import torch

from mmeq.data.media.clip import Blob, Broken, Clip
from mmeq.data.media.image import ImageFormat
from mmeq.errors import MmeqError
from tests.data.media.writing import write_picture


def picture(height=40, width=52, seed=0):
    """Smooth; its red rises to the right."""
    x, y = np.linspace(0, 255, width), np.linspace(0, 255, height)
    other = np.random.default_rng(seed).uniform(0, 255)
    return np.stack(np.broadcast_arrays(x[None], y[:, None], other), -1).round().astype(np.uint8)


def blob(pixels):
    data = np.ascontiguousarray(pixels).reshape(-1).copy()
    data.setflags(write=False)  # as of a mapped file
    return Blob(data, pixels.shape)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def view(format, blobs, training=False, seed=0):
    return format.view(blobs, training, generator(seed))


def small(**options):
    return ImageFormat(**{"resize": 40, "size": 32} | options)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("jpeg", [None, 95])
def test_reads_a_file_and_sees_its_centre(tmp_path, name, jpeg):
    clip = Clip(write_picture(tmp_path / name, picture()), name)
    format = small(jpeg=jpeg)
    found = format.read(clip)
    assert found.shape == ((40, 52, 3) if jpeg is None else (len(found.data),))
    assert format.probe(clip) is None
    wanted = torch.from_numpy(picture()[4:36, 10:42]).permute(2, 0, 1)
    seen = view(format, [found])[0]
    exact = name == "a.png" and jpeg is None
    assert (seen.int() - wanted.int()).abs().max() <= (0 if exact else 12)


def test_keeps_the_shorter_side(tmp_path):
    clip = Clip(write_picture(tmp_path / "a.png", picture(120, 80)), "a.png")
    assert small().read(clip).shape == (60, 40, 3)


def test_broken_file_is_told(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for look in (small().read, small().probe):
        with pytest.raises(Broken):
            look(Clip(tmp_path / "a.jpg", "a.jpg"))


@pytest.mark.parametrize("jpeg", [None, 90])
def test_batch_has_its_shape_and_zeros_where_absent(tmp_path, jpeg):
    format = small(jpeg=jpeg)
    clip = Clip(write_picture(tmp_path / "a.png", picture(90, 50)), "a.png")
    for training in (False, True):
        batch = view(format, [format.read(clip), None], training)
        assert batch.shape == (2, *format.shape) == (2, 3, 32, 32)
        assert batch.dtype == torch.uint8
        assert batch.is_contiguous()
        assert batch[0].any()
        assert not batch[1].any()


def test_training_sees_a_random_part():
    batch = view(small(), [blob(picture()) for _ in range(40)], True)
    assert len({one.numpy().tobytes() for one in batch}) == 40
    rises = batch[:, 0, 16, -1].int() - batch[:, 0, 16, 0].int()
    assert 8 < (rises < 0).sum() < 32  # mirrored
    assert (batch[:, 1, -1, 16].int() > batch[:, 1, 0, 16].int()).all()
    assert rises.abs().min() < 0.65 * 255
    assert rises.abs().max() > 0.85 * 255


def test_without_augmentation_training_sees_what_evaluation_sees():
    format, images = small(augment=False), [blob(picture())]
    assert torch.equal(view(format, images, True), view(format, images))
    assert not format.augments
    assert small().augments


def test_only_training_is_random_and_follows_the_generator():
    images = [blob(picture(seed=k)) for k in range(4)]
    first, again, other = (view(small(), images, True, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    untouched = generator(4)
    small().view(images, False, untouched)
    assert torch.equal(untouched.get_state(), generator(4).get_state())


@pytest.mark.parametrize("training", [False, True])
def test_absent_mates_change_nothing(training):
    images = [blob(picture(seed=k)) for k in range(3)]
    whole = view(small(), images, training)
    assert torch.equal(view(small(), [images[0], None, images[2]], training)[2], whole[2])


def test_evaluation_does_not_depend_on_the_batch():
    images = [blob(picture(h, w)) for h, w in ((40, 52), (40, 40), (70, 40), (20, 30))]
    together = view(small(), images)
    for row, image in enumerate(images):
        assert torch.equal(view(small(), [image])[0], together[row])


def test_stored_tells_what_read_depends_on_and_no_more():
    base = ImageFormat().stored()
    assert ImageFormat(size=100, augment=False).stored() == base
    for other in ({"resize": 300}, {"jpeg": 90}):
        assert ImageFormat(**other).stored() != base
    assert {"kind", "version", "pillow"} <= set(base)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"resize": 0}, "image.resize=0: give a whole number of 1 or more"),
        ({"size": 0}, "image.size=0"),
        ({"size": 257}, "size=257: .*resize=257 or more"),
        ({"augment": 1}, "augment=1: give true or false"),
        ({"jpeg": "high"}, "jpeg=high: give a whole number from 1 to 100"),
    ],
)
def test_refuses_options_that_make_no_sense(options, says):
    with pytest.raises(MmeqError, match=says):
        ImageFormat(**options)
