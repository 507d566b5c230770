"""IEMOCAP: labels, folds, halves of the picture, transcripts, and what is said of damage."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mmeq.data.leakage import check_leakage
from mmeq.data.releases.iemocap import Iemocap
from mmeq.data.releases.iemocap_labels import DIALOGS, KNOWN
from mmeq.errors import MmeqError
from tests.corpora.iemocap import write_iemocap

LINE = "[{0:.4f} - {1:.4f}]\t{2}\t{3}\t[2.5000, 2.5000, 2.5000]"


def dialog_names():
    for session, count in DIALOGS.items():
        for number in range(count):
            yield session, f"Ses0{session}{'FM'[number % 2]}_impro{number // 2 + 1:02d}"


def write(root: Path, codes: list[str], sessions=tuple(DIALOGS)) -> dict[str, tuple[str, str]]:
    """Spread labels over all dialogs of a complete release; return name → code, text."""
    dialogs = [one for one in dialog_names() if one[0] in sessions]
    turns = {dialog: [] for _, dialog in dialogs}
    out = {}
    for number, code in enumerate(codes):
        _, dialog = dialogs[number % len(dialogs)]
        count = len(turns[dialog])
        name = f"{dialog}_{'FM'[count % 2]}{count // 2:03d}"
        turns[dialog].append((name, code, 2.0 * count, 2.0 * count + 1.5))
        out[name] = (code, f"Word {number}: yes.")
    for session, dialog in dialogs:
        folder = root / f"Session{session}" / "dialog"
        for kind in ("EmoEvaluation", "transcriptions"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        texts = ["M: I know."]
        for name, code, start, end in turns[dialog]:
            lines += [LINE.format(start, end, name, code), "C-E2:\tNeutral;\t(caf\xe9)", ""]
            texts.append(f"{name} [{start:08.4f}-{end:08.4f}]: {out[name][1]}")
        (folder / "EmoEvaluation" / f"{dialog}.txt").write_text("\n".join(lines), "latin-1")
        (folder / "transcriptions" / f"{dialog}.txt").write_text("\n".join(texts) + "\n")
    return out


def every_code(counts=KNOWN):
    return [code for code, count in counts.items() for _ in range(count)]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("iemocap")
    return root, write(root, every_code())


@pytest.fixture
def small(tmp_path):
    """302 labels: two in each dialog."""
    codes = ["neu", "hap", "exc", "ang", "sad", "fru"] * 51
    return tmp_path, write(tmp_path, codes[:302])


def edit(root, dialog, old, new, kind="EmoEvaluation"):
    path = root / f"Session{dialog[4]}" / "dialog" / kind / f"{dialog}.txt"
    text = path.read_text("latin-1")
    assert old in text
    path.write_text(text.replace(old, new), "latin-1")
    return path


def test_a_complete_release(release):
    root, written = release
    listing = Iemocap(root).listing()
    assert listing.notes == []
    assert len(listing.ids) == 5531
    merged = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
    for name, label in zip(listing.ids, listing.labels, strict=True):
        assert listing.classes[label] == merged[written[name][0]]
    assert Counter(listing.labels.tolist()) == {0: 1708, 1: 1636, 2: 1103, 3: 1084}
    texts = dict(zip(listing.ids, listing.cells["text"], strict=True))
    assert texts == {name: written[name][1] for name in listing.ids}
    assert len(Iemocap(root, classes=6).listing().ids) == 7380


@pytest.mark.parametrize("fold", [1, 2, 3, 4, 5])
def test_a_fold_tests_on_its_session_alone(release, fold):
    root, _ = release
    listing = Iemocap(root, modalities=["audio"], fold=fold).listing()
    for name, part in zip(listing.ids, listing.split, strict=True):
        assert (part == "test") == name.startswith(f"Ses0{fold}")
    sizes = Counter(listing.split.tolist())
    assert sizes["validation"] == pytest.approx(0.1 * (5531 - sizes["test"]), abs=5)
    assert f"loso fold {fold} (Session{fold} is test); validation 10 %" in listing.protocol
    assert not listing.grouped


def test_whole_speakers_in_validation(release):
    root, _ = release
    listing = Iemocap(root, modalities=["audio"], grouped=True, fold=2).listing()
    parts = {}
    for group, part in zip(listing.groups, listing.split, strict=True):
        assert parts.setdefault(group, part) == part
    assert len(parts) == 10
    assert Counter(parts.values()) == {"train": 7, "validation": 1, "test": 2}
    assert listing.grouped
    assert set(parts) == {f"Ses0{n}{who}" for n in range(1, 6) for who in "FM"}


def test_the_random_protocol_has_the_published_sizes(release):
    root, _ = release
    listing = Iemocap(root, modalities=["audio"], protocol="random").listing()
    sizes = Counter(listing.split.tolist())
    for part, size in (("train", 3318), ("validation", 1106), ("test", 1107)):
        assert abs(sizes[part] - size) <= 2
    assert "random stratified 60/20/20" in listing.protocol


def test_clips_have_their_place_span_and_half(small):
    root, _ = small
    listing = Iemocap(root).listing()
    for name, sound, picture in zip(
        listing.ids, listing.cells["audio"], listing.cells["video"], strict=True
    ):
        dialog, who = name.rsplit("_", 1)
        session = f"Session{name[4]}"
        assert sound.name == f"{session}/sentences/wav/{dialog}/{name}.wav"
        assert sound.path == root / sound.name
        assert (sound.start, sound.end, sound.crop) == (None, None, None)
        assert picture.name == f"{session}/dialog/avi/DivX/{dialog}.avi"
        turn = 2 * int(who[1:]) + (who[0] == "M")
        assert (picture.start, picture.end) == (2.0 * turn, 2.0 * turn + 1.5)
        left = who[0] == dialog[5]
        assert picture.crop == ((0, 0, 0.5, 1) if left else (0.5, 0, 1, 1))
    full = Iemocap(root, video_crop="full").listing()
    assert {clip.crop for clip in full.cells["video"]} == {None}


def test_what_a_copy_lacks_is_told(small):
    root, _ = small
    (root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt").unlink()
    (note,) = Iemocap(root, modalities=["audio"]).listing().notes
    assert "labels differ from the official release" in note
    assert "(official: 1,708)" in note
    assert "2,507" in note
    assert note.endswith("missing dialogs: Session2 has 29 of 30")


def test_label_files_without_labels_are_named(small):
    root, _ = small
    path = root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16"))
    (note,) = Iemocap(root, modalities=["audio"]).listing().notes
    assert note.endswith(
        "; missing labels in files without any: Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    )
    path.unlink()
    path.mkdir()
    with pytest.raises(MmeqError, match=r"Ses02F_impro01\.txt cannot be read: Is a directory"):
        Iemocap(root, modalities=["audio"]).listing()


def test_a_session_is_missing(tmp_path):
    write(tmp_path, ["neu", "hap", "ang", "sad"] * 60, sessions=[1, 2, 3, 4])
    with pytest.raises(MmeqError, match="fold=5 tests on Session5: none there"):
        Iemocap(tmp_path).listing()
    notes = Iemocap(tmp_path, fold=1).listing().notes
    assert "Session5 has 0 of 31" in notes[0]
    with pytest.raises(MmeqError, match="is no release of iemocap: it has no Session1"):
        Iemocap(tmp_path / "Session2").listing()


def test_an_utterance_without_transcript_is_absent_and_named(small):
    root, _ = small
    edit(root, "Ses03M_impro02", "Ses03M_impro02_M000 [", "Ses03M_impro02_M099 [", "transcriptions")
    (root / "Session4/dialog/transcriptions/Ses04F_impro01.txt").unlink()
    listing = Iemocap(root).listing()
    texts = dict(zip(listing.ids, listing.cells["text"], strict=True))
    lost = [name for name, text in texts.items() if text is None]
    expected = [n for n in texts if n == "Ses03M_impro02_M000" or n.startswith("Ses04F_impro01_")]
    assert lost == expected
    assert len(expected) >= 2
    notes = "\n".join(listing.notes)
    assert "1 transcripts are missing: Session4/dialog/transcriptions/Ses04F_impro01.txt" in notes
    assert f"{len(lost)} utterances have no line in the transcripts: {lost[0]}" in notes
    assert "transcripts" not in "\n".join(Iemocap(root, modalities=["audio"]).listing().notes)


def test_an_empty_transcript_line(small):
    root, written = small
    name = "Ses01F_impro01_F000"
    edit(root, name[:14], written[name][1], "  ", "transcriptions")
    listing = Iemocap(root, modalities=["text"]).listing()
    assert listing.cells["text"][listing.ids.index(name)] is None
    assert name in listing.notes[-1]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\tneu\t", "\tnue\t", r"Ses01F_impro01.txt, line 3: unknown emotion 'nue'; did you mean"),
        ("\tneu\t", "neu", r"Ses01F_impro01.txt, line 3: .* is no label; expected \[start - end\]"),
        ("[0.0000 - 1.5000]", "[0.0 - 1.5", "line 3: .* is no label"),
        ("[0.0000 - 1.5000]", "[1.5000 - 1.5000]", "line 3: .*ends at 1.5000 s, and begins at"),
        ("[0.0000 - 1.5000]", "[0.0.1 - 1.5000]", "line 3: 0.0.1 - 1.5000 are no seconds"),
        ("\tSes01F_impro01_F000\t", "\tSes01F_impro02_F000\t", "is no utterance of Ses01F_impro01"),
        ("\tSes01F_impro01_F000\t", "\tF000\t", "line 3: 'F000' is no utterance"),
        ("_M000\t", "_F000\t", "line 6: Ses01F_impro01_F000 is labelled in .*line 3 already"),
    ],
)
def test_a_label_that_cannot_be_understood(small, old, new, says):
    root, _ = small
    edit(root, "Ses01F_impro01", old, new)
    with pytest.raises(MmeqError, match=says):
        Iemocap(root).listing()


def test_what_a_mac_leaves_is_no_label_file(small):
    root, _ = small
    folder = root / "Session1/dialog/EmoEvaluation"
    before = Iemocap(root).listing()
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07\n[1.0 - 2.0]\n")
    (folder / "Categorical").mkdir()
    (folder / "Categorical" / "Ses01F_impro01_e2_cat.txt").write_text("[not a label")
    assert Iemocap(root).listing().ids == before.ids


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "los"}, "protocol=los: there is none such; did you mean 'loso'"),
        ({"fold": 6}, "fold=6"),
        ({"fold": 0}, "fold=0"),
        ({"classes": 5}, "classes=5"),
        ({"video_crop": "left"}, "video_crop=left"),
        ({"protocol": "random", "grouped": True}, "only protocol=loso"),
        ({"validation": 0}, "validation=0"),
        ({"modalities": ["sound"]}, "no modality 'sound'"),
    ],
)
def test_options_are_checked_before_data_is_read(options, says):
    with pytest.raises(MmeqError, match=says):
        Iemocap(**options)


def test_a_corpus_with_real_media(tmp_path):
    facts = write_iemocap(tmp_path, codes=["neu", "exc", "ang", "sad", "fru"], seconds=0.5)
    manifest = Iemocap(tmp_path, protocol="random").load()
    names = {"neu": "neutral", "hap": "happy", "ang": "angry", "sad": "sad"}
    classes = manifest.spec.classes
    found = {i: classes[k] for i, k in zip(manifest.ids, manifest.labels, strict=True)}
    assert found == {name: names[code] for name, code in facts["four"].items()}
    assert dict(zip(manifest.ids, manifest.groups, strict=True)) == {
        name: facts["speakers"][name] for name in manifest.ids
    }
    assert manifest.present.all()
    halves = {(0.0, 0.0, 0.5, 1.0): "left", (0.5, 0.0, 1.0, 1.0): "right"}
    for row, name in enumerate(manifest.ids):
        clip = manifest.columns["video"].clips[row]
        assert halves[clip.crop] == facts["halves"][name]
        assert (clip.start, clip.end) == pytest.approx(facts["spans"][name], abs=1e-3)
        assert manifest.columns["text"].texts[row] == facts["texts"][name]
    assert any("groups in both train and test" in warning for warning in check_leakage(manifest))
