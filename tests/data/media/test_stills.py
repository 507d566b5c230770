"""Pictures: all kinds of pixels become RGB, upright, resized without aliasing; damage is named."""

from __future__ import annotations

import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from data.media.writing import write_picture
from PIL import Image

from mmeq.data.media.clip import Broken, Clip
from mmeq.data.media.stills import MOST_PIXELS, probe_image, read_image

WRITERS = ["jpg", "png", "webp", "gif", "bmp", "tiff"]


def clip(path, crop=None):
    return Clip(path, path.name, crop=crop)


def scene(height=40, width=60):
    """Four plain quarters: red, green, blue, grey."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = (220, 30, 30), (30, 200, 40)
    picture[top:, :left], picture[top:, left:] = (30, 40, 210), (128, 128, 128)
    return picture


def quarters(picture):
    height, width = picture.shape[:2]
    return np.array([
        picture[height * y // 4, width * x // 4] for y in (1, 3) for x in (1, 3)
    ]).astype(int)  # fmt: skip


@pytest.mark.parametrize("suffix", WRITERS)
def test_formats(tmp_path, suffix):
    path = write_picture(tmp_path / f"a.{suffix}", scene())
    assert probe_image(clip(path)) is None
    seen = read_image(clip(path), None)
    assert seen.dtype == np.uint8
    assert seen.shape == (40, 60, 3)
    assert abs(quarters(seen) - quarters(scene())).max() <= (6 if suffix in ("jpg", "webp") else 0)
    if suffix in ("png", "bmp", "tiff"):
        assert np.array_equal(seen, scene())


@pytest.mark.parametrize(("suffix", "mode"), [
    ("jpg", "CMYK"), ("jpg", "L"), ("png", "P"), ("png", "L"), ("png", "1"), ("gif", "P"),
    ("tiff", "CMYK"),
])  # fmt: skip
def test_kinds_of_pixels(tmp_path, suffix, mode):
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(scene())
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    image.save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    seen = quarters(read_image(clip(path), None))
    wanted = quarters(scene())
    if mode in ("L", "1"):
        wanted = np.repeat(np.round(wanted @ [0.299, 0.587, 0.114])[:, None], 3, 1)
    assert abs(seen - wanted).max() <= (255 if mode == "1" else 12)
    if mode == "1":
        assert set(seen.flat) <= {0, 255}


def test_transparent_pixels_lie_on_white(tmp_path):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20] = 0
    alpha[20:, 30:] = 128
    path = tmp_path / "a.png"
    Image.fromarray(np.concatenate([scene(), alpha], -1)).save(path)
    seen = quarters(read_image(clip(path), None))
    assert seen[:2].tolist() == [[255] * 3] * 2
    assert seen[2].tolist() == [30, 40, 210]
    assert abs(seen[3] - (128 * 128 + 255 * 127) / 255).max() <= 1
    # one colour of a palette may be the transparent one
    image = Image.fromarray(scene()).quantize(4)
    image.save(path, transparency=image.getpixel((5, 5)))
    seen = quarters(read_image(clip(path), None))
    assert seen[0].tolist() == [255] * 3
    assert abs(seen[1] - (30, 200, 40)).max() <= 4


@pytest.mark.parametrize("low", [0, 60])
def test_sixteen_bits(tmp_path, low):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 256 + low
    Image.fromarray(values).save(tmp_path / "a.png")
    seen = read_image(clip(tmp_path / "a.png"), None)
    assert np.array_equal(seen, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, -1))
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(Broken, match="floating-point"):
        read_image(clip(tmp_path / "a.tiff"), None)


@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation(tmp_path, tag):
    """The eight ways to hold a camera, undone by hand."""
    held = {
        1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2), 8: lambda x: np.rot90(x, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = tag
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(held[tag](scene()))).save(path, exif=exif)
    assert np.array_equal(read_image(clip(path), None), scene())
    right = read_image(clip(path, (0.5, 0.0, 1.0, 1.0)), None)
    assert np.array_equal(right, scene()[:, 30:])


def test_the_first_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        assert abs(read_image(clip(path), None)[4, 4].astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(("size", "resize", "wanted"), [
    ((40, 60), 20, (20, 30)), ((60, 40), 20, (30, 20)), ((40, 60), 80, (80, 120)),
    ((333, 500), 256, (256, 384)), ((40, 61), 20, (20, 30)), ((40, 60), 40, (40, 60)),
])  # fmt: skip
def test_shorter_side(tmp_path, size, resize, wanted):
    path = write_picture(tmp_path / "a.png", scene(*size))
    seen = read_image(clip(path), resize)
    assert seen.shape == (*wanted, 3)
    assert abs(quarters(seen) - quarters(scene())).max() <= 1


def test_resizing_folds_nothing_and_repeats(tmp_path):
    """Lines of one pixel become grey, not other lines."""
    lines = np.zeros((400, 400, 3), np.uint8)
    lines[:, ::2] = 255
    path = write_picture(tmp_path / "a.png", lines)
    seen = read_image(clip(path), 60)
    assert abs(seen[:, 5:-5].astype(int) - 127).max() <= 6
    assert np.array_equal(seen, read_image(clip(path), 60))


def test_crop_is_rounded_to_pixels_and_never_empty(tmp_path):
    path = write_picture(tmp_path / "a.png", scene())
    assert np.array_equal(read_image(clip(path, (0.0, 0.5, 0.5, 1.0)), None), scene()[20:, :30])
    assert read_image(clip(path, (0.501, 0.2, 0.502, 0.9)), None).shape == (28, 1, 3)
    assert read_image(clip(path, (0.999, 0.0, 1.0, 1.0)), None).shape == (40, 1, 3)


@pytest.mark.parametrize("suffix", WRITERS)
def test_truncated_pictures(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    path = write_picture(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        for reader in (lambda: read_image(clip(path), 64), lambda: probe_image(clip(path))):
            with pytest.raises(Broken, match=r"truncated|damaged"):
                reader()


def test_a_jpeg_with_bytes_behind_it_is_whole(tmp_path):
    path = write_picture(tmp_path / "a.jpg", scene())
    path.write_bytes(path.read_bytes() + bytes(500))
    probe_image(clip(path))
    assert read_image(clip(path), 20).shape == (20, 30, 3)


def test_what_is_no_picture(tmp_path):
    path = tmp_path / "a.jpg"
    for data, why in ((b"", "empty file"), (b"<html>not found</html>", "no picture")):
        path.write_bytes(data)
        for reader in (lambda: read_image(clip(path), None), lambda: probe_image(clip(path))):
            with pytest.raises(Broken) as found:
                reader()
            assert str(found.value) == why


def test_wrong_suffix_is_no_matter(tmp_path):
    path = write_picture(tmp_path / "a.png", scene())
    shutil.move(path, tmp_path / "a.jpg")
    assert np.array_equal(read_image(clip(tmp_path / "a.jpg"), None), scene())


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_bombs_are_refused(tmp_path, side):
    """A PNG of a few bytes that says it is huge; Pillow itself only warns of the smaller one."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    assert side**2 > MOST_PIXELS
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100))
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for reader in (lambda: read_image(clip(path), 64), lambda: probe_image(clip(path))):
            with pytest.raises(Broken, match="too many"):
                reader()


def test_a_sliver_is_not_blown_up(tmp_path):
    path = write_picture(tmp_path / "a.png", np.zeros((1, 2000, 3), np.uint8))
    with pytest.raises(Broken, match="too many"):
        read_image(clip(path), 256)


def test_damaged_exif_leaves_the_picture(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(scene()).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_image(clip(path), None).shape == (40, 60, 3)


def test_a_program_is_not_run(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(Broken, match="EPS"):
        read_image(clip(path), None)
