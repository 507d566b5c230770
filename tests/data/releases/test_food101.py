"""UPMC Food-101: titles with commas and quotes, titles without image, images without title."""

import csv
import re
import shutil

import pytest
from PIL import Image

from mmeq.data.releases.food101 import Food101
from mmeq.errors import MmeqError
from tests.corpora.damage import empty, replace_in, undecodable_text, wrong_extension
from tests.corpora.food101 import write_food101


@pytest.fixture
def facts(tmp_path):
    return write_food101(tmp_path, classes=3, train=6, test=2)


def load(facts, **options):
    return Food101(str(facts["root"]), validation=0.25, **options).load()


def stems(manifest):
    return [one.rsplit("/", 1)[-1].removesuffix(".jpg") for one in manifest.ids]


def test_the_corpus(facts):
    manifest = load(facts)
    assert stems(manifest) == facts["ids"]
    assert manifest.spec.classes == tuple(facts["classes"])
    assert manifest.spec.complete
    assert [m.kind for m in manifest.spec.modalities] == ["image", "text"]
    assert manifest.columns["text"].texts == [facts["texts"][one] for one in facts["ids"]]
    assert any('"' in text and "," not in text for text in manifest.columns["text"].texts)
    assert any("," in text for text in manifest.columns["text"].texts)
    for one, part, label in zip(stems(manifest), manifest.split, manifest.labels, strict=True):
        assert manifest.spec.classes[label] == facts["labels"][one]
        assert (part == "test") == (facts["split"][one] == "test")
    # a quarter of 6 in each of 3 classes, by largest remainder
    assert (manifest.split == "validation").sum() in (3, 6)
    assert "18 train (official: 67,988)" in manifest.notes[0]
    assert "validation 25 % carved from train (stratified) split_seed=0" in manifest.spec.protocol
    manifest.check()


def test_missing_modalities_are_kept_and_named(facts):
    root = facts["root"]
    gone, bare, mute = facts["ids"][:3]
    facts["paths"][gone].unlink()
    lines = (root / "texts" / "train_titles.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(f"{bare}.jpg")]
    kept = [
        f"{mute}.jpg,,{facts['labels'][mute]}" if line.startswith(f"{mute}.jpg") else line
        for line in kept
    ]
    (root / "texts" / "train_titles.csv").write_text("\n".join(kept), encoding="utf-8")
    manifest = load(facts)
    assert sorted(stems(manifest)) == sorted(facts["ids"])
    present = dict(zip(stems(manifest), manifest.present.tolist(), strict=True))
    assert present[gone] == [False, True]
    assert present[bare] == present[mute] == [True, False]
    assert sum(sum(one) for one in present.values()) == 2 * len(present) - 3
    text = "\n".join(manifest.notes)
    assert f"1 titles have no image: images/train/{facts['labels'][gone]}/{gone}.jpg" in text
    assert "2 images have no title: " in text
    assert bare in text
    assert mute in text


def test_broken_images(facts):
    empty(facts["paths"][facts["ids"][0]])
    wrong_extension(facts["paths"][facts["ids"][1]])
    manifest = load(facts)
    assert (~manifest.present[:, 0]).sum() == 2
    assert any("modality 'image': 2 files are broken" in note for note in manifest.notes)


def test_images_alone_or_titles_alone(facts):
    facts["paths"][facts["ids"][0]].unlink()
    assert len(load(facts, modalities=["image"])) == facts["count"] - 1
    assert len(load(facts, modalities=["text"])) == facts["count"]


def test_titles_alone_need_no_images(facts):
    shutil.rmtree(facts["root"] / "images")
    manifest = load(facts, modalities=["text"])
    assert stems(manifest) == facts["ids"]
    assert not any("no image" in note for note in manifest.notes)
    with pytest.raises(MmeqError, match="no release of food101: it has no images"):
        load(facts)


def test_other_files_in_the_folders_are_no_samples(facts):
    folder = facts["paths"][facts["ids"][0]].parent
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder.parent / ".DS_Store").write_bytes(b"x")
    (folder / f"._{facts['ids'][0]}.jpg").write_bytes(b"\0\5\x16\7")
    Image.new("RGB", (8, 8)).save(folder / "extra.PNG")
    manifest = load(facts)
    assert len(manifest) == facts["count"] + 1
    assert not any("._" in note for note in manifest.notes)


def test_a_header_is_no_sample(facts):
    path = facts["root"] / "texts" / "test_titles.csv"
    path.write_text("image,title,class\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(load(facts)) == facts["count"]


def test_a_title_over_two_lines(facts):
    path = facts["root"] / "texts" / "test_titles.csv"
    rows = list(csv.reader(path.open(encoding="utf-8")))
    rows[0][1] = "two\nlines"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([*rows, ["x.jpg", "bad"]])
    with pytest.raises(MmeqError, match=rf"test_titles\.csv, line {len(rows) + 2}: 2 columns"):
        load(facts)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    assert "two\nlines" in load(facts).columns["text"].texts


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("apple_pie_6.jpg,", "../apple.jpg,", "line 1: '../apple.jpg' is no file name"),
        ("apple_pie_7.jpg", "apple_pie_6.jpg", "apple_pie/apple_pie_6.jpg is listed twice"),
        (",apple_pie\n", ",\n", "line 1: '' is no class"),
    ],
)
def test_lines_that_cannot_be_understood(facts, old, new, words):
    replace_in(facts["root"] / "texts" / "test_titles.csv", old, new)
    with pytest.raises(MmeqError, match=re.escape(words)) as caught:
        load(facts)
    assert "test_titles.csv, line" in str(caught.value)


def test_other_damage(facts):
    root = facts["root"]
    undecodable_text(root / "texts" / "test_titles.csv")
    with pytest.raises(MmeqError, match=r"test_titles\.csv, line 1: not UTF-8"):
        load(facts)
    (root / "texts" / "test_titles.csv").unlink()
    with pytest.raises(MmeqError, match=r"no release of food101: it has no texts/test_titles\.csv"):
        load(facts)


def test_seed_and_size(facts):
    one, other = load(facts), load(facts, split_seed=1)
    assert (one.split != other.split).any()
    assert (one.split[-6:] == "test").all()
    small = load(facts, train_size=6)
    assert (small.split == "train").sum() == 6
    assert len({m.spec.protocol for m in (one, other, small)}) == 3
