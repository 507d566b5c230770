"""Video format: what is kept, and which frames and parts training and evaluation see."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mmeq.data.media.clip import Absent, Blob, Clip
from mmeq.data.media.moving import pick
from mmeq.data.media.pictures import DRAWS, centre_look, random_look
from mmeq.data.media.video import VideoFormat
from mmeq.errors import MmeqError
from tests.data.media.writing import number_of, tone, write_film, write_sound


def blob(frames):
    """Frames uint8 [T, H, W, 3] as the format keeps them."""
    data = np.ascontiguousarray(frames, dtype=np.uint8).reshape(-1)
    data.setflags(write=False)  # as of a mapped file
    return Blob(data, np.shape(frames))


def levels(count, height=40, width=52):
    """Frame t is all 10 t."""
    return blob(
        np.broadcast_to(10 * np.arange(count)[:, None, None, None], (count, height, width, 3))
    )


def scene(count=4, height=40, width=52, seed=0):
    """The same smooth picture in every frame, its red rising to the right."""
    x, y = np.linspace(0, 255, width), np.linspace(0, 255, height)
    other = np.random.default_rng(seed).uniform(0, 255)
    picture = np.stack(np.broadcast_arrays(x[None], y[:, None], other), -1)
    return blob(np.broadcast_to(picture.round(), (count, height, width, 3)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def view(format, blobs, training=False, seed=0):
    return format.view(blobs, training, generator(seed))


def small(**options):
    return VideoFormat(**{"resize": 40, "size": 32} | options)


def seen_levels(format, clip, training=False, seed=0):
    batch = view(format, [clip], training, seed)
    assert torch.equal(batch.amin((2, 3, 4)), batch.amax((2, 3, 4)))
    return (batch[0, :, 0, 0, 0] // 10).tolist()


@pytest.mark.parametrize("jpeg", [None, 95])
def test_reads_frames_in_order(tmp_path, jpeg):
    path = write_film(tmp_path / "a.mp4", seconds=4.0, size=(104, 80))
    clip = Clip(path, "a.mp4")
    found = VideoFormat(fps=1.0, resize=40, size=32, jpeg=jpeg).read(clip)
    plain = VideoFormat(fps=1.0, resize=40, size=32).read(clip)
    assert plain.shape == (4, 40, 52, 3)
    frames = plain.data.reshape(plain.shape)
    numbers = [number_of(frame) for frame in frames]
    assert [number // 25 for number in numbers] == [0, 1, 2, 3]
    if jpeg is not None:
        assert found.shape[0] == 4
        assert len(found.data) == sum(found.shape[1:]) < len(plain.data)
    seen = view(small(frames=4, jpeg=jpeg), [found])
    near = view(small(frames=4), [plain])
    assert (seen.int() - near.int()).abs().max() <= (0 if jpeg is None else 40)
    assert (seen.int() - near.int()).abs().float().mean() < 3


def test_every_jpeg_is_found_again():
    format = small(frames=3, jpeg=100)
    frames = np.random.default_rng(0).integers(0, 256, (3, 10, 13, 3)).repeat(4, 1).repeat(4, 2)

    def packed(order):
        from mmeq.data.media.pictures import pack

        parts = [pack(frames[k].astype(np.uint8), 100) for k in order]
        return Blob(np.frombuffer(b"".join(parts), np.uint8), (len(parts), *map(len, parts)))

    found, turned = view(format, [packed([0, 1, 2]), packed([2, 0, 1])])
    assert torch.equal(found[[2, 0, 1]], turned)
    assert not torch.equal(found[0], found[1])


def test_keeps_at_most_so_many_and_looks_before(tmp_path):
    path = write_film(tmp_path / "a.mp4", seconds=3.0, size=(52, 40))
    clip = Clip(path, "a.mp4")
    assert small(fps=5.0, most=4).read(clip).shape == (4, 40, 52, 3)
    assert small().probe(clip) == pytest.approx(3.0, abs=0.1)
    sound = write_sound(tmp_path / "a.wav", tone(0.5, 8000), 8000)
    for look in (small().read, small().probe):
        with pytest.raises(Absent):
            look(Clip(sound, "a.wav"))


def test_batch_has_its_shape_and_zeros_where_absent():
    format = small(frames=2)
    for training in (False, True):
        batch = view(format, [scene(), None, scene(1, 90, 40)], training)
        assert batch.shape == (3, *format.shape) == (3, 2, 3, 32, 32)
        assert batch.dtype == torch.uint8
        assert batch.is_contiguous()
        assert not batch[1].any()
        assert batch[0].any()


@pytest.mark.parametrize(
    ("count", "frames", "wanted"),
    [
        (10, 3, [1, 5, 8]), (9, 3, [1, 4, 7]), (4, 4, [0, 1, 2, 3]), (2, 3, [0, 1, 1]),
        (1, 3, [0, 0, 0]), (10, 1, [5]),
    ],
)  # fmt: skip
def test_evaluation_sees_the_middles_of_equal_stretches(count, frames, wanted):
    assert seen_levels(small(frames=frames), levels(count)) == wanted


def test_training_sees_one_frame_of_each_stretch():
    found = np.array([seen_levels(small(frames=3), levels(9), True, seed) for seed in range(60)])
    for k in range(3):
        assert set(found[:, k]) == {3 * k, 3 * k + 1, 3 * k + 2}
    uniform = small(frames=3, sampling="uniform")
    assert {tuple(seen_levels(uniform, levels(9), True, seed)) for seed in range(9)} == {(1, 4, 7)}
    assert max(pick(7, [1 - 1e-9] * 4)) == 6


def test_evaluation_sees_the_centre():
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 52, 3), dtype=np.uint8)
    found = view(small(frames=2), [blob(frames)])[0]
    wanted = torch.from_numpy(frames[:, 4:36, 10:42]).permute(0, 3, 1, 2)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("height", [20, 16])
def test_smaller_frames_grow(height):
    frames = scene(2, height, 50)
    found = view(small(frames=2), [frames])[0]
    square = torch.from_numpy(frames.data.copy().reshape(frames.shape)).permute(0, 3, 1, 2)
    left = (50 - height) // 2
    wanted = v2.functional.resize(square[..., left : left + height].contiguous(), [32, 32])
    assert (found.int() - wanted.int()).abs().max() <= 1


def test_training_sees_one_part_in_all_frames_another_in_each_clip():
    batch = view(small(frames=3), [scene() for _ in range(40)], True)
    assert torch.equal(batch, batch[:, :1].expand_as(batch))
    assert len({clip.numpy().tobytes() for clip in batch}) == 40
    rises = batch[:, 0, 0, 16, -1].int() - batch[:, 0, 0, 16, 0].int()
    assert 8 < (rises < 0).sum() < 32  # mirrored
    down = batch[:, 0, 1, -1, 16].int() - batch[:, 0, 1, 0, 16].int()
    assert (down > 0).all()  # never upside down
    shown = rises.abs() / 255
    assert shown.min() < 0.65
    assert shown.max() > 0.85


@pytest.mark.parametrize(("height", "width"), [(40, 52), (300, 200)])
def test_random_part_is_torchvisions(height, width):
    draws = torch.rand(3000, DRAWS, generator=generator()).tolist()
    looks = np.array(
        [(k.top, k.left, k.height, k.width) for k in (random_look(height, width, d) for d in draws)]
    )
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(32, scale=(0.5, 1.0))
    theirs = [crop.make_params([torch.empty(3, height, width)]) for _ in range(3000)]
    wanted = np.array([[one[key] for key in ("top", "left", "height", "width")] for one in theirs])
    np.testing.assert_allclose(looks.mean(0), wanted.mean(0), atol=0.02 * height)
    np.testing.assert_allclose(looks.std(0), wanted.std(0), atol=0.02 * height)
    assert (looks[:, 0] + looks[:, 2] <= height).all()
    assert (looks[:, 1] + looks[:, 3] <= width).all()
    assert (looks[:, :2] >= 0).all()
    spare = np.array([height, width]) - looks[:, 2:]
    free = (spare > 0).all(1)
    down, across = (looks[free, :2] / spare[free]).T
    assert abs(np.corrcoef(down, across)[0, 1]) < 0.1


@pytest.mark.parametrize(("height", "width"), [(20, 400), (400, 20)])
def test_pictures_without_a_fitting_part_show_their_centre(height, width):
    look = random_look(height, width, [0.5] * DRAWS)
    torch.manual_seed(0)
    wanted = v2.RandomResizedCrop(32, scale=(0.5, 1.0)).make_params([torch.empty(3, height, width)])
    assert (look.top, look.left, look.height, look.width) == tuple(
        wanted[key] for key in ("top", "left", "height", "width")
    )


def test_resizes_a_random_part_as_torchvision_does():
    draws = torch.rand(1, DRAWS + 3, generator=generator(5))[0].tolist()
    noisy = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    frames = blob(np.broadcast_to(noisy, (3, 80, 100, 3)))
    look = random_look(80, 100, draws[:DRAWS])
    picture = torch.from_numpy(frames.data.copy().reshape(frames.shape)).permute(0, 3, 1, 2)
    box = (look.top, look.left, look.height, look.width)
    wanted = v2.functional.resized_crop(picture.contiguous(), *box, [32, 32], antialias=True)
    wanted = wanted.flip(-1) if look.mirrored else wanted
    found = view(VideoFormat(resize=80, size=32), [frames], True, 5)[0]
    assert (found.int() - wanted.int()).abs().max() <= 1


def test_without_augmentation_training_sees_what_evaluation_sees():
    format, clips = small(augment=False), [levels(9), scene()]
    assert torch.equal(view(format, clips, True), view(format, clips))
    assert not format.augments
    assert small().augments
    assert not torch.equal(view(small(), clips, True), view(small(), clips))


def test_only_training_is_random_and_follows_the_generator():
    format, clips = small(), [scene(seed=k) for k in range(4)]
    first, again, other = (view(format, clips, True, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    untouched = generator(4)
    format.view(clips, False, untouched)
    assert torch.equal(untouched.get_state(), generator(4).get_state())


@pytest.mark.parametrize("training", [False, True])
def test_absent_mates_change_nothing(training):
    clips = [scene(seed=k) for k in range(3)]
    whole = view(small(), clips, training)
    assert torch.equal(view(small(), [clips[0], None, clips[2]], training)[2], whole[2])


def test_evaluation_does_not_depend_on_the_batch():
    clips = [scene(), levels(7), scene(1, 40, 40), scene(2, 60, 40)]
    together = view(small(), clips)
    for row, clip in enumerate(clips):
        assert torch.equal(view(small(), [clip])[0], together[row])


def test_centre_is_whole_pixels_of_the_middle():
    assert centre_look(41, 52, 32).top == 4
    assert centre_look(10, 52, 32) == centre_look(10, 52, 10)


def test_stored_tells_what_read_depends_on_and_no_more():
    base = VideoFormat().stored()
    same = VideoFormat(frames=2, size=100, sampling="uniform", augment=False)
    assert same.stored() == base
    for other in ({"fps": 2.0}, {"most": 5}, {"resize": 300}, {"jpeg": 90}):
        assert VideoFormat(**other).stored() != base
    assert VideoFormat(jpeg=80).stored() != VideoFormat(jpeg=90).stored()
    assert VideoFormat(fps=1).stored() == base
    assert {"kind", "version", "libavcodec", "libswscale"} <= set(base)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fps": 0}, "video.fps=0: give a number above 0"),
        ({"most": 0}, "video.most=0: give a whole number of 1 or more"),
        ({"frames": 1.5}, "video.frames=1.5"),
        ({"frames": 4, "most": 3}, "frames=4: no more than dataset.video.most=3"),
        ({"size": 300}, "size=300: .*resize=300 or more"),
        ({"sampling": "unifrom"}, "sampling=unifrom.*did you mean 'uniform'"),
        ({"augment": "yes"}, "augment=yes: give true or false"),
        ({"jpeg": 0}, "jpeg=0: give a whole number from 1 to 100"),
        ({"jpeg": 101}, "jpeg=101"),
    ],
)
def test_refuses_options_that_make_no_sense(options, says):
    with pytest.raises(MmeqError, match=says):
        VideoFormat(**options)
