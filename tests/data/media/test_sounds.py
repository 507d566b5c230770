"""Sound: every sample format and codec, exact cuts, one mix, a resampler that folds nothing."""

from __future__ import annotations

import math

import av
import numpy as np
import pytest
from data.media.writing import chirp, tone, write_film, write_sound

from mmeq.data.media import sounds
from mmeq.data.media.clip import Absent, Broken, Clip
from mmeq.data.media.sounds import read_audio, resample


def clip(path, start=None, end=None):
    return Clip(path, path.name, start, end)


def whole(wave):
    """As int16, by another formula than the reader's."""
    return np.round(wave * 32768.0).clip(-32768, 32767)


def likeness(heard, wave, rate):
    """Largest correlation with a reference over ±60 ms, and the delay in samples there."""
    reach = round(0.06 * rate)
    count = min(len(heard), len(wave)) - 2 * reach
    middle = wave[reach : reach + count]
    found = {}
    for delay in range(-reach, reach + 1):
        part = heard[reach + delay : reach + delay + count].astype(float)
        if len(part) == count:
            norm = np.linalg.norm(part) * np.linalg.norm(middle)
            found[delay] = float(part @ middle / norm)
    delay = max(found, key=found.get)
    return found[delay], delay


@pytest.mark.parametrize(
    ("codec", "steps"),
    [("pcm_u8", 2**7), ("pcm_s16le", 2**15), ("pcm_s24le", 2**23), ("pcm_s32le", 2**31),
     ("pcm_f32le", 2**24), ("pcm_f64le", 2**24)],
)  # fmt: skip
def test_sample_formats_of_wav(tmp_path, codec, steps):
    wave = chirp(0.5, 8000)
    heard = read_audio(clip(write_sound(tmp_path / "a.wav", wave, 8000, codec)), 8000)
    assert heard.dtype == np.int16
    assert heard.shape == (4000,)
    assert abs(heard - whole(wave)).max() <= max(2.0**15 / steps, 1.0)


def test_int16_passes_bit_for_bit(tmp_path):
    wave = np.random.default_rng(0).integers(-(2**15), 2**15, 9001) / 2.0**15
    heard = read_audio(clip(write_sound(tmp_path / "a.wav", wave, 16000)), 16000)
    assert np.array_equal(heard, (wave * 2**15).astype(np.int16))


def test_channels_are_averaged(tmp_path):
    wave = np.stack([tone(0.5, 16000, 300), tone(0.5, 16000, 700, 0.25)])
    for codec in ("pcm_s16le", "pcm_f32le"):
        heard = read_audio(clip(write_sound(tmp_path / "a.wav", wave, 16000, codec)), 16000)
        assert abs(heard - whole(wave.mean(0))).max() <= 1.0


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.mp3", "libmp3lame", 22050), ("a.ogg", "libopus", 48000), ("a.m4a", "aac", 22050),
     ("a.flac", "flac", 44100)],
)  # fmt: skip
def test_compressed_sound_is_where_it_was(tmp_path, name, codec, rate):
    heard = read_audio(clip(write_sound(tmp_path / name, chirp(2.0, rate), rate, codec)), 16000)
    same, delay = likeness(heard, chirp(2.0, 16000), 16000)
    assert same > 0.99
    assert abs(delay) <= 1
    assert len(heard) == pytest.approx(32000, abs=0.05 * 16000)


@pytest.mark.parametrize(
    ("name", "film", "codec"),
    [("a.mp4", "libx264", "aac"), ("a.flv", "flv", "libmp3lame"), ("a.avi", "mpeg4", "libmp3lame"),
     ("b.avi", "mpeg4", "pcm_s16le"), ("a.mkv", "libx264", "aac")],
)  # fmt: skip
def test_sound_of_a_film(tmp_path, name, film, codec):
    path = write_film(tmp_path / name, 2.0, codec=film, sound=(chirp(2.0, 44100), 44100, codec))
    same, delay = likeness(read_audio(clip(path), 16000), chirp(2.0, 16000), 16000)
    assert same > 0.99
    # mp3 in flv and avi is not told to be gapless: an encoder's and a decoder's delay come before
    assert abs(delay) <= (2 if codec != "libmp3lame" else 0.03 * 16000)


