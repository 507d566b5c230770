"""MVSA-Single: the two protocols, texts in mixed encodings, and what is said of damage."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mmeq.data.releases.mvsa import CLASSES, Mvsa, decode
from mmeq.errors import MmeqError
from tests.corpora.mvsa import write_mvsa

PAIRS = {
    # text, image, how many of them there are in the release: 4,511 of 4,869 are kept, 2,592 agree
    ("positive", "positive"): 1398,
    ("negative", "negative"): 724,
    ("neutral", "neutral"): 470,
    ("positive", "neutral"): 700,
    ("neutral", "positive"): 585,
    ("negative", "neutral"): 300,
    ("neutral", "negative"): 334,
    ("positive", "negative"): 200,
    ("negative", "positive"): 158,
}


def write(root, pairs, header="ID\ttext,image", texts=True):
    (root / "data").mkdir(exist_ok=True)
    rows = [header]
    for number, (text, image) in enumerate(pairs, 1):
        rows.append(f"{number}\t{text},{image}")
        if texts:
            (root / "data" / f"{number}.txt").write_bytes(f"tweet {number} é".encode())
    (root / "labelResultAll.txt").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    pairs = [pair for pair, count in PAIRS.items() for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(pairs))
    pairs = [pairs[i] for i in order]
    return write(tmp_path_factory.mktemp("mvsa"), pairs, texts=False), pairs


@pytest.fixture
def small(tmp_path):
    pairs = list(PAIRS) * 10
    return write(tmp_path, pairs), pairs


def test_merged(release):
    root, pairs = release
    listing = Mvsa(root, modalities=["image"]).listing()
    assert listing.notes == []
    assert len(listing.ids) == 4511
    found = dict(zip(listing.ids, listing.labels.tolist(), strict=True))
    assert Counter(CLASSES[k] for k in found.values()) == {
        "positive": 2683, "neutral": 470, "negative": 1358,
    }  # fmt: skip
    for number, (text, image) in enumerate(pairs, 1):
        label = found.get(str(number))
        polar = {text, image} - {"neutral"}
        if len(polar) == 2:
            assert label is None
        else:
            assert CLASSES[label] == (polar.pop() if polar else "neutral")
    sizes = Counter(listing.split.tolist())
    assert [sizes[p] for p in ("train", "validation", "test")] == pytest.approx(
        [3609, 451, 451], abs=2
    )
    assert listing.protocol == "merged stratified 80/10/10 split_seed=0"


def test_agreement(release):
    root, pairs = release
    listing = Mvsa(root, modalities=["image"], protocol="agreement").listing()
    assert listing.notes == []
    assert listing.ids == [str(n) for n, (text, image) in enumerate(pairs, 1) if text == image]
    sizes = Counter(listing.split.tolist())
    assert [sizes[p] for p in ("train", "validation", "test")] == pytest.approx(
        [1555, 518, 519], abs=2
    )
    assert "60/20/20" in listing.protocol
    other = Mvsa(root, modalities=["image"], protocol="agreement", fractions=[0.8, 0.1, 0.1])
    assert "80/10/10" in other.listing().protocol


def test_clips_and_texts(small):
    root, _ = small
    listing = Mvsa(root, train_size=20).listing()
    for name, clip, text in zip(
        listing.ids, listing.cells["image"], listing.cells["text"], strict=True
    ):
        assert (clip.name, clip.path) == (f"data/{name}.jpg", root / "data" / f"{name}.jpg")
        assert text == f"tweet {name} é"
    assert Counter(listing.split.tolist())["train"] == 20
    assert listing.groups is None


def test_counts_of_another_copy_are_told(small):
    root, _ = small
    notes = Mvsa(root).listing().notes
    assert notes[0] == "dataset 'mvsa': 90 rows where the official release has 4,869"
    assert "pairs of protocol merged differ" in notes[1]
    assert "10 neutral (official: 470)" in notes[1]
    assert (
        "30 pairs of protocol agreement where the official release has 2,592"
        in (Mvsa(root, protocol="agreement").listing().notes[1])
    )


def test_texts_that_cannot_be_used_are_absent_and_named(small):
    root, _ = small
    folder = root / "data"
    (folder / "1.txt").unlink()
    (folder / "2.txt").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    (folder / "3.txt").write_bytes(b" \r\n")
    (folder / "4.txt").write_bytes("à la café\r\n".encode("latin-1"))
    (folder / "5.txt").write_bytes(b"caf\xe9 \xff\xfe\x81 na\xefve \xc3\x28 end\n")
    listing = Mvsa(root).listing()
    texts = dict(zip(listing.ids, listing.cells["text"], strict=True))
    assert [texts[n] for n in "12345"] == [None, None, None, "à la café", None]
    assert texts["6"] == "tweet 6 é"
    notes = "\n".join(listing.notes)
    assert "1 files are missing: data/1.txt" in notes
    assert "2 files are no text (neither UTF-8 nor Latin-1): data/2.txt, data/5.txt" in notes
    assert "1 files are empty: data/3.txt" in notes
    assert not any("modality 'text'" in n for n in Mvsa(root, modalities=["image"]).listing().notes)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("smile 😀 “x”".encode(), "smile 😀 “x”"),
        ("smile".encode("utf-8-sig"), "smile"),
        ("£5 naïve".encode("latin-1"), "£5 naïve"),
        ("“quoted” –".encode("cp1252"), "“quoted” –"),
        ("cut 😀".encode()[:-1], "cut "),
        ("un café".encode("latin-1"), "un café"),
        (b"caf\xe9 \x81", None),
        (b"a\x00b", None),
        (b"a\x07b", None),
        ("é".encode("utf-16"), None),
        (b"a\tb\r\nc", "a\tb\r\nc"),
        (b"", ""),
    ],
)
def test_encodings(data, text):
    assert decode(data) == text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,text,image\n1\tneutral,neutral\n", "header is 'id,text,image', expected 'ID.*text,im"),
        ("", "the header is '', expected"),
        ("ID\ttext,image\n1\tpositiv,neutral\n", "line 2: unknown sentiment 'positiv'; did you"),
        ("ID\ttext,image\n1\tneutral\n", "line 2: .*expected ID, a tab, and text,image"),
        ("ID\ttext,image\n1 neutral,neutral\n", "line 2: .*expected ID, a tab"),
        ("ID\ttext,image\n\n1\tneutral,neutral\n1\tpositive,neutral\n", "line 4: the ID 1 occurs"),
    ],
)
def test_a_label_file_that_cannot_be_understood(small, content, says):
    root, _ = small
    (root / "labelResultAll.txt").write_text(content)
    with pytest.raises(MmeqError, match=says):
        Mvsa(root).listing()


def test_files_that_cannot_be_read(small):
    root, _ = small
    path = root / "data" / f"{Mvsa(root).listing().ids[0]}.txt"
    path.unlink()
    path.mkdir()
    with pytest.raises(MmeqError, match=r"data/.*\.txt cannot be read: Is a directory"):
        Mvsa(root).listing()
    (root / "labelResultAll.txt").write_bytes(b"ID\ttext,image\n1\tneutral,neutr\xe9l\n")
    with pytest.raises(MmeqError, match=r"labelResultAll\.txt, line 2: not UTF-8 text"):
        Mvsa(root).listing()


def test_a_wrong_root_and_wrong_options(tmp_path):
    with pytest.raises(MmeqError, match=r"it has no labelResultAll\.txt, data"):
        Mvsa(tmp_path).listing()
    with pytest.raises(MmeqError, match="protocol=merge: there is none such; did you mean"):
        Mvsa(protocol="merge")
    with pytest.raises(MmeqError, match=r"fractions=\[1.0\]"):
        Mvsa(fractions=[1])
    (tmp_path / "MVSA_Single").mkdir()
    write(tmp_path / "MVSA_Single", list(PAIRS) * 10)
    assert Mvsa(tmp_path).listing().ids


def test_a_corpus_with_real_media(tmp_path):
    facts = write_mvsa(tmp_path, each=10)
    manifest = Mvsa(tmp_path, fractions=[0.6, 0.2, 0.2]).load()
    classes = manifest.spec.classes
    found = {i: classes[k] for i, k in zip(manifest.ids, manifest.labels, strict=True)}
    assert found == facts["labels"]
    assert manifest.columns["text"].texts == [facts["texts"][name] for name in manifest.ids]
    assert manifest.present.all()
    agreeing = Mvsa(tmp_path, protocol="agreement").load()
    assert sorted(agreeing.ids) == sorted(facts["agreement"])
