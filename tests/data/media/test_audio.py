"""Audio format: what is kept, cuts and fills, features against references, masks, absence."""

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi as kaldi

from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.clip import Absent, Blob, Clip
from mmeq.data.media.spectra import spec_augment
from mmeq.errors import MmeqError
from tests.data.media.writing import chirp, write_film, write_sound


def blob(wave):
    """A waveform of int16 as the format keeps it."""
    wave = np.asarray(wave, dtype="<i2")
    data = wave.view(np.uint8)
    data.setflags(write=False)  # as of a mapped file
    return Blob(data, wave.shape)


def noise(count, seed=0, level=3000):
    return blob(np.random.default_rng(seed).standard_normal(count) * level)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def samples(wave_blob):
    return torch.from_numpy(wave_blob.data.copy().view("<i2").astype(np.float32)) / 32768


def view(format, blobs, training=False, seed=0):
    return format.view(blobs, training, generator(seed))


SHORT = {"rate": 1000, "seconds": 0.01}
"""Ten samples."""


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (48000,)),
        ({"rate": 22050, "features": "spectrogram"}, (257, 188)),
        ({"rate": 22050, "features": "spectrogram", "n_fft": 400, "hop": 441}, (201, 151)),
        ({"seconds": 10.24, "features": "fbank"}, (128, 1024)),
        ({"seconds": 0.999, "features": "fbank", "bins": 40, "rate": 44100}, (40, 100)),
        ({"seconds": 2.0, "features": "fbank", "rate": 22050}, (128, 200)),
    ],
)
def test_shape_is_that_of_the_batch(options, shape):
    format = AudioFormat(**options)
    assert format.shape == shape
    for training in (False, True):
        batch = view(format, [noise(70000), None, noise(900)], training)
        assert batch.shape == (3, *shape)
        assert batch.dtype == torch.float32
        assert torch.isfinite(batch).all()
        assert batch[0].any()
        assert not batch[1].any()


def test_reads_a_file_as_mono_at_its_rate(tmp_path):
    path = write_sound(tmp_path / "a.wav", chirp(2.0, 22050), 22050)
    found = AudioFormat(rate=16000).read(Clip(path, "a.wav"))
    assert found.shape == (32000,)
    assert found.data.dtype == np.uint8
    assert len(found.data) == 64000
    wanted = chirp(2.0, 16000)
    assert np.abs(samples(found).numpy() - wanted)[200:-200].max() < 0.02
    assert AudioFormat().probe(Clip(path, "a.wav")) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"cut": "start", "seconds": 2.0}, 2000),
        ({"cut": "centre", "seconds": 2.0}, 60000),
        ({"cut": "random", "seconds": 2.0}, 60000),
        ({"cut": "random", "seconds": 65.0}, 65000),
    ],
)
def test_keeps_no_more_than_it_may_need(tmp_path, options, kept):
    path = write_sound(tmp_path / "a.wav", chirp(70.0, 1000, 10, 400), 1000)
    assert AudioFormat(rate=1000, **options).read(Clip(path, "a.wav")).shape == (kept,)


def test_film_without_sound_lacks_the_modality(tmp_path):
    path = write_film(tmp_path / "a.mp4", seconds=1.0)
    for look in (AudioFormat().read, AudioFormat().probe):
        with pytest.raises(Absent):
            look(Clip(path, "a.mp4"))


def test_fills_a_shorter_clip():
    wave = [100, -200, 300, 32767]
    tiled = view(AudioFormat(**SHORT), [blob(wave)])[0] * 32768
    assert tiled.tolist() == [100, -200, 300, 32767, 100, -200, 300, 32767, 100, -200]
    padded = view(AudioFormat(**SHORT, fill="zero"), [blob(wave)])[0] * 32768
    assert padded.tolist() == [*wave, 0, 0, 0, 0, 0, 0]
    assert not view(AudioFormat(**SHORT), [blob([])]).any()


@pytest.mark.parametrize(
    ("cut", "evaluation", "training"),
    [("start", {0}, {0}), ("centre", {2}, {2}), ("random", {2}, {0, 1, 2, 3, 4, 5})],
)
def test_cuts_a_longer_clip(cut, evaluation, training):
    format, clip = AudioFormat(**SHORT, cut=cut), blob(np.arange(15))
    begins = {False: set(), True: set()}
    for seed in range(80):
        for is_training in (False, True):
            found = (view(format, [clip], is_training, seed)[0] * 32768).int().tolist()
            assert found == list(range(found[0], found[0] + 10))
            begins[is_training].add(found[0])
    assert begins == {False: evaluation, True: training}
    together = (view(format, [clip] * 80, True)[:, 0] * 32768).int().tolist()
    assert set(together) == training  # each sample by itself


