"""The corpora are what they say: real files, true facts, official layouts, the same each time."""

import colorsys
import csv
import multiprocessing
import pickle
import re

import av
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from tests.corpora import (
    CREMAD_CODES,
    IEMOCAP_CODES,
    damage,
    write_ave,
    write_cremad,
    write_food101,
    write_iemocap,
    write_kinetics,
    write_mosei,
    write_mvsa,
    write_ucf101,
    write_ur_funny,
    write_vggsound,
)
from tests.corpora.scenes import film, noise, picture, sentence, tune, voice
from tests.corpora.speech import speak

WRITERS = {
    "ave": (write_ave, {"train": 1, "unlisted": 1}),
    "cremad": (write_cremad, {"actors": 1, "audio": ("wav", "mp3")}),
    "food101": (write_food101, {}),
    "iemocap": (write_iemocap, {"sessions": 1}),
    "kinetics": (write_kinetics, {"train": 1, "others": 1}),
    "kinetics-folders": (write_kinetics, {"train": 1, "layout": "folders", "codec": "libx264"}),
    "mosei": (write_mosei, {}),
    "mvsa": (write_mvsa, {}),
    "ucf101": (write_ucf101, {"clips": 1}),
    "ur-funny": (write_ur_funny, {"empty_text": 2}),
    "ur-funny-original": (write_ur_funny, {"original": True}),
    "vggsound": (write_vggsound, {"train": 1, "test": 1}),
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Each corpus once: name -> facts."""
    base = tmp_path_factory.mktemp("corpora")
    return {name: write(base / name, **sizes) for name, (write, sizes) in WRITERS.items()}


def streams(path):
    """Decode everything: type -> (codec, seconds decoded, frames or samples, width or rate)."""
    found = {}
    for kind in ("video", "audio"):
        # Opened anew for each: flv cannot be wound back.
        with av.open(str(path)) as container:
            for stream in getattr(container.streams, kind):
                frames = list(container.decode(stream))
                context = stream.codec_context
                name = context.codec.name
                if kind == "video":
                    count, rate, last = len(frames), float(stream.average_rate), context.width
                else:
                    count, rate = sum(frame.samples for frame in frames), context.rate
                    last = rate
                found[kind] = (name, count / rate, count, last)
    return found


def lines_of(path, encoding="utf-8"):
    return path.read_text(encoding).splitlines()


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("name", WRITERS)
def test_facts_hold_together_and_all_media_open(corpora, name):
    facts = corpora[name]
    assert facts["count"] == len(facts["labels"]) >= 6
    assert set(facts["labels"]) <= set(facts["ids"])
    assert facts["classes"] == sorted(set(facts["labels"].values()))
    media = [p for p in facts["root"].rglob("*") if p.is_file() and not p.name.startswith("._")]
    for path in media:
        if path.suffix in (".avi", ".mp4", ".flv", ".wav", ".mp3"):
            assert all(part[2] > 0 for part in streams(path).values()), path
        elif path.suffix == ".jpg":
            with Image.open(path) as image:
                assert np.asarray(image).std() > 1, path
        else:
            assert path.suffix in (".txt", ".csv", ".pkl")
            assert path.stat().st_size > 0


@pytest.mark.parametrize("name", ["cremad", "kinetics", "mvsa", "ur-funny"])
def test_the_same_seed_gives_the_same_corpus_and_another_another(corpora, tmp_path, name):
    write, sizes = WRITERS[name]
    first, again = corpora[name], write(tmp_path / "again", **sizes)
    other = write(tmp_path / "other", seed=1, **sizes)
    assert (again["ids"], again["labels"]) == (first["ids"], first["labels"])
    files = sorted(p.relative_to(first["root"]) for p in first["root"].rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again["root"]) for p in again["root"].rglob("*.*"))
    changed = 0
    for file in files:
        content = (first["root"] / file).read_bytes()
        assert (again["root"] / file).read_bytes() == content
        twin = other["root"] / file
        changed += not twin.exists() or twin.read_bytes() != content
    assert changed > len(files) / 2


def test_cremad_is_as_released(corpora):
    facts = corpora["cremad"]
    root = facts["root"]
    for name, code in facts["labels"].items():
        assert re.fullmatch(r"10\d\d_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_XX", name)
        assert name.split("_")[2] == code
        assert name.split("_")[0] == facts["actors"][name]
        seconds = facts["seconds"][name]
        film_of = streams(root / "VideoFlash" / f"{name}.flv")
        assert (film_of["video"][0], film_of["video"][3]) == ("flv", 96)
        assert film_of["audio"][0].startswith("mp3")
        assert film_of["video"][1] == pytest.approx(seconds, abs=0.1)
        wav = streams(root / "AudioWAV" / f"{name}.wav")["audio"]
        assert (wav[0], wav[3]) == ("pcm_s16le", 16000)
        assert wav[1] == pytest.approx(seconds, abs=0.01)
        mp3 = streams(root / "AudioMP3" / f"{name}.mp3")["audio"]
        assert mp3[0].startswith("mp3")
        assert mp3[1] == pytest.approx(seconds, abs=0.1)
    assert set(facts["labels"].values()) == set(CREMAD_CODES)
    listed = read_csv(facts["train_list"]) + read_csv(facts["test_list"])
    assert dict(listed) == facts["labels"]
    assert {row[0] for row in read_csv(facts["test_list"])} == {
        name for name, part in facts["split"].items() if part == "test"
    }
    table = read_csv(root / "processedResults/summaryTable.csv")
    assert [row[1] for row in table[1:]] == facts["ids"]
    assert all(len(row) == len(table[0]) for row in table)
    votes = read_csv(root / "processedResults/tabulatedVotes.csv")
    assert all(len(row) == len(votes[0]) for row in votes)
    names = read_csv(root / "SentenceFilenames.csv")
    assert [row[1] for row in names[1:]] == facts["ids"]


def test_cremad_can_have_adpcm_sound_or_no_video(tmp_path):
    facts = write_cremad(tmp_path / "a", actors=1, emotions=2, codec="adpcm_swf", lists=False)
    path = facts["root"] / "VideoFlash" / f"{facts['ids'][0]}.flv"
    assert streams(path)["audio"][0] == "adpcm_swf"
    assert "split" not in facts
    write_cremad(tmp_path / "b", actors=1, emotions=2, video=False)
    assert not (tmp_path / "b" / "VideoFlash").exists()


def test_iemocap_labels_and_transcripts_are_as_released(corpora):
    facts = corpora["iemocap"]
    dialogs = facts["root"] / "Session1" / "dialog"
    assert sorted(facts["labels"].values()) == sorted(IEMOCAP_CODES * 2)
    found, texts, odd = {}, {}, []
    for path in sorted((dialogs / "EmoEvaluation").glob("Ses*.txt")):
        blocks = path.read_text().strip().split("\n\n")
        assert blocks[0] == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
        for block in blocks[1:]:
            head, *votes = block.strip().split("\n")
            got = re.fullmatch(
                r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(\S+)\t([a-z]{3})\t\[[\d.]+, [\d.]+, [\d.]+\]",
                head,
            )
            found[got[3]] = (float(got[1]), float(got[2]), got[4])
            assert all(re.match(r"[CA]-[EFM]\d:\t", vote) for vote in votes)
    for path in sorted((dialogs / "transcriptions").glob("Ses*.txt")):
        for line in lines_of(path):
            got = re.fullmatch(r"(\S+) \[[\d.]+-[\d.]+\]: (.+)", line)
            if got:
                texts[got[1]] = got[2]
            else:
                odd.append(line)
    assert {k: v[2] for k, v in found.items()} == facts["labels"]
    assert {k: v[:2] for k, v in found.items()} == facts["spans"]
    assert {k: v for k, v in texts.items() if k in found} == facts["texts"]
    assert sorted(set(texts) - set(found)) == sorted(facts["unlabelled"])
    assert odd == ["M: I know."] * 2
    assert any(text.startswith("So: ") for text in texts.values())
    assert facts["four"] == {
        k: {"exc": "hap"}.get(v, v)
        for k, v in facts["labels"].items()
        if v in ("ang", "hap", "exc", "sad", "neu")
    }
    assert (dialogs / "EmoEvaluation" / "._Ses01F_impro01.txt").exists()


def test_iemocap_media_show_and_say_the_utterance(corpora):
    facts = corpora["iemocap"]
    session = facts["root"] / "Session1"
    for dialog in ("Ses01F_impro01", "Ses01M_impro01"):
        film_of = streams(session / "dialog/avi/DivX" / f"{dialog}.avi")
        assert film_of["video"][0] == "mpeg4"
        wav = streams(session / "dialog/wav" / f"{dialog}.wav")["audio"]
        assert wav[3] == 44100
        with av.open(str(session / "dialog/wav" / f"{dialog}.wav")) as container:
            track = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], 1)
            track = track.reshape(-1, 2)
        with av.open(str(session / "dialog/avi/DivX" / f"{dialog}.avi")) as container:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        for name in [n for n in facts["ids"] if facts["dialogs"][n] == dialog]:
            start, end = facts["spans"][name]
            wav = streams(session / "sentences/wav" / dialog / f"{name}.wav")["audio"]
            assert (wav[3], wav[1]) == (16000, pytest.approx(end - start, abs=0.01))
            own = int(name.rsplit("_", 1)[1][0] == "M")
            heard = track[int(start * 44100) : int(end * 44100)].astype(float).std(0)
            assert heard[own] > 10 * heard[1 - own]
            half = facts["halves"][name]
            assert half == ("left" if name.rsplit("_", 1)[1][0] == dialog[5] else "right")
            middle = frames[int((start + end) * 5)]
            assert min(middle[:, :60].max(), middle[:, 60:].max()) > 180
            side = middle[:, :60] if half == "left" else middle[:, 60:]
            hue = colorsys.rgb_to_hsv(*colours(side))[0]
            code = facts["labels"][name]
            look = {"ang": 0, "hap": 1, "exc": 1, "neu": 2, "sad": 3, "fru": 4}.get(code)
            if look is not None:
                assert abs((hue - look / 8 + 0.5) % 1 - 0.5) < 0.09, name
        # Nothing moves or is said before the first utterance.
        assert track[: int(0.25 * 44100)].std() < 100
        assert frames[0].max() < 140


def test_mvsa_is_as_released(corpora):
    facts = corpora["mvsa"]
    head, *rows = lines_of(facts["root"] / "labelResultAll.txt")
    assert head == "ID\ttext,image"
    pairs = {row.split("\t")[0]: tuple(row.split("\t")[1].split(",")) for row in rows}
    assert pairs == facts["pairs"]
    assert list(pairs) == facts["ids"]
    assert len(pairs) == 18
    kinds = {True: 0, False: 0}
    for name, (text, image) in pairs.items():
        path = facts["root"] / "data" / f"{name}.txt"
        assert path.read_bytes().decode(facts["encodings"][name]).strip() == facts["texts"][name]
        try:
            path.read_bytes().decode()
            kinds[True] += 1
        except UnicodeDecodeError:
            kinds[False] += 1
            assert facts["encodings"][name] == "latin-1"
        if text == image:
            assert facts["agreement"][name] == facts["labels"][name] == text
        elif {text, image} == {"positive", "negative"}:
            assert name in facts["dropped"]
        else:
            assert facts["labels"][name] in ({text, image} - {"neutral"})
    assert min(kinds.values()) > 3
    assert facts["count"] == 14
    assert (len(facts["agreement"]), len(facts["dropped"])) == (6, 4)
    modes = {Image.open(facts["root"] / "data" / f"{name}.jpg").mode for name in pairs}
    assert modes == {"L", "RGB"}


@pytest.mark.parametrize("name", ["kinetics", "kinetics-folders"])
def test_kinetics_is_as_its_mirrors_are(corpora, name):
    facts = corpora[name]
    root = facts["root"]
    for clip, path in facts["paths"].items():
        assert re.fullmatch(r"[\w-]{11}_\d{6}_\d{6}\.mp4", path.name)
        found = streams(path)
        assert found["video"][0] == {"kinetics": "mpeg4", "kinetics-folders": "h264"}[name]
        assert ("audio" not in found) == (clip in facts["silent"])
        assert "audio" not in found or found["audio"][0] == "aac"
        part = facts["split"][clip]
        if name == "kinetics":
            assert path.parent == root / part
        else:
            assert path.parent == root / part / facts["labels"][clip]
    assert len(facts["silent"]) == 1
    assert facts["ids"][0].startswith("-")
    for part, path in facts["lists"].items():
        head, *rows = read_csv(path)
        assert head == ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
        listed = {f"{r[1]}_{int(r[2]):06d}_{int(r[3]):06d}": r[0] for r in rows}
        expected = {k: v for k, v in facts["labels"].items() if facts["split"][k] == part}
        assert listed == expected
        assert {r[4] for r in rows} == {"validate" if part == "val" else part}
    if name == "kinetics":
        assert len(facts["sounds"]) == 9 < facts["count"] == 12


def test_ave_is_as_released(corpora):
    facts = corpora["ave"]
    head, *rows = lines_of(facts["root"] / "Annotations.txt")
    assert head == "Category&VideoID&Quality&Start&End"
    assert len(rows) == facts["count"] + 1
    listed = {}
    for part in ("train", "val", "test"):
        for row in lines_of(facts["root"] / f"{part}Set.txt"):
            assert row in rows
            label, name, quality, start, end = row.split("&")
            assert quality == "good"
            assert 0 <= int(start) < int(end) <= 10
            assert set(streams(facts["root"] / "AVE" / f"{name}.mp4")) == {"video", "audio"}
            listed[name] = (label, part, (int(start), int(end)))
    assert listed == {
        k: (v, facts["split"][k], facts["spans"][k]) for k, v in facts["labels"].items()
    }


def test_ucf101_is_as_released(corpora):
    facts = corpora["ucf101"]
    folder = facts["root"] / "ucfTrainTestlist"
    numbers = dict(line.split()[::-1] for line in lines_of(folder / "classInd.txt"))
    assert list(numbers) == facts["classes"]
    for fold in (1, 2, 3):
        listed = {}
        for line in lines_of(folder / f"trainlist0{fold}.txt"):
            path, number = line.split()
            assert numbers[path.split("/")[0]] == number
            listed[path] = "train"
        listed |= dict.fromkeys(lines_of(folder / f"testlist0{fold}.txt"), "test")
        expected = {
            f"{facts['labels'][name]}/{name}.avi": part
            for name, part in facts[f"split{fold}"].items()
        }
        assert listed == expected
        assert all((facts["root"] / "UCF-101" / path).exists() for path in listed)
    for name, flow in facts["flow"].items():
        path = facts["root"] / "UCF-101" / facts["labels"][name] / f"{name}.avi"
        assert set(streams(path)) == {"video"}
        for axis in "uv":
            pictures = sorted((facts["root"] / "tvl1_flow" / axis / flow).iterdir())
            assert [p.name for p in pictures] == [f"frame{i:06d}.jpg" for i in range(1, 12)]
            assert Image.open(pictures[0]).mode == "L"
    for fold, tested in ((1, 1), (2, 14), (3, 21)):
        parts = facts[f"split{fold}"]
        groups = {facts["groups"][name][1] for name, part in parts.items() if part == "test"}
        assert groups == {tested}


def test_food101_is_as_released(corpora):
    facts = corpora["food101"]
    found = {}
    for part in ("train", "test"):
        for image, title, label in read_csv(facts["root"] / "texts" / f"{part}_titles.csv"):
            assert (facts["root"] / "images" / part / label / image).exists()
            found[image.removesuffix(".jpg")] = (label, part, title)
    assert found == {
        k: (v, facts["split"][k], facts["texts"][k]) for k, v in facts["labels"].items()
    }
    assert any("," in title for title in facts["texts"].values())


def test_mosei_is_as_distributed(corpora):
    facts = corpora["mosei"]
    with facts["file"].open("rb") as file:
        content = pickle.load(file)
    assert list(content) == ["train", "valid", "test"]
    seen = {}
    for part, arrays in content.items():
        count = len(arrays["id"])
        for name, width in (("vision", 35), ("audio", 74), ("text", 300)):
            assert arrays[name].shape == (count, 50, width)
            assert arrays[name].dtype == np.float32
        assert arrays["labels"].shape == (count, 1, 1)
        assert np.isneginf(arrays["audio"]).any()
        for row, score, text in zip(arrays["id"], arrays["labels"], arrays["text"], strict=True):
            name = "_".join(row)
            rounded = round(float(score.item()))
            assert facts["labels"][name] == ("neutral", "positive", "negative")[np.sign(rounded)]
            assert facts["scores"][name] == pytest.approx(score.item())
            assert 50 - text.any(-1).argmax() == facts["lengths"][name]
            seen[name] = part
    assert seen == facts["split"]


def test_ur_funny_is_as_distributed(corpora):
    facts = corpora["ur-funny"]
    with (facts["root"] / "humor.pkl").open("rb") as file:
        content = pickle.load(file)
    seen = {}
    for part, arrays in content.items():
        count = len(arrays["id"])
        for name, width in (("vision", 371), ("audio", 81), ("text", 300)):
            assert arrays[name].shape == (count, 50, width)
        assert arrays["labels"].shape == arrays["id"].shape == (count, 1)
        for identity, label, text in zip(
            arrays["id"], arrays["labels"], arrays["text"], strict=True
        ):
            assert facts["labels"][str(identity[0])] == str(label[0])
            assert (not text.any()) == (str(identity[0]) in facts["empty_text"])
            seen[str(identity[0])] = part
    assert seen == facts["split"]
    assert len(facts["empty_text"]) == 2


def test_ur_funnys_own_pickles_are_as_described(corpora):
    facts = corpora["ur-funny-original"]
    stems = ("data_folds", "language_sdk", "openface_features_sdk", "covarep_features_sdk")
    content = {}
    for stem in (*stems, "humor_label_sdk", "word_embedding_list"):
        with (facts["root"] / f"{stem}.pkl").open("rb") as file:
            content[stem] = pickle.load(file)
    folds = content["data_folds"]
    assert {str(i): "valid" if k == "dev" else k for k, v in folds.items() for i in v} == facts[
        "split"
    ]
    for identity, entry in content["language_sdk"].items():
        words = entry["punchline_sentence"].split()
        assert entry["punchline_sentence"] == facts["texts"][str(identity)]
        assert len(entry["punchline_embedding_indexes"]) == len(words)
        for stem, width in (("openface_features_sdk", 371), ("covarep_features_sdk", 81)):
            assert np.shape(content[stem][identity]["punchline_features"]) == (len(words), width)
            assert len(content[stem][identity]["context_features"]) == 2
        assert max(entry["punchline_embedding_indexes"]) < len(content["word_embedding_list"])
        assert str(content["humor_label_sdk"][identity]) == facts["labels"][str(identity)]
    assert np.shape(content["word_embedding_list"])[1] == 300


def test_vggsound_is_as_released(corpora):
    facts = corpora["vggsound"]
    found = {}
    for video, start, label, part in read_csv(facts["root"] / "vggsound.csv"):
        name = f"{video}_{int(start):06d}"
        assert facts["paths"][name] == facts["root"] / "video" / f"{name}.mp4"
        assert ("audio" not in streams(facts["paths"][name])) == (name in facts["silent"])
        found[name] = (label, part)
    assert found == {k: (v, facts["split"][k]) for k, v in facts["labels"].items()}
    assert len(facts["silent"]) == 1
    assert any("," in label for label in facts["classes"])


def spectrum(sound):
    samples, _ = sound
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(float), 1024)[::512]
    power = np.abs(np.fft.rfft(windows * np.hanning(1024)))[:, :256]
    return np.log(power.reshape(len(power), 64, 4).mean(-1) + 1).mean(0) / 10


def colours(frames):
    """Mean colour of the brightest tenth: the shape, not the ground."""
    pixels = frames.reshape(-1, 3).astype(float)
    return pixels[pixels.max(1) >= np.quantile(pixels.max(1), 0.9)].mean(0) / 255


def motion(frames):
    """Where the shape goes: the phase of its displacement (cross-correlation of two frames)."""
    bright = frames.max(-1).astype(float)
    a, b = bright[0] - bright[0].mean(), bright[3] - bright[3].mean()
    surface = np.fft.ifft2(np.fft.fft2(b) * np.conj(np.fft.fft2(a))).real
    y, x = np.unravel_index(surface.argmax(), surface.shape)
    height, width = surface.shape
    return np.array([(x + width / 2) % width - width / 2, (y + height / 2) % height - height / 2])


def words(text):
    out = np.zeros(256)
    for word in text.lower().split():
        out[sum(map(ord, word)) % 256] = 1
    return out


LOOKS = {
    "film": lambda number, rng: colours(film(number, 4, 5, (48, 32), rng)),
    "motion": lambda number, rng: motion(film(number, 4, 4, (48, 32), rng)),
    "picture": lambda number, rng: colours(picture(number, 4, (48, 32), rng)),
    "voice": lambda number, rng: spectrum(voice("Do not forget it", number, 4, 0.8, rng)),
    "tune": lambda number, rng: spectrum(tune(number, 4, 0.6, rng)),
    "text": lambda number, rng: words(sentence(number, rng)),
}


@pytest.mark.parametrize("kind", LOOKS)
def test_a_linear_model_learns_the_class(kind):
    y = np.arange(48) % 4
    x = np.stack([LOOKS[kind](label, noise(3, kind, turn)) for turn, label in enumerate(y)])
    train = np.arange(48) < 32
    model = LogisticRegression(C=100, max_iter=5000).fit(x[train], y[train])
    assert model.score(x[~train], y[~train]) > 0.6


def test_speech_is_repeatable_and_follows_its_settings():
    first, rate = speak("Maybe tomorrow it will be cold")
    assert rate == 22050
    assert first.dtype == np.int16
    assert np.abs(first).max() > 2000
    fast, _ = speak("Maybe tomorrow it will be cold", rate=350)
    assert len(fast) < 0.7 * len(first)
    high, _ = speak("Maybe tomorrow it will be cold", pitch=95)
    assert not np.array_equal(high, first)
    woman, _ = speak("Maybe tomorrow it will be cold", voice="en-us+f3")
    assert not np.array_equal(woman[:8000], first[:8000])
    np.testing.assert_array_equal(speak("Maybe tomorrow it will be cold")[0], first)
    with pytest.raises(ValueError, match="no voice 'xx-none'"):
        speak("hello", voice="xx-none")


def _spoken(text):
    return speak(text)[0]


def test_speech_works_in_forked_processes():
    here = _spoken("It is eleven o'clock")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for there in pool.map(_spoken, ["It is eleven o'clock"] * 4):
            np.testing.assert_array_equal(there, here)


def test_damage_does_what_it_says(corpora, tmp_path):
    clip = tmp_path / "a.mp4"
    source = next(iter(corpora["vggsound"]["paths"].values()))
    clip.write_bytes(source.read_bytes())
    damage.truncate(clip, 0.5)
    assert clip.stat().st_size == source.stat().st_size // 2
    with pytest.raises(av.FFmpegError):
        streams(clip)
    damage.wrong_extension(clip)
    with pytest.raises(av.FFmpegError):
        av.open(str(clip))
    damage.empty(clip)
    assert clip.stat().st_size == 0
    damage.undecodable_text(clip)
    with pytest.raises(UnicodeDecodeError):
        clip.read_text("utf-8")
    text = tmp_path / "a.txt"
    text.write_text("one\ntwo\nthree\n")
    damage.duplicate_line(text, "two")
    assert text.read_text() == "one\ntwo\ntwo\nthree\n"
    damage.drop_line(text, "two")
    assert text.read_text() == "one\nthree\n"
    damage.replace_in(text, "three", "3")
    assert text.read_text() == "one\n3\n"
    for change in (damage.drop_line, damage.duplicate_line):
        with pytest.raises(AssertionError, match="no line with 'four'"):
            change(text, "four")
    with pytest.raises(AssertionError, match="does not contain 'four'"):
        damage.replace_in(text, "four", "4")
