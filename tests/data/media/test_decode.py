"""Damaged, foreign, unreadable files: each has its reason; nothing leaks; forks and threads."""

from __future__ import annotations

import multiprocessing
import os
import struct
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from data.media.writing import chirp, write_film, write_picture, write_sound

from mmeq.data.media.clip import Absent, Broken, Clip
from mmeq.data.media.decode import (
    probe_audio,
    probe_image,
    probe_video,
    read_audio,
    read_frames,
    read_image,
)
from mmeq.errors import MmeqError


def clip(path, start=None, end=None):
    return Clip(path, path.name, start, end)


def sound(path):
    return read_audio(clip(path), 16000, 3.0)


def film(path):
    return read_frames(clip(path), 1.0, 10, 32)


def spoken(seconds=3.0, codec="aac"):
    return (chirp(seconds, 44100), 44100, codec)


ALL = {
    "sound": sound, "film": film, "image": lambda path: read_image(clip(path), 32),
    "probe sound": lambda path: probe_audio(clip(path)),
    "probe film": lambda path: probe_video(clip(path)),
    "probe image": lambda path: probe_image(clip(path)),
}  # fmt: skip
TIMED = [name for name in ALL if "image" not in name]
FILMS = [
    ("a.mp4", "libx264", "aac"), ("a.flv", "flv", "libmp3lame"), ("a.avi", "mpeg4", "pcm_s16le"),
    ("b.avi", "mpeg4", "libmp3lame"), ("a.mkv", "libx264", "aac"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "codec", "heard"), FILMS)
def test_length(tmp_path, name, codec, heard):
    path = write_film(tmp_path / name, 3.0, codec=codec, sound=spoken(3.0, heard))
    for probe in (probe_audio, probe_video):
        assert probe(clip(path)) == pytest.approx(3.0, abs=0.05)
        assert probe(clip(path, 1.0, 1.5)) == pytest.approx(0.5)
        assert probe(clip(path, 1.0)) == pytest.approx(2.0, abs=0.05)
        assert probe(clip(path, 1.0, 99.0)) == pytest.approx(2.0, abs=0.05)
        with pytest.raises(Broken, match=r"begins at 5\.0 s, but the file ends at 3\.0 s"):
            probe(clip(path, 5.0, 6.0))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_s16le"), ("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.flac", "flac")],
)
def test_length_of_sound(tmp_path, name, codec):
    path = write_sound(tmp_path / name, chirp(3.0, 48000), 48000, codec)
    assert probe_audio(clip(path)) == pytest.approx(3.0, abs=0.05)
    with pytest.raises(Absent, match="no video track"):
        probe_video(clip(path))


def test_one_frame_and_one_block(tmp_path):
    """All packets are read before the first frame comes out: no reason to call it truncated."""
    for name, codec, b_frames in (
        ("a.mp4", "libx264", 2),
        ("a.flv", "flv", 0),
        ("a.avi", "mpeg4", 0),
    ):
        path = write_film(tmp_path / name, 0.04, codec=codec, b_frames=b_frames)
        probe_video(clip(path))
        assert len(film(path)) == 1
    for name, codec in (("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mp3", "libmp3lame")):
        path = write_sound(tmp_path / name, chirp(0.02, 22050), 22050, codec)
        probe_audio(clip(path))
        assert len(sound(path)) == 320