def test_a_film_without_sound_lacks_it(tmp_path):
    with pytest.raises(Absent, match="no audio track"):
        read_audio(clip(write_film(tmp_path / "a.mp4", 0.5)), 16000)


def test_eight_channels(tmp_path):
    """PyAV's own to_ndarray reads a ninth plane, and ends the process."""
    path = tmp_path / "a.m4a"
    wave = (8000 * np.sin(np.arange(20480) / 9)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="7.1")
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, 8)[None], format="s16", layout="7.1")
        frame.sample_rate, frame.pts = 44100, 0
        for part in av.AudioResampler("fltp", "7.1", 44100, 1024).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    heard = read_audio(clip(path), 44100)
    # the last of the eight, LFE, keeps little of a tone of 780 Hz
    assert 0.8 * wave.std() < heard[2000:18000].std() < 1.1 * wave.std()


@pytest.mark.parametrize(("start", "end"), [(None, 0.5), (0.25, 0.75), (1.0001, 1.5), (0.3, None)])
def test_spans_are_cut_by_the_sample(tmp_path, start, end):
    wave = chirp(2.0, 16000)
    path = write_sound(tmp_path / "a.wav", wave, 16000)
    begin = round((start or 0) * 16000)
    count = 32000 - begin if end is None else round((end - (start or 0)) * 16000)
    heard = read_audio(clip(path, start, end), 16000)
    assert len(heard) == count
    assert abs(heard - whole(wave[begin : begin + count])).max() <= 1


@pytest.mark.parametrize("rate", [16000, 22050, 11025, 48000])
def test_length_of_a_resampled_span(tmp_path, rate):
    path = write_sound(tmp_path / "a.wav", chirp(2.0, 44100), 44100)
    for start, end in ((0.1, 1.3333), (0.5, 0.50071), (1.0, 1.9999)):
        assert len(read_audio(clip(path, start, end), rate)) == round((end - start) * rate)
    assert len(read_audio(clip(path), rate, 1.2345)) == round(1.2345 * rate)
    assert len(read_audio(clip(path, 0.5, 1.5), rate, 0.25)) == round(0.25 * rate)
    assert len(read_audio(clip(path), rate, 9.0)) == 2 * rate
    assert len(read_audio(clip(path, 1.5, 9.0), rate)) == math.ceil(rate / 2)


@pytest.mark.parametrize(
    ("name", "codec", "tolerance"),
    [("a.wav", "pcm_s16le", 0), ("a.avi", "pcm_s16le", 0), ("b.avi", "libmp3lame", 1),
     ("a.mp4", "aac", 1), ("a.flv", "libmp3lame", 0), ("a.mkv", "aac", 0),
     ("a.mp3", "libmp3lame", 0)],
)  # fmt: skip
def test_a_seek_gives_what_decoding_from_the_beginning_gives(
    tmp_path, monkeypatch, name, codec, tolerance
):
    """Bit for bit in PCM; a lossy decoder may round otherwise after another beginning."""
    wave, path = chirp(20.0, 44100, 100, 8000), tmp_path / name
    if name.endswith(("wav", "mp3")):
        write_sound(path, wave, 44100, codec)
    else:
        film = "flv" if name.endswith("flv") else "mpeg4"
        write_film(path, 20.0, 10, codec=film, sound=(wave, 44100, codec))
    jumps = []
    real = sounds.jump
    monkeypatch.setattr(sounds, "jump", lambda *to: jumps.append(to[1]) or real(*to))
    for start, end in ((5.0, 6.0), (12.3456, 14.0), (18.77, 19.5)):
        monkeypatch.setattr(sounds, "FAR", 5.0)
        near = read_audio(clip(path, start, end), 16000)
        monkeypatch.setattr(sounds, "FAR", math.inf)
        assert abs(near.astype(int) - read_audio(clip(path, start, end), 16000)).max() <= tolerance
        assert len(near) == round((end - start) * 16000)
    assert len(jumps) == (3 if name.endswith(("wav", "avi", "mp4")) else 0)


