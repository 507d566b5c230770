"""Counts, lengths, duplicates and warnings against plain loops; the draw; what is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmeq.data.columns import ImageColumn, SequenceColumn, TextColumn, VectorColumn
from mmeq.data.inspection import examine, measure
from mmeq.data.manifest import Manifest
from mmeq.data.media.clip import Absent, Blob, Broken, Clip
from mmeq.data.media.column import MediaColumn
from mmeq.data.media.showing import draw, mel_ticks, pictures
from mmeq.data.spec import DatasetSpec, Modality

PARTS = ("train", "validation", "test", "unused")


class Tone:
    """Text files: the first word is the length, what follows is the content."""

    kind: ClassVar[str] = "audio"
    augments = True
    shape = (6,)
    seconds = 2.0

    def stored(self):
        return {"format": "tone"}

    def probe(self, clip):
        word = clip.path.read_text().split()[0]
        if word == "mute":
            raise Absent("no audio track")
        if word == "bad":
            raise Broken("no header")
        return None if word == "timeless" else float(word)

    def read(self, clip):
        words = clip.path.read_text().split()
        if words[-1] == "late":
            raise Broken("cut off")
        return Blob(np.arange(6, dtype=np.uint8), (6,))

    def view(self, blobs, training, generator):
        assert not training
        return torch.stack([torch.from_numpy(blob.data.copy()).float() for blob in blobs])


def build(labels, split, present=None, columns=None, kinds=None, classes=3, **more):
    """A manifest of two vectors, or of the columns given."""
    count = len(labels)
    columns = columns or {
        "a": VectorColumn(torch.arange(2.0 * count).reshape(count, 2)),
        "b": VectorColumn(torch.arange(3.0 * count).reshape(count, 3)),
    }
    kinds = kinds or dict.fromkeys(columns, "vector")
    mods = tuple(Modality(n, kinds[n], tuple(c.shape)) for n, c in columns.items())
    present = torch.ones(count, len(columns), dtype=torch.bool) if present is None else present
    spec = DatasetSpec("hand", "by hand", tuple("xyzuvw"[:classes]), mods, bool(present.all()))
    manifest = Manifest(
        spec=spec,
        ids=[f"s{n}" for n in range(count)],
        labels=torch.tensor(labels),
        split=np.array(split),
        columns=columns,
        present=present,
        **more,
    )
    manifest.check()
    return manifest


samples = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(PARTS),
        st.sampled_from([(True, True), (True, False), (False, True)]),
    ),
    min_size=1,
    max_size=40,
)


@given(samples)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_a_loop(given_samples):
    labels, split, present = map(list, zip(*given_samples, strict=True))
    report = examine(build(labels, split, torch.tensor(present)), [])
    parts = list(report["parts"])
    assert parts == list(PARTS if "unused" in split else PARTS[:3])
    assert report["parts"] == {part: split.count(part) for part in parts}
    pairs = Counter(zip(labels, split, strict=True))
    for k, entry in enumerate(report["classes"]):
        assert {part: entry[part] for part in parts} == {p: pairs[k, p] for p in parts}
        assert entry["total"] == labels.count(k)
    for m, entry in enumerate(report["modalities"]):
        here = Counter(p for p, row in zip(split, present, strict=True) if row[m])
        assert entry["present"] == {part: here[part] for part in parts}
        assert entry["missing"] == {p: split.count(p) - here[p] for p in parts}
    names = Counter(
        {(True, True): "a+b", (True, False): "a", (False, True): "b"}[p] for p in present
    )
    assert report["patterns"] == dict(names)


def test_balance_names_the_ends_and_what_is_empty():
    labels = [0] * 6 + [1] * 2 + [2] + [0, 1]
    report = examine(build(labels, ["train"] * 9 + ["test"] * 2), [])
    assert report["balance"]["train"] == {
        "largest": "x",
        "smallest": "z",
        "ratio": 6.0,
        "largest_share": pytest.approx(6 / 9),
        "empty": 0,
    }
    assert report["balance"]["test"]["empty"] == 1
    assert report["balance"]["test"]["ratio"] == 1.0
    assert "validation" not in report["balance"]
    assert any("test part has no sample of z" in text for text in report["warnings"])


def test_groups_and_a_promise_that_is_broken():
    split = ["train", "train", "test", "test", "unused"]
    groups = ["p", "q", "q", "r", "p"]
    whole = build([0, 1, 2, 0, 1], split, groups=groups)
    found = examine(whole, [])["groups"]
    assert found["parts"] == {"train": 2, "validation": 0, "test": 2, "unused": 1}
    assert found["count"] == 3
    assert found["in_several_parts"] == 1  # p stands in train and in no other part that is used
    assert found["largest_size"] == 2
    assert not found["promised_whole"]
    # the numbers are still told where training would refuse
    torn = examine(replace(whole, grouped=True), [])
    assert any("promises whole groups" in text and "'q'" in text for text in torn["warnings"])
    assert examine(build([0], ["train"]), [])["groups"] is None


def test_duplicates_in_all_modalities_and_in_one():
    a = torch.tensor([[1.0], [1.0], [2.0], [1.0], [5.0]])
    b = ["same", "same", "same", "other", "gone"]
    present = torch.ones(5, 2, dtype=torch.bool)
    present[3, 0] = present[4, 0] = False
    manifest = build(
        [0, 1, 2, 0, 1],
        ["train", "test", "train", "train", "test"],
        present,
        {"a": VectorColumn(a), "b": TextColumn(b)},
        {"a": "vector", "b": "text"},
    )
    report = examine(manifest, [])
    assert report["duplicates"] == {
        "samples": 2,
        "sets": 1,
        "examples": [["s0", "s1"]],
        "modalities": {"a": 2, "b": 3},
    }
    assert any("identical content" in text for text in report["warnings"])


def clips(folder: Path, contents):
    out = []
    for n, content in enumerate(contents):
        path = folder / f"{n}.txt"
        path.write_text(content)
        out.append(Clip(path, path.name))
    return out


def test_seconds_are_those_that_the_column_knows(tmp_path):
    texts = ["1.5", "4", "timeless", "9 late", "100", "bad", "50"]
    given_clips = clips(tmp_path, texts)
    seconds = [1.5, 0.5, float("nan"), 9.0, 100.0, float("nan"), 50.0]
    column = MediaColumn(given_clips, Tone(), [c.name for c in given_clips], None, seconds)
    present = torch.tensor([[True, True]] * 7)
    present[6, 0] = False
    split = ["train", "train", "test", "train", "unused", "train", "train"]
    columns = {"sound": column.masked(present[:, 0]), "v": VectorColumn(torch.zeros(7, 1))}
    manifest = build([0] * 7, split, present, columns, {"sound": "audio", "v": "vector"})
    (only,) = measure(manifest)
    assert sorted(only.values) == [0.5, 1.5, 9.0]
    assert (only.modality, only.what, only.of, only.in_batch) == ("sound", "seconds", 5, 2.0)
    told = only.summary()
    assert (told["min"], told["median"], told["max"]) == (0.5, 1.5, 9.0)
    assert told["p5"] == pytest.approx(0.6)
    assert (told["known"], told["of"]) == (3, 5)


def test_words_steps_and_sizes_of_image_files(tmp_path):
    sizes = [(30, 20), (50, 40), (7, 8)]
    pictures_ = []
    for n, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{n}.png")
        pictures_.append(Clip(tmp_path / f"{n}.png", f"{n}.png"))
    (tmp_path / "2.png").write_bytes(b"no image")
    columns = {
        "text": TextColumn(["two words", "", " three  little\nwords "]),
        "steps": SequenceColumn(torch.zeros(3, 5, 2), torch.tensor([5, 1, 3])),
        "photo": MediaColumn(pictures_, Tone(), ["0", "1", "2"]),
    }
    kinds = {"text": "text", "steps": "sequence", "photo": "image"}
    found = {
        (one.modality, one.what): one
        for one in measure(build([0, 1, 2], ["train", "test", "train"], None, columns, kinds))
    }
    assert found["text", "words"].values.tolist() == [2, 0, 3]
    assert found["text", "characters"].values.tolist() == [9, 0, 21]
    assert found["steps", "steps"].values.tolist() == [5, 1, 3]
    assert sorted(found["photo", "width"].values) == [30, 50]
    assert sorted(found["photo", "height"].values) == [20, 40]
    assert found["photo", "width"].of == 3
    assert len(found) == 5


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(PARTS)), min_size=1, max_size=60),
    st.integers(0, 30),
    st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_the_draw_goes_round_the_classes(given_samples, wanted, seed):
    labels, split = map(list, zip(*given_samples, strict=True))
    manifest = build(labels, split, classes=6)
    rows = draw(manifest, wanted, seed)
    assert rows == draw(manifest, wanted, seed)
    assert len(set(rows)) == len(rows) <= wanted
    room = {}
    for k in set(labels):
        train = [n for n, one in enumerate(labels) if one == k and split[n] == "train"]
        used = [n for n, one in enumerate(labels) if one == k and split[n] != "unused"]
        room[k] = train or used
    assert len(rows) == min(wanted, sum(map(len, room.values())))
    assert all(row in room[labels[row]] for row in rows)
    assert [labels[row] for row in rows] == sorted(labels[row] for row in rows)
    taken = Counter(labels[row] for row in rows)
    for k in room:  # a class has fewer than another only where it has no more, or by one
        if taken[k] < len(room[k]):
            assert taken[k] >= max(taken.values(), default=0) - 1


def test_another_seed_draws_others():
    manifest = build([n % 3 for n in range(60)], ["train"] * 60)
    assert len({tuple(draw(manifest, 6, seed)) for seed in range(8)}) > 4


def test_what_is_shown_is_what_an_encoder_is_given(tmp_path):
    given_clips = clips(tmp_path, ["1", "2 late", "3", "4"])
    values = torch.tensor([[0.0, 10.0], [2.0, 30.0], [100.0, 100.0], [4.0, 0.0]])
    columns = {
        "sound": MediaColumn(given_clips, Tone(), ["0", "1", "2", "3"]),
        "v": VectorColumn(values),
        "s": SequenceColumn(torch.ones(4, 5, 2).cumsum(1), torch.tensor([5, 2, 1, 3])),
        "text": TextColumn(["one", "two", "three", "four"]),
        "photo": ImageColumn(torch.randint(0, 255, (4, 3, 4, 6), dtype=torch.uint8)),
    }
    kinds = dict(zip(columns, ("audio", "vector", "sequence", "text", "image"), strict=True))
    present = torch.ones(4, 5, dtype=torch.bool)
    present[3, 0] = present[3, 1] = False
    manifest = build([0, 1, 2, 0], ["train", "train", "test", "train"], present, columns, kinds)
    shown = pictures(manifest, [2, 1, 3])
    forms = [[one.form for one in row] for row in shown]
    assert forms[0] == ["lines", "bars", "lines", "text", "frames"]
    assert forms[1][0] == "broken"
    assert forms[2][:2] == ["missing", "missing"]
    assert "1.txt cannot be decoded: cut off" in shown[1][0].text
    assert shown[0][0].values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert (shown[0][0].across, shown[0][0].span) == ("sample", (0.0, 6))
    # standardised by the training samples that have it: rows 0 and 1
    np.testing.assert_allclose(shown[0][1].values, [(100 - 1) / 1, (100 - 20) / 10], rtol=1e-6)
    assert np.isnan(shown[1][2].values[2:]).all()
    assert np.isfinite(shown[1][2].values[:2]).all()
    assert shown[1][2].span == (0, 5)
    assert shown[0][3].text == "three"
    expected = columns["photo"].pixels[2].permute(1, 2, 0)[None].numpy()
    np.testing.assert_array_equal(shown[0][4].values, expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_frames_of_any_channels_become_colour(channels):
    pixels = torch.randint(0, 255, (1, 4, channels, 5, 6), dtype=torch.uint8)
    manifest = build([0], ["train"], None, {"film": ImageColumn(pixels)}, {"film": "video"})
    shown = pictures(manifest, [0])[0][0].values
    assert shown.shape == (4, 5, 6, 3)
    assert shown.dtype == np.uint8
    for c in range(channels):
        np.testing.assert_array_equal(shown[..., c], pixels[0, :, c].numpy())
    rest = shown[..., channels:]
    expected = np.broadcast_to(shown[..., :1] if channels == 1 else 128, rest.shape)
    np.testing.assert_array_equal(rest, expected)


@pytest.mark.parametrize(("bins", "rate"), [(128, 16000), (40, 22050)])
def test_mel_ticks_are_where_kaldis_bins_are(bins, rate):
    from torchaudio.compliance.kaldi import get_mel_banks

    bank, _ = get_mel_banks(bins, 4096, float(rate), 20.0, 0.0, 100.0, -500.0, 1.0)
    ticks = mel_ticks(bins, rate)
    assert ticks
    for place, label in ticks.items():
        column = bank[:, round(1000 * float(label) / (rate / 4096))]
        # the centre of bin k is at k + 0.5
        centre = float((column * (torch.arange(bins) + 0.5)).sum() / column.sum())
        assert abs(place - centre) < 0.15, label