def test_spectrogram_is_the_log_of_the_magnitudes():
    format = AudioFormat(rate=8000, seconds=0.1, features="spectrogram", n_fft=64, hop=50)
    clip = noise(800)
    padded = np.pad(samples(clip).numpy().astype(float), 32)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    frames = np.stack([padded[50 * t : 50 * t + 64] * hann for t in range(17)])
    wanted = np.log(np.abs(np.fft.rfft(frames)) + 1e-7).T
    found = view(format, [noise(800, 1), clip])[1]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-3)
    silent = view(format, [blob(np.zeros(800))])
    torch.testing.assert_close(silent, torch.full_like(silent, float(np.log(1e-7))))


def reference(wave, rate=16000, bins=128):
    """AST's filter bank of one waveform."""
    return kaldi.fbank(
        (wave - wave.mean())[None],
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=bins,
        dither=0.0,
        frame_shift=10,
    ).T


@pytest.mark.parametrize(("rate", "bins"), [(16000, 128), (16000, 64), (22050, 80)])
def test_fbank_is_kaldis(rate, bins):
    format = AudioFormat(
        rate=rate, seconds=1.28, features="fbank", bins=bins, fill="zero", cut="start"
    )
    time = np.arange(2 * rate) / rate
    clips = [
        noise(round(1.28 * rate)),
        noise(rate // 2, 1, 200),
        blob(15000 * np.sin(2 * np.pi * 440 * time)),
        blob(3000 * np.sin(2 * np.pi * 100 * time) + 8000),
    ]
    found = view(format, clips)
    for row, clip in enumerate(clips):
        wanted = reference(samples(clip)[: format.samples], rate, bins)[:, :128]
        frames = wanted.shape[1]
        torch.testing.assert_close(found[row, :, :frames], wanted, atol=1e-4, rtol=0)
        assert not found[row, :, frames:].any()  # AST pads the bank, not the waveform


def test_fbank_of_a_full_clip_has_two_frames_of_padding_as_in_ast():
    options = {"seconds": 10.24, "features": "fbank", "fill": "zero", "cut": "start"}
    plain = view(AudioFormat(**options), [noise(163840)])
    assert plain[0, :, :1022].ne(0).all()
    assert not plain[0, :, 1022:].any()
    scaled = view(AudioFormat(**options, mean=-5.081, std=4.4849), [noise(163840), None])
    torch.testing.assert_close(scaled[0], (plain[0] + 5.081) / 4.4849)
    assert not scaled[1].any()


def test_fbank_of_a_tiled_clip_is_that_of_the_repeated_waveform():
    format, clip = AudioFormat(seconds=1.0, features="fbank"), noise(5000)
    wanted = reference(samples(clip).repeat(4)[:16000])
    torch.testing.assert_close(view(format, [clip])[0, :, :98], wanted, atol=1e-4, rtol=0)


def test_clip_shorter_than_a_window_is_padding():
    format = AudioFormat(seconds=1.0, features="fbank", fill="zero", mean=1.0, std=2.0)
    assert view(format, [noise(399)]).eq(-0.5).all()
    assert view(format, [noise(400)])[0, :, 0].ne(-0.5).any()


def test_normalises_waveforms_too():
    format = AudioFormat(**SHORT, mean=0.25, std=2.0)
    found = view(format, [blob(np.full(10, 16384)), None])
    assert found[0].eq(0.125).all()
    assert not found[1].any()


def test_masks_follow_their_draws():
    draws = torch.rand(50, 4, generator=generator(3))
    found = spec_augment(torch.ones(50, 20, 30), draws, 8, 12, torch.arange(50.0) - 100)
    for row in range(50):
        wanted = torch.ones(20, 30)
        for axis, limit, (width, start) in ((0, 8, draws[row, :2]), (1, 12, draws[row, 2:])):
            width = float(width * limit)
            begin = int(start * (wanted.shape[axis] - width))
            wanted.narrow(axis, begin, int(width)).fill_(row - 100)
        assert torch.equal(found[row], wanted)


@pytest.mark.parametrize("mean", [None, 0.5])
def test_training_masks_a_band_and_a_stretch(mean):
    options = {"features": "fbank", "seconds": 1.0, "cut": "start", "fill": "tile"}
    scale = {} if mean is None else {"mean": mean, "std": 2.0}
    plain = AudioFormat(**options, **scale)
    masking = AudioFormat(**options, **scale, freq_mask=40, time_mask=30)
    clips = [noise(16000, k) for k in range(30)] + [None]
    clean = view(plain, clips)
    assert torch.equal(view(plain, clips, True), clean)
    assert torch.equal(view(masking, clips), clean)
    masked = view(masking, clips, True)
    changed = masked != clean
    rows, columns = changed.all(2).sum(1)[:30], changed.all(1).sum(1)[:30]
    assert 12 < rows.float().mean() < 28
    assert rows.max() < 40
    assert len(set(rows.tolist())) > 10
    assert 7 < columns.float().mean() < 23
    assert columns.max() < 30
    fill = torch.zeros(31) if mean is not None else clean.mean((1, 2))
    assert torch.equal(masked, torch.where(changed, fill[:, None, None], clean))
    assert not masked[30].any()


FORMATS = [
    AudioFormat(seconds=0.5),
    AudioFormat(seconds=0.5, features="spectrogram", freq_mask=30, time_mask=5),
    AudioFormat(seconds=0.5, features="fbank", freq_mask=30, time_mask=10, mean=-5, std=4),
]


@pytest.mark.parametrize("format", FORMATS)
def test_only_training_is_random_and_follows_the_generator(format):
    clips = [noise(20000, k) for k in range(5)]
    first, again, other = (view(format, clips, True, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    moving = generator(1)
    assert not torch.equal(format.view(clips, True, moving), format.view(clips, True, moving))
    assert torch.equal(view(format, clips, False, 1), view(format, clips, False, 2))
    untouched = generator(4)
    format.view(clips, False, untouched)
    assert torch.equal(untouched.get_state(), generator(4).get_state())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("training", [False, True])
def test_absent_mates_change_nothing(format, training):
    clips = [noise(20000, k) for k in range(4)]
    whole = view(format, clips, training)
    part = view(format, [clips[0], None, clips[2], None], training)
    assert torch.equal(part[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("format", FORMATS)
def test_evaluation_does_not_depend_on_the_batch(format):
    clips = [noise(count, count) for count in (20000, 3000, 8000, 12001)]
    together = view(format, clips)
    for row, clip in enumerate(clips):
        assert torch.equal(view(format, [clip])[0], together[row])


def test_augments_where_training_differs():
    assert AudioFormat().augments
    assert not AudioFormat(cut="centre").augments
    assert not AudioFormat(cut="start", features="fbank").augments
    assert AudioFormat(cut="start", features="fbank", freq_mask=1).augments
    assert AudioFormat(cut="start", features="fbank", time_mask=1).augments


def test_stored_tells_what_read_depends_on_and_no_more():
    base = AudioFormat().stored()
    for same in (
        {"fill": "zero"}, {"seconds": 5.0}, {"cut": "centre"}, {"features": "fbank", "bins": 64},
        {"features": "spectrogram", "n_fft": 400, "hop": 100, "time_mask": 3},
        {"mean": 0.0, "std": 1.0},
    ):  # fmt: skip
        assert AudioFormat(**same).stored() == base
    for other in ({"rate": 8000}, {"cut": "start"}, {"seconds": 61.0}):
        assert AudioFormat(**other).stored() != base
    assert {"kind", "version", "libavcodec", "libswresample"} <= set(base)
    assert all(isinstance(value, str | int | float) for value in base.values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": 0}, "audio.rate=0: give a whole number of 1000 or more"),
        ({"rate": "16k"}, "audio.rate=16k"),
        ({"rate": True}, "audio.rate=True"),
        ({"seconds": 0}, "audio.seconds=0: give a number above 0"),
        ({"seconds": float("inf")}, "audio.seconds=inf"),
        ({"seconds": 0.004, "features": "fbank"}, "seconds=0.004: too short for fbank"),
        ({"seconds": 1e-5}, "too short for waveform"),
        ({"fill": "tiles"}, "fill=tiles.*did you mean 'tile'"),
        ({"cut": "center"}, "cut=center.*did you mean 'centre'"),
        ({"features": "fbanks"}, "features=fbanks.*did you mean 'fbank'"),
        ({"n_fft": 511}, "n_fft=511: give an even"),
        ({"hop": 0}, "hop=0"),
        ({"bins": 3}, "bins=3"),
        ({"mean": 1.0}, "mean is given without std"),
        ({"std": 1.0}, "std is given without mean"),
        ({"mean": 1.0, "std": 0.0}, "std=0.0: give a number above 0"),
        ({"mean": float("nan"), "std": 1.0}, "mean=nan: give a number"),
        ({"freq_mask": 2}, "freq_mask=2: a waveform"),
        ({"features": "fbank", "freq_mask": 129}, "freq_mask=129: .* from 0 to 128"),
        ({"features": "fbank", "time_mask": 301}, "time_mask=301: .* from 0 to 300"),
        ({"features": "spectrogram", "time_mask": -1}, "time_mask=-1"),
    ],
)
def test_refuses_options_that_make_no_sense(options, says):
    with pytest.raises(MmeqError, match=says):
        AudioFormat(**options)