@pytest.mark.parametrize("what", ALL)
@pytest.mark.parametrize(("data", "why"), [
    (b"", "empty file"),
    (b"1001_DFA_ANG_XX,ANG\n" * 40, "text, neither sound nor film"),
    (b"<!DOCTYPE html><html>video unavailable</html>", "text, neither sound nor film"),
    (bytes(np.random.default_rng(3).integers(0, 256, 5000, dtype=np.uint8)), "neither sound"),
    (b"\0" * 4096, "neither sound"),
    (b"1\n00:00:01,000 --> 00:00:02,000\nsubtitles\n\n" * 9, "neither sound nor picture in it"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", ["mp4", "wav", "flv"])
def test_what_is_no_media_file(tmp_path, what, data, why, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(Broken) as found:
        ALL[what](path)
    assert str(found.value).startswith("no picture" if "image" in what and data else why)
    assert str(tmp_path) not in str(found.value)


def test_wrong_suffix_is_no_matter(tmp_path):
    path = write_sound(tmp_path / "a.wav", chirp(1.0, 16000), 16000)
    right = sound(path)
    assert np.array_equal(sound(path.rename(tmp_path / "a.flv")), right)
    path = write_film(tmp_path / "a.mp4", 1.0)
    right = film(path)
    assert np.array_equal(film(path.rename(tmp_path / "a.wav")), right)


@pytest.mark.parametrize("what", TIMED)
def test_mp4_without_index(tmp_path, what):
    """The index is written last: what a killed download leaves."""
    path = write_film(tmp_path / "a.mp4", codec="libx264", sound=spoken())
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(Broken, match=r"truncated or damaged: no index \(moov\)"):
        ALL[what](path)


@pytest.mark.parametrize("what", TIMED)
@pytest.mark.parametrize(("name", "codec", "heard"), FILMS)
def test_truncated_films(tmp_path, name, codec, heard, what):
    """A third is left, of a file that says how long it was."""
    options = {"movflags": "faststart"} if name.endswith("mp4") else None
    path = write_film(tmp_path / name, 6.0, codec=codec, sound=spoken(6.0, heard), options=options)
    data = path.read_bytes()
    # an index at the beginning stays whole
    begin = data.index(b"mdat") if name.endswith("mp4") else 0
    path.write_bytes(data[: begin + (len(data) - begin) // 3])
    with pytest.raises(Broken, match=r"truncated: (1\.[6-9]|2\.\d) of 6\.\d s"):
        ALL[what](path)
    path.write_bytes(data[: begin + (len(data) - begin) * 4 // 5])
    ALL[what](path)


@pytest.mark.parametrize(("name", "codec"), [
    ("a.wav", "pcm_s16le"), ("b.wav", "pcm_s24le"), ("a.flac", "flac"), ("a.mp3", "libmp3lame"),
])  # fmt: skip
def test_truncated_sound(tmp_path, name, codec):
    path = write_sound(tmp_path / name, chirp(3.0, 22050), 22050, codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    for reader in (sound, ALL["probe sound"]):
        with pytest.raises(Broken, match=r"truncated: (0\.[4-9]|1\.\d) of 3\.0 s"):
            reader(path)
    path.write_bytes(data[: len(data) * 4 // 5])
    probe_audio(clip(path))
    assert 0.7 < len(sound(path)) / 48000 < 0.85


def test_mp3_of_changing_bit_rate_is_not_called_truncated(tmp_path):
    """Its length, as FFmpeg guesses it by the rate of the first frames, is many times too long."""
    quiet, loud = np.zeros(5 * 44100), np.random.default_rng(0).normal(0, 0.2, 5 * 44100)
    path, samples = tmp_path / "a.mp3", np.concatenate([quiet, loud])
    with av.open(str(path), "w", options={"write_xing": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=44100, layout="mono")
        stream.codec_context.options = {"q": "0"}
        stream.codec_context.qscale = True
        stream.codec_context.global_quality = 0
        for start in range(0, len(samples) - 1152, 1152):
            part = samples[None, start : start + 1152].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert container.duration > 22e6
    probe_audio(clip(path))
    assert len(read_audio(clip(path), 16000)) == pytest.approx(160_000, rel=0.02)


def test_wav_of_a_pipe_does_not_know_its_length(tmp_path):
    path = write_sound(tmp_path / "a.wav", chirp(1.0, 16000), 16000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        data[4:8] = data[at : at + 4] = size.to_bytes(4, "little")
        path.write_bytes(data)
        probe_audio(clip(path))
        assert len(sound(path)) == 16000


@pytest.mark.parametrize("told", [0.0, 1.0, 300.0])
def test_flv_that_tells_a_wrong_length(tmp_path, told):
    """It ends with a whole tag: nothing is missing, and its packets tell how long it is."""
    path = write_film(tmp_path / "a.flv", 3.0, codec="flv", sound=spoken(3.0, "libmp3lame"))
    data = bytearray(path.read_bytes())
    at = data.index(b"duration") + 9
    data[at : at + 8] = struct.pack(">d", told)
    path.write_bytes(data)
    assert probe_audio(clip(path)) == pytest.approx(3.0, abs=0.05)
    assert probe_video(clip(path)) == pytest.approx(3.0, abs=0.05)
    assert len(film(path)) == 3
    assert len(sound(path)) == 48000


def test_a_track_shorter_than_the_film_is_whole(tmp_path):
    for name, codec, heard in FILMS:
        path = write_film(tmp_path / name, 4.0, codec=codec, sound=spoken(1.0, heard))
        probe_audio(clip(path))
        assert len(sound(path)) == pytest.approx(16000, rel=0.1)
        assert len(film(path)) == 4
        path = write_film(tmp_path / name, 1.0, codec=codec, sound=spoken(4.0, heard))
        probe_video(clip(path))
        assert len(film(path)) == 1


def test_no_fates(tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    for reader in (sound, ALL["probe sound"]):
        with pytest.raises(Broken, match="no samples"):
            reader(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.flv", "flv")])
def test_content_that_is_noise(tmp_path, name, codec):
    """Headers are sound, the frames are not."""
    path = write_film(
        tmp_path / name,
        3.0,
        codec=codec,
        options={"movflags": "faststart"} if name == "a.mp4" else None,
    )
    data = bytearray(path.read_bytes())
    if name == "a.mp4":
        at = data.index(b"mdat") + 4
        data[at:] = np.random.default_rng(0).integers(0, 256, len(data) - at, np.uint8).tobytes()
    else:
        at = 13
        while at + 15 < len(data):  # tags: kind, size, time; then the packet
            size = int.from_bytes(data[at + 1 : at + 4], "big")
            if data[at] == 9:
                data[at + 12 : at + 11 + size] = bytes(size - 1)
            at += size + 15
    path.write_bytes(data)
    for reader in (film, ALL["probe film"]):
        with pytest.raises(Broken, match=r"decoded|no frames|truncated"):
            reader(path)


def test_a_track_that_turns_up_late(tmp_path):
    """PyAV's demuxer stops with an IndexError at a track that it did not know from the opening."""
    path = write_film(tmp_path / "a.flv", 6.0, codec="flv", sound=spoken(6.0, "libmp3lame"))
    whole_sound, whole_film = sound(path), film(path)
    data, at, tags = bytearray(path.read_bytes()), 13, 0
    while at + 15 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        tags += data[at] == 8
        if data[at] == 8 and tags == 150:
            data[at + 11] = 0x52 | data[at + 11] & 1  # another codec: Nellymoser at 8 kHz
        at += size + 15
    path.write_bytes(data)
    assert np.array_equal(film(path), whole_film)
    assert len(sound(path)) == len(whole_sound)
    with av.open(str(path)) as container, pytest.raises(IndexError):
        list(container.demux())


def test_missing_and_unreadable_files_are_not_called_broken(tmp_path):
    for reader in ALL.values():
        with pytest.raises(MmeqError, match=r"gone\.mp4 cannot be read: No such file"):
            reader(tmp_path / "gone.mp4")
        with pytest.raises(MmeqError, match="is no file"):
            reader(Path(os.devnull))


def test_a_folder_in_place_of_a_clip_is_broken(tmp_path):
    """It will not pass: what is told of other broken clips is told of it, by name."""
    (tmp_path / "a.mp4").mkdir()
    for reader in ALL.values():
        with pytest.raises(Broken, match="a folder in place of a file"):
            reader(tmp_path / "a.mp4")


@pytest.mark.skipif(sys.platform != "linux", reason="a file that opens and fails to read")
def test_a_disk_that_fails_is_not_called_broken():
    """Reading one's own memory at address zero is an input/output error."""
    for reader in ALL.values():
        with pytest.raises(MmeqError, match="cannot be read: Input/output error"):
            reader(Path("/proc/self/mem"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write_sound(tmp_path / "a.wav", chirp(1.0, 16000), 16000)
    path.chmod(0)
    with pytest.raises(MmeqError, match=r"a\.wav cannot be read: Permission denied"):
        sound(path)


def test_too_many_open_files_is_not_the_files_fault(tmp_path):
    resource = pytest.importorskip("resource")
    path = write_film(tmp_path / "a.mp4", 1.0, sound=spoken(1.0))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = os.open(path, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 1, limit[1]))
    try:
        for reader in (sound, film, ALL["probe sound"], ALL["image"]):
            with pytest.raises(MmeqError, match=r"a\.mp4 cannot be read: Too many open files"):
                reader(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        os.close(held)


def test_names_that_look_like_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.wav", "http:x.wav", "a %03d #ä.wav", "-i.wav"):
        write_sound(tmp_path / "plain.wav", chirp(0.5, 16000), 16000).rename(tmp_path / name)
        assert len(sound(Path(name))) == 8000


def test_a_playlist_opens_no_other_file(tmp_path):
    """A text that names files, under the name of a film, reads none of them over a network."""
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    for what in TIMED:
        with pytest.raises(Broken):
            ALL[what](path)


def fates(folder):
    """One file of each fate."""
    write_film(folder / "a.mp4", 1.0, codec="libx264", sound=spoken(1.0))
    write_film(folder / "a.flv", 1.0, codec="flv")
    write_sound(folder / "a.wav", chirp(1.0, 22050), 22050)
    write_picture(folder / "a.jpg", np.zeros((30, 40, 3), np.uint8))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_bytes(b"no film\n" * 50)
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:9000])
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-300])
    (folder / "cut.flv").write_bytes((folder / "a.flv").read_bytes()[:3000])
    return sorted(folder.iterdir())


def outcome(path):
    """What each reader makes of a file, in plain values."""
    out = []
    for name, reader in ALL.items():
        try:
            found = reader(path)
            out.append((name, found.sum() if isinstance(found, np.ndarray) else found))
        except (Absent, Broken) as error:
            out.append((name, f"{type(error).__name__}: {error}"))
    return out


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files by /proc")
def test_nothing_stays_open(tmp_path):
    """200 calls and more over good, foreign and damaged files."""
    paths = fates(tmp_path)
    outcome(paths[0])
    before, calls = len(list(Path("/proc/self/fd").iterdir())), 0
    while calls < 200:
        for path in paths:
            calls += len(outcome(path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threads_and_forked_workers_see_the_same(tmp_path):
    paths = fates(tmp_path)
    alone = [outcome(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, paths * 4)) == alone * 4
    if "fork" in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(outcome, paths * 2).get(60) == alone * 2


def test_ffmpeg_keeps_silent(tmp_path, capfd):
    for path in fates(tmp_path):
        outcome(path)
    assert capfd.readouterr() == ("", "")


def test_importing_loads_no_scipy():
    """It takes as long as reading a hundred clips."""
    code = "import sys, mmeq.data.media.decode; sys.exit('scipy.signal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
