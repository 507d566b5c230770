"""VGGSound: the list without header, folders of clips, clips that are gone, validation by video."""

import csv
import re

import numpy as np
import pytest

from mmeq.data.releases.vggsound import VggSound, carve_by_video, read_rows
from mmeq.errors import MmeqError
from tests.corpora.damage import undecodable_text
from tests.corpora.vggsound import write_vggsound


def write(root, rows, folder="video", clips=True):
    (root / folder).mkdir(parents=True, exist_ok=True)
    with (root / "vggsound.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    for video, start, *_ in rows if clips else ():
        (root / folder / f"{video}_{int(start):06d}.mp4").touch()


def rows(count=12):
    labels = ("dog barking", "female speech, woman speaking")
    return [
        (f"v{n:02d}", 3 * n, labels[n % 2], "test" if n % 3 == 0 else "train") for n in range(count)
    ]


def test_the_corpus(tmp_path):
    facts = write_vggsound(tmp_path, classes=3, train=4, test=2, silent=1, seconds=0.6)
    manifest = VggSound(str(tmp_path), validation=0.25).load()
    assert manifest.ids == facts["ids"]
    assert manifest.spec.classes == tuple(facts["classes"])
    names = [manifest.spec.classes[label] for label in manifest.labels]
    assert names == [facts["labels"][one] for one in facts["ids"]]
    for one, part in zip(manifest.ids, manifest.split.tolist(), strict=True):
        assert (part == "test") == (facts["split"][one] == "test")
    assert (manifest.split == "validation").sum() == 3
    mute = [manifest.ids[row] for row in (~manifest.present[:, 0]).nonzero().flatten().tolist()]
    assert mute == facts["silent"]
    assert manifest.present[:, 1].all()
    assert "3 classes where the official release has 309" in manifest.notes[0]
    manifest.check()


@pytest.mark.parametrize("folder", ["video", "videos", "."])
def test_folders(tmp_path, folder):
    write(tmp_path, rows(30), folder)
    listing = VggSound(str(tmp_path)).listing()
    clip = listing.cells["video"][1]
    assert clip.path.is_file()
    assert clip.name == ("" if folder == "." else f"{folder}/") + "v01_000003.mp4"
    assert listing.groups[1] == "v01"


def test_an_empty_folder_is_passed_over(tmp_path):
    write(tmp_path, rows(30), ".")
    (tmp_path / "video").mkdir()
    assert len(VggSound(str(tmp_path)).listing().ids) == 30


def test_clips_that_are_gone_are_left_out_before_carving(tmp_path):
    write(tmp_path, rows(30))
    for n in (1, 3, 4):
        (tmp_path / "video" / f"v{n:02d}_{3 * n:06d}.mp4").unlink()
    listing = VggSound(str(tmp_path)).listing()
    assert len(listing.ids) == 27
    note = next(one for one in listing.notes if "left out" in one)
    assert "3 of 30 clips" in note
    assert "train 18 and test 9 remain" in note
    assert "v01_000003.mp4, v03_000009.mp4, v04_000012.mp4" in note
    assert (listing.split == "validation").sum() == 2


def test_a_class_that_has_no_clip_left_keeps_its_number(tmp_path):
    write(tmp_path, [*rows(30), ("w1", 0, "ambulance siren", "train")])
    (tmp_path / "video" / "w1_000000.mp4").unlink()
    listing = VggSound(str(tmp_path), train_size=4).listing()
    assert listing.classes[0] == "ambulance siren"
    assert sorted(set(listing.labels.tolist())) == [1, 2]
    assert (listing.split == "train").sum() == 4


def test_validation_keeps_a_video_whole_and_leaves_test_alone():
    videos = [f"v{n // 3}" for n in range(90)]
    labels = np.arange(90) % 3
    split = np.array(["train"] * 75 + ["test"] * 15, dtype="<U10")
    carve_by_video(split, labels, videos, 0.2, 0)
    assert (split[75:] == "test").all()
    assert (split == "validation").sum() == 15
    for n in range(25):
        assert len(set(split[3 * n : 3 * n + 3])) == 1
    again, other = split.copy(), split.copy()
    for one, seed in ((again, 0), (other, 1)):
        one[:75] = "train"
        carve_by_video(one, labels, videos, 0.2, seed)
    assert (again == split).all()
    assert (other != split).any()


def test_protocol_names_what_the_parts_depend_on(tmp_path):
    write(tmp_path, rows(30))
    said = {
        VggSound(str(tmp_path), **options).listing().protocol
        for options in ({}, {"validation": 0.2}, {"split_seed": 1}, {"train_size": 8})
    }
    assert len(said) == 4


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("a", "x", "dog", "train"), "line 3: the start 'x' is no whole number"),
        (("a", "²", "dog", "train"), "line 3: the start '²' is no whole number"),
        (("a", "1", "dog", "tran"), "line 3: unknown split 'tran'; did you mean 'train'"),
        (("a", "1", "dog"), "line 3: 3 columns, expected 4"),
        (("v00", "0", "dog", "train"), "line 3: the clip v00 0 stands in line 1 already"),
        (("../a", "1", "dog", "train"), "line 3: '../a' and 'dog'"),
        (("a", "1", " ", "train"), "line 3: 'a' and ' ' are no video id and label"),
    ],
)
def test_lines_that_cannot_be_understood(tmp_path, row, words):
    write(tmp_path, [*rows(2), row], clips=False)
    with pytest.raises(MmeqError, match=re.escape(words)) as caught:
        read_rows(tmp_path / "vggsound.csv")
    assert "vggsound.csv" in str(caught.value)


def test_other_damage(tmp_path):
    with pytest.raises(MmeqError, match=r"no release of vggsound: it has no vggsound\.csv"):
        VggSound(str(tmp_path)).listing()
    write(tmp_path, rows(), clips=False)
    with pytest.raises(MmeqError, match=r"no clip of vggsound\.csv.*v00_000000\.mp4"):
        VggSound(str(tmp_path)).listing()
    write(tmp_path, rows())
    with pytest.raises(MmeqError, match=r"validation=0\.1 of 8 videos is none"):
        VggSound(str(tmp_path)).listing()
    undecodable_text(tmp_path / "vggsound.csv")
    with pytest.raises(MmeqError, match="line 1: not UTF-8"):
        VggSound(str(tmp_path)).listing()
    (tmp_path / "vggsound.csv").write_text('a,1,"dog,train\n')
    with pytest.raises(MmeqError, match=r"vggsound\.csv, line 1: no CSV"):
        VggSound(str(tmp_path)).listing()
    (tmp_path / "vggsound.csv").write_text("\n")
    with pytest.raises(MmeqError, match="lists no clip"):
        VggSound(str(tmp_path)).listing()
    with pytest.raises(MmeqError, match=r"validation=1\.5"):
        VggSound(validation=1.5)