def test_a_seek_that_leads_too_far_is_taken_back(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "a.wav", chirp(20.0, 8000), 8000)
    right = read_audio(clip(path, 10.0, 11.0), 8000)
    real = sounds.jump
    monkeypatch.setattr(sounds, "jump", lambda container, to: real(container, to + 5))
    assert np.array_equal(read_audio(clip(path, 10.0, 11.0), 8000), right)


def test_sound_that_begins_late_is_silent_before(tmp_path):
    """A track that starts 0.5 s after the film is heard at its own time in a span."""
    path, wave = tmp_path / "a.mkv", chirp(2.0, 16000)
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=10)
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        heard = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = number
            container.mux(film.encode(frame))
        container.mux(film.encode())
        frame = av.AudioFrame.from_ndarray(
            whole(wave).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = 16000, 8000
        container.mux(heard.encode(frame))
        container.mux(heard.encode())
    span = read_audio(clip(path, 0.25, 1.0), 16000)
    assert not span[:4000].any()
    assert np.array_equal(span[4000:], whole(wave[:8000]))
    assert len(read_audio(clip(path), 16000)) == 32000


def test_a_span_after_the_end_is_broken(tmp_path):
    path = write_sound(tmp_path / "a.wav", chirp(1.0, 8000), 8000)
    with pytest.raises(Broken, match=r"begins at 3\.0 s, but the file ends at 1\.0 s"):
        read_audio(clip(path, 3.0, 4.0), 8000)
    # an ogg does not tell its length beforehand
    path = write_sound(tmp_path / "a.ogg", chirp(1.0, 48000), 48000, "libopus")
    with pytest.raises(Broken, match=r"no sound from 3\.0 s on"):
        read_audio(clip(path, 3.0, 4.0), 8000)


def test_samples_that_are_no_numbers_are_broken(tmp_path):
    wave = chirp(1.0, 8000)
    wave[500] = np.nan
    path = write_sound(tmp_path / "a.wav", wave, 8000, "pcm_f32le")
    with pytest.raises(Broken, match="not finite"):
        read_audio(clip(path), 8000)


@pytest.mark.parametrize("level", [4.0, 3e38])
def test_what_is_louder_than_full_scale_is_cut_off(tmp_path, level):
    path = write_sound(tmp_path / "a.wav", tone(0.5, 44100, 100, level), 44100, "pcm_f32le")
    with np.errstate(all="raise"):
        for rate in (44100, 16000):
            heard = read_audio(clip(path), rate)
            assert (heard.min(), heard.max()) == (-32768, 32767)
            assert len(heard) == rate // 2


def test_rounding_is_to_the_nearest(tmp_path):
    steps = np.array([0.6, -0.6, 1.4, -1.4, 2.5, 3.5] * 100)
    path = write_sound(tmp_path / "a.wav", steps / 32768, 8000, "pcm_f32le")
    assert read_audio(clip(path), 8000)[:6].tolist() == [1, -1, 1, -1, 2, 4]


@pytest.mark.parametrize(("native", "rate"), [(44100, 16000), (48000, 22050), (16000, 22050)])
def test_resampling_keeps_tones_and_folds_nothing(native, rate):
    nyquist = min(native, rate) / 2
    inner = slice(rate // 10, -rate // 10)
    for hertz in (50.0, 440.0, 0.5 * nyquist, 0.84 * nyquist):
        heard = resample(tone(1.0, native, hertz).astype(np.float32), native, rate)
        assert len(heard) == rate
        assert abs(heard - tone(1.0, rate, hertz))[inner].max() < 2e-3 * 0.5
    if rate < native:
        for hertz in (1.0 * nyquist, 1.05 * nyquist, 1.3 * nyquist, 0.9 * native / 2):
            heard = resample(tone(1.0, native, hertz).astype(np.float32), native, rate)
            assert abs(heard)[inner].max() < 10 ** (-70 / 20) * 0.5


@pytest.mark.parametrize(("native", "rate"), [(44100, 16000), (8000, 22050), (16000, 8000)])
def test_resampled_length(native, rate):
    for count in (1, 2, 7, 160, 441, 1000):
        wave = np.ones(count, np.float32)
        assert len(resample(wave, native, rate)) == math.ceil(count * rate / native)
