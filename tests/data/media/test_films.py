"""Film: the right frames of every container, of spans and halves, upright, and as many as asked."""

from __future__ import annotations

import math

import av
import numpy as np
import pytest
from data.media.writing import chirp, number_of, numbered, write_film, write_sound
from hypothesis import given
from hypothesis import strategies as st

from mmeq.data.media import films
from mmeq.data.media.clip import Absent, Broken, Clip
from mmeq.data.media.films import middles, read_frames

CONTAINERS = [
    ("a.mp4", "libx264", 2), ("b.mp4", "mpeg4", 0), ("a.flv", "flv", 0), ("a.mkv", "libx264", 2),
    ("a.avi", "mpeg4", 2), ("b.avi", "mpeg4", 0), ("a.webm", "libvpx-vp9", 0),
]  # fmt: skip


def clip(path, start=None, end=None, crop=None):
    return Clip(path, path.name, start, end, crop)


def numbers(frames):
    return [number_of(frame) for frame in frames]


def times(path):
    """Frame numbers in the order and at the times that FFmpeg gives them from the beginning."""
    with av.open(str(path)) as container:
        begin = (container.start_time or 0) / 1e6
        return [
            (frame.time - begin, number_of(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(video=0)
        ]


def shown(found, start, length, fps, most):
    """What shall be kept, from the definition, with all frames in memory."""
    count = max(sum((k + 0.5) / fps < length for k in range(10_000)), 1)
    centres = [start + (k + 0.5) / fps for k in range(count)]
    if count == 1 and 0.5 / fps >= length:
        centres = [start + length / 2]
    if count > most:
        centres = [centres[int((k + 0.5) * count / most)] for k in range(most)]
    kept = [max([n for t, n in found if t <= c + 1e-3], default=found[0][1]) for c in centres]
    return list(dict.fromkeys(kept))


@pytest.mark.parametrize(
    ("name", "codec", "b_frames", "sound"),
    # webm holds no mp3
    [(*one, sound) for one in CONTAINERS for sound in (False, True)[: 2 - ("webm" in one[0])]],
)
def test_frames_shown_at_the_middles(tmp_path, name, codec, b_frames, sound):
    track = (chirp(3.0, 44100), 44100, "libmp3lame") if sound else None
    path = write_film(tmp_path / name, 3.0, codec=codec, b_frames=b_frames, sound=track)
    found = times(path)
    assert [number for _, number in found] == list(range(75))
    with av.open(str(path)) as container:
        told, unit = (getattr(container.streams.video[0], x) for x in ("duration", "time_base"))
    # a film that begins after its sound ends later
    end = found[-1][0] + 0.04 if told is None else float(told * unit)
    for fps, most in ((1.0, 10), (2.5, 10), (25.0, 7), (0.1, 10), (60.0, 999)):
        kept = numbers(read_frames(clip(path), fps, most, None))
        assert kept == shown(found, 0.0, end, fps, most)
    for start, stop in ((0.5, 1.9), (1.33, 1.34), (2.2, 99.0)):
        kept = numbers(read_frames(clip(path, start, stop), 4.0, 10, None))
        assert kept == shown(found, start, min(stop, end) - start, 4.0, 10)


@pytest.mark.parametrize(("name", "codec", "b_frames"), CONTAINERS)
def test_a_seek_loses_no_frame(tmp_path, monkeypatch, name, codec, b_frames):
    path = write_film(
        tmp_path / name, 30.0, 10, codec=codec, b_frames=b_frames, gop=70,
        sound=None if name.endswith("webm") else (chirp(30.0, 22050), 22050, "libmp3lame"),
    )  # fmt: skip
    found, jumps, real = times(path), [], films.jump
    monkeypatch.setattr(films, "jump", lambda *to: jumps.append(to[1]) or real(*to))
    for start, end in ((5.0, 6.0), (13.95, 16.2), (20.97, 21.02), (28.51, 29.9)):
        monkeypatch.setattr(films, "FAR", 5.0)
        near = read_frames(clip(path, start, end), 10.0, 99, None)
        assert numbers(near) == shown(found, start, end - start, 10.0, 99)
        monkeypatch.setattr(films, "FAR", math.inf)
        assert np.array_equal(near, read_frames(clip(path, start, end), 10.0, 99, None))
    assert len(jumps) == (4 if name.endswith(("mp4", "avi")) else 0)


def test_a_seek_that_leads_too_far_is_taken_back(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.avi", 20.0, 10)
    right = read_frames(clip(path, 10.0, 11.0), 4.0, 10, None)
    assert numbers(right) == [101, 103, 106, 108]
    real = films.jump
    monkeypatch.setattr(films, "jump", lambda container, to: real(container, to + 5))
    assert np.array_equal(read_frames(clip(path, 10.0, 11.0), 4.0, 10, None), right)


def test_length_that_no_header_tells(tmp_path):
    """A live flv and a live mkv have no duration: their packets tell it."""
    for name, codec, options in (
        ("a.flv", "flv", {"flvflags": "no_duration_filesize"}),
        ("a.mkv", "mpeg4", {"live": "1"}),
    ):
        path = write_film(tmp_path / name, 4.0, codec=codec, options=options)
        if name == "a.mkv":
            with av.open(str(path)) as container:
                assert container.duration is None
        assert numbers(read_frames(clip(path), 1.0, 10, None)) == [12, 37, 62, 87]
        assert numbers(read_frames(clip(path), 1.0, 2, None)) == [37, 87]


@given(
    seconds=st.floats(0.01, 500),
    fps=st.sampled_from([0.1, 1.0, 2.0, 25.0]),
    most=st.integers(1, 40),
)
def test_middles_lie_in_the_span_in_order_and_evenly(seconds, fps, most):
    kept = middles(seconds, fps, most)
    assert 1 <= len(kept) <= most
    assert all(0 < time < seconds + 1e-9 for time in kept)
    gaps = np.diff(kept)
    assert (gaps > 0).all()
    assert not len(gaps) or gaps.max() - gaps.min() < 1 / fps + 1e-6
    if len(kept) < most:
        assert abs(len(kept) - seconds * fps) <= 0.5 + 1e-6 or len(kept) == 1


def test_crop_and_size(tmp_path):
    """The right half of a wide picture, its shorter side resized."""
    path = write_film(tmp_path / "a.mp4", 1.0, size=(160, 96), codec="libx264")
    all_of_it = read_frames(clip(path), 1.0, 1, None)
    assert all_of_it.shape == (1, 96, 160, 3)
    assert all_of_it.dtype == np.uint8
    half = read_frames(clip(path, crop=(0.5, 0.0, 1.0, 1.0)), 1.0, 1, None)
    assert np.array_equal(half, all_of_it[:, :, 80:])
    assert read_frames(clip(path, crop=(0.5, 0.0, 1.0, 1.0)), 1.0, 1, 40).shape == (1, 48, 40, 3)
    small = read_frames(clip(path), 1.0, 1, 48)
    assert small.shape == (1, 48, 80, 3)
    # columns of 12.3 pixels: away from their edges a smaller picture has the same grey
    assert numbers(small) == numbers(all_of_it)
    assert read_frames(clip(path), 1.0, 1, 192).shape == (1, 192, 320, 3)


def test_pixels_that_are_not_square(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = 2

    path = write_film(tmp_path / "a.mkv", 1.0, size=(64, 64), codec="libx264", change=wide)
    assert read_frames(clip(path), 1.0, 1, 32).shape == (1, 32, 64, 3)
    assert read_frames(clip(path), 1.0, 1, None).shape == (1, 64, 64, 3)


@pytest.mark.skipif(not hasattr(av.VideoFrame, "rotation"), reason="this PyAV tells no rotation")
@pytest.mark.parametrize("turn", [0, 90, 180, -90])
def test_a_phone_held_upright(tmp_path, turn):
    def rotate(stream):
        stream.set_display_rotation(turn)

    plain = read_frames(clip(write_film(tmp_path / "a.mp4", 0.4)), 1.0, 1, None)
    path = write_film(tmp_path / "b.mp4", 0.4, change=rotate)
    with av.open(str(path)) as container:
        told = next(container.decode(video=0)).rotation
    assert abs(told) == abs(turn)
    # counter-clockwise by what the file tells
    assert np.array_equal(
        read_frames(clip(path), 1.0, 1, None), np.rot90(plain, told // 90, axes=(1, 2))
    )


@pytest.mark.skipif(not hasattr(av.VideoFrame, "rotation"), reason="this PyAV tells no rotation")
def test_wide_pixels_stand_upright_after_a_turn(tmp_path):
    def change(stream):
        stream.codec_context.sample_aspect_ratio = 2
        stream.set_display_rotation(90)

    path = write_film(tmp_path / "a.mp4", 0.4, size=(64, 64), codec="libx264", change=change)
    assert read_frames(clip(path), 1.0, 1, 32).shape == (1, 64, 32, 3)


@pytest.mark.parametrize(("name", "codec", "pixels"), [
    ("a.mp4", "libx264", "yuv420p"), ("a.avi", "mjpeg", "yuvj420p"), ("a.flv", "flv", "yuv420p"),
])  # fmt: skip
def test_colours_are_kept(tmp_path, monkeypatch, name, codec, pixels):
    colours = np.array([[250, 250, 250], [5, 5, 5], [200, 30, 30], [30, 180, 40], [40, 50, 200]])
    picture = np.repeat(np.repeat(colours[None].astype(np.uint8), 16, 1), 48, 0)
    monkeypatch.setitem(write_film.__globals__, "numbered", lambda number, size: picture)
    path = write_film(tmp_path / name, 0.4, size=(80, 48), codec=codec, pixels=pixels)
    seen = read_frames(clip(path), 1.0, 1, None)[0, 24, 8::16].astype(int)
    assert abs(seen - colours).max() <= 8


def test_a_last_frame_that_stays(tmp_path):
    """A slide that is shown for ten seconds is no end that is missing."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts = number
            for packet in stream.encode(frame):
                packet.duration = 250 if number == 24 else 1
                container.mux(packet)
        container.mux(stream.encode())
    kept = numbers(read_frames(clip(path), 1.0, 99, None))
    assert kept == [12, 24]


def test_a_cover_is_no_film(tmp_path):
    path = write_sound(tmp_path / "a.mp3", chirp(1.0, 22050), 22050, "libmp3lame")
    with pytest.raises(Absent, match="no video track"):
        read_frames(clip(path), 1.0, 10, None)
    covered = tmp_path / "b.mp3"
    with av.open(str(path)) as source, av.open(str(covered), "w") as container:
        sound = container.add_stream_from_template(source.streams.audio[0])
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(numbered(1), format="rgb24")
        pictures = [*cover.encode(frame), *cover.encode()]
        for packet in source.demux():
            if packet.size:
                packet.stream = sound
                container.mux(packet)
        container.mux(pictures)
    with av.open(str(covered)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(Absent, match="no video track"):
        read_frames(clip(covered), 1.0, 10, None)


def test_a_still_picture_is_a_film_of_one_frame(tmp_path):
    path = write_film(tmp_path / "a.avi", 0.04, codec="mjpeg", pixels="yuvj420p")
    assert numbers(read_frames(clip(path), 1.0, 10, None)) == [0]


def test_a_span_after_the_end_is_broken(tmp_path):
    for name, codec in (("a.mp4", "mpeg4"), ("a.flv", "flv")):
        path = write_film(tmp_path / name, 1.0, codec=codec)
        with pytest.raises(Broken, match=r"begins at 7\.0 s, but the file ends at 1\.0"):
            read_frames(clip(path, 7.0, 8.0), 1.0, 10, None)
