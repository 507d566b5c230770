"""CREMA-D: names, protocols, counts, and what is said of a damaged copy."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmeq.data.leakage import check_leakage
from mmeq.data.releases.cremad import CremaD
from mmeq.data.releases.cremad_names import CLASSES, SENTENCES
from mmeq.errors import MmeqError
from tests.corpora.cremad import write_cremad


def grid(actors):
    """What complete actors have: 82 clips each."""
    for actor, sentence, code in itertools.product(actors, SENTENCES, CLASSES):
        levels = ("LO", "MD", "HI") if sentence == "IEO" and code != "NEU" else ("XX",)
        for level in levels:
            yield f"{actor}_{sentence}_{code}_{level}"


def write(root: Path, names, table=True, folders=("AudioWAV", "VideoFlash")) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / f"{name}.{'wav' if folder == 'AudioWAV' else 'flv'}").touch()
    if table:
        rows = [f'{n},"{name}"' for n, name in enumerate(names, 1)]
        (root / "SentenceFilenames.csv").write_text(
            "\n".join(['"Stimulus_Number","Filename"', *rows]) + "\n"
        )
    return root


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Names of a complete release (7,442 of the 7,462 of the grid), empty files of the sound."""
    names = list(grid(range(1001, 1092)))[:7442]
    return write(tmp_path_factory.mktemp("cremad"), names, folders=["AudioWAV"]), names


def small(root, actors=12, **options):
    names = list(grid(range(1001, 1001 + actors)))
    return write(root, names, **options), names


def notes_of(data):
    return "\n".join(data.listing().notes)


def test_a_complete_release_has_no_note(release):
    root, names = release
    listing = CremaD(root, modalities=["audio"]).listing()
    assert listing.notes == []
    assert listing.ids == names
    assert listing.classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    for name, label in zip(listing.ids, listing.labels, strict=True):
        assert name.split("_")[2] == listing.classes[label]
    assert [clip.name for clip in listing.cells["audio"]] == [f"AudioWAV/{n}.wav" for n in names]


def test_whole_actors_in_each_part_in_about_the_published_sizes(release):
    root, _ = release
    listing = CremaD(root, modalities=["audio"]).listing()
    sizes = Counter(listing.split.tolist())
    for part, size in (("train", 5144), ("validation", 738), ("test", 1556)):
        assert abs(sizes[part] - size) < 100
    parts = {}
    for group, part in zip(listing.groups, listing.split, strict=True):
        assert parts.setdefault(group, part) == part
    assert len(parts) == 91
    assert listing.grouped
    assert listing.protocol == "speaker_independent grouped 69.23/9.89/20.88 split_seed=0"
    other = CremaD(root, modalities=["audio"], split_seed=1).listing()
    assert not np.array_equal(other.split, listing.split)


def test_a_missing_clip_is_named(release):
    root, names = release
    lost = root / "AudioWAV" / f"{names[4321]}.wav"
    lost.unlink()
    try:
        (note,) = CremaD(root, modalities=["audio"]).listing().notes
    finally:
        lost.touch()
    assert "7,441 clips where the official release has 7,442" in note
    assert note.endswith(f"missing clips: {names[4321]}")


def test_without_the_release_s_list_actors_are_named(tmp_path):
    root, names = small(tmp_path, table=False)
    (root / "AudioWAV" / f"{names[100]}.wav").unlink()
    (root / "VideoFlash" / f"{names[100]}.flv").unlink()
    listing = CremaD(root).listing()
    assert listing.ids == sorted(set(names) - {names[100]})
    (note,) = listing.notes
    assert "983 clips where" in note
    assert "missing actors: 1013, 1014, 1015 …" in note
    assert "1002 (81 of 82)" in note


def test_a_file_of_one_modality_is_left_to_the_look_at_the_files(tmp_path):
    root, names = small(tmp_path)
    (root / "VideoFlash" / f"{names[7]}.flv").unlink()
    listing = CremaD(root).listing()
    clip = listing.cells["video"][7]
    assert clip.name == f"VideoFlash/{names[7]}.flv"
    assert not clip.path.exists()
    assert listing.cells["audio"][7].path.exists()
    assert "missing clips" not in "\n".join(listing.notes)


def test_the_shortened_name_of_the_release(tmp_path):
    root, _ = small(tmp_path)
    for folder, suffix in (("AudioWAV", "wav"), ("VideoFlash", "flv")):
        path = root / folder / f"1002_ITH_SAD_XX.{suffix}"
        path.rename(path.with_stem("1002_ITH_SAD_X"))
    listing = CremaD(root).listing()
    row = listing.ids.index("1002_ITH_SAD_XX")
    assert listing.cells["audio"][row].path.name == "1002_ITH_SAD_X.wav"
    assert all(clip.path.exists() for clips in listing.cells.values() for clip in clips)


def test_mp3(tmp_path):
    root, names = small(tmp_path, folders=["VideoFlash"])
    (root / "AudioMP3").mkdir()
    (root / "AudioMP3" / f"{names[3]}.mp3").touch()
    clips = CremaD(root, audio_files="mp3").listing().cells["audio"]
    assert [clip.path.exists() for clip in clips].count(True) == 1
    with pytest.raises(MmeqError, match="it has no AudioWAV"):
        CremaD(root).listing()


def lists(root, names, test=5):
    paths = {}
    for part in ("train", "test"):
        rows = [n for i, n in enumerate(names) if (i % test == 0) == (part == "test")]
        paths[f"{part}_list"] = root / f"{part}.csv"
        text = "".join(f"{name},{name.split('_')[2]}\n" for name in rows)
        paths[f"{part}_list"].write_text(text)
    return {key: str(path) for key, path in paths.items()}


def test_ogm_takes_test_from_its_list_and_validation_from_train(tmp_path):
    root, names = small(tmp_path)
    data = CremaD(root, protocol="ogm", **lists(root, names[:-3]), validation=0.2)
    listing = data.listing()
    expected = {name for i, name in enumerate(names[:-3]) if i % 5 == 0}
    of = {part: {n for n, p in zip(listing.ids, listing.split, strict=True) if p == part}
          for part in ("train", "validation", "test", "unused")}  # fmt: skip
    assert of["test"] == expected
    assert of["unused"] == set(names[-3:])
    assert len(of["validation"]) == pytest.approx(0.2 * (len(names) - 3 - len(expected)), abs=6)
    assert "validation 20 % carved from train (stratified)" in listing.protocol
    assert not listing.grouped
    assert "lists of protocol ogm differ" in "\n".join(listing.notes)
    whole = CremaD(
        root, protocol="ogm", **lists(root, names), validation=0.25, grouped=True
    ).listing()
    parts = {}
    for group, part in zip(whole.groups, whole.split, strict=True):
        parts.setdefault(group, set()).add(part)
    assert sum("validation" in one for one in parts.values()) == 3
    assert not any({"train", "validation"} <= one for one in parts.values())


def test_ogm_at_the_published_sizes_has_no_note(release, tmp_path):
    root, names = release
    paths = lists(tmp_path, names)
    both = [n for n in names]
    (tmp_path / "train.csv").write_text("".join(f"{n},{n.split('_')[2]}\n" for n in both[:6698]))
    (tmp_path / "test.csv").write_text("".join(f"{n},{n.split('_')[2]}\n" for n in both[6698:]))
    listing = CremaD(root, modalities=["audio"], protocol="ogm", **paths).listing()
    assert listing.notes == []
    assert Counter(listing.split.tolist())["test"] == 744


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1001_DFA_ANG_XX,SAD", r"line 1: 1001_DFA_ANG_XX has the label SAD, its name says ANG"),
        ("1001_DFA_ANG_XX,ANGR", r"line 1: .*expected name,EMO with EMO one of NEU"),
        ("1001_DFA_ANG_XX", r"line 1: .*expected name,EMO"),
        ("1001_DFA_ANK_XX,ANG", r"line 1: 1001_DFA_ANK_XX: unknown emotion 'ANK'; did you mean"),
        ("1001_DFA_ANG_XX,ANG\n1001_DFA_ANG_XX,ANG", "line 2: 1001_DFA_ANG_XX is listed a second"),
    ],
)
def test_a_list_that_cannot_be_understood(tmp_path, row, says):
    root, names = small(tmp_path)
    paths = lists(root, names)
    Path(paths["train_list"]).write_text(row + "\n")
    with pytest.raises(MmeqError, match=says):
        CremaD(root, protocol="ogm", **paths).listing()


def test_relative_lists_begin_at_the_data_root(tmp_path, monkeypatch):
    root, names = small(tmp_path / "data")
    given = lists(root, names)
    (root / "lists").mkdir()
    for path in given.values():
        Path(path).rename(root / "lists" / Path(path).name)
    mine = {key: f"lists/{Path(path).name}" for key, path in given.items()}
    monkeypatch.chdir(tmp_path)
    assert CremaD("data", protocol="ogm", **mine).listing().ids == names
    data = CremaD("data", protocol="ogm", **{**mine, "test_list": "lists/no.csv"})
    with pytest.raises(MmeqError, match=r"test_list=/.*/data/lists/no\.csv: there is no"):
        data.listing()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "train_list=.*: the list has no clip"), (b"caf\xe9,ANG\n", "line 1: not UTF-8 text")],
)
def test_a_list_without_clips_or_of_other_bytes(tmp_path, content, says):
    root, names = small(tmp_path)
    paths = lists(root, names)
    Path(paths["train_list"]).write_bytes(content)
    with pytest.raises(MmeqError, match=says):
        CremaD(root, protocol="ogm", **paths).listing()


def test_a_table_of_other_bytes_and_a_file_in_place_of_a_folder(tmp_path):
    root, _ = small(tmp_path)
    table = root / "SentenceFilenames.csv"
    table.write_bytes(table.read_bytes().replace(b"1001", b"100\xe9", 1))
    with pytest.raises(MmeqError, match=r"SentenceFilenames\.csv, line 2: not UTF-8 text"):
        CremaD(root).listing()
    table.unlink()
    (tmp_path / "b" / "AudioWAV").parent.mkdir()
    (tmp_path / "b" / "AudioWAV").touch()
    with pytest.raises(MmeqError, match="AudioWAV cannot be read: Not a directory"):
        CremaD(tmp_path / "b", modalities=["audio"]).listing()


def test_clips_of_the_lists_that_the_release_lacks_are_named(tmp_path):
    root, names = small(tmp_path)
    paths = lists(root, [*names, "1090_DFA_SAD_XX"])
    assert "1 clips of the lists are not in the release: 1090_DFA_SAD_XX" in notes_of(
        CremaD(root, protocol="ogm", **paths)
    )


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('1,"1001_DFA_ANK_XX"', r"csv, line 2: 1001_DFA_ANK_XX: unknown emotion 'ANK'; did you"),
        ('1,"1001_DFG_ANG_XX"', r"line 2: .*unknown sentence 'DFG'; did you mean 'DFA'"),
        ('1,"1001_DFA_ANG_LL"', "line 2: .*unknown level 'LL'"),
        ('1,"1092_DFA_ANG_XX"', "line 2: .*the actors are 1001 to 1091, not 1092"),
        ('1,"anger"', "line 2: 'anger' is no name of a CREMA-D clip"),
        ('1,"1001_DFA_ANG_XX"\n2,"1001_DFA_ANG_XX"', "line 3: .*stands in line 2 already"),
    ],
)
def test_a_name_that_cannot_be(tmp_path, row, says):
    root, _ = small(tmp_path)
    (root / "SentenceFilenames.csv").write_text(f"Stimulus_Number,Filename\n{row}\n")
    with pytest.raises(MmeqError, match=says):
        CremaD(root).listing()


def test_another_header(tmp_path):
    root, _ = small(tmp_path)
    (root / "SentenceFilenames.csv").write_text("number,name\n1,1001_DFA_ANG_XX\n")
    with pytest.raises(MmeqError, match="the header is 'number,name', expected a column Filename"):
        CremaD(root).listing()


def test_an_unknown_emotion_in_a_folder_without_list(tmp_path):
    root, _ = small(tmp_path, table=False)
    (root / "AudioWAV" / "1001_DFA_JOY_XX.wav").touch()
    with pytest.raises(MmeqError, match="1001_DFA_JOY_XX: unknown emotion 'JOY'"):
        CremaD(root).listing()


def test_strange_files_are_left_out_by_name(tmp_path):
    root, names = small(tmp_path)
    for name in ("note.wav", ".hidden.wav", "readme.txt"):
        (root / "AudioWAV" / name).touch()
    listing = CremaD(root).listing()
    assert listing.ids == names
    assert "AudioWAV: 1 files are no clip of the release: note.wav" in listing.notes


def test_git_lfs_pointers_are_told_with_the_remedy(tmp_path):
    root, _ = small(tmp_path)
    for path in (root / "VideoFlash").iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(MmeqError, match=r"\.flv is a Git LFS pointer.*git lfs pull"):
        CremaD(root).listing()
    assert CremaD(root, modalities=["audio"]).listing().ids


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "speaker"}, "protocol=speaker: there is none such"),
        ({"protocol": "ogm"}, "needs the paths of its lists"),
        ({"train_list": "a"}, "are for protocol=ogm"),
        ({"audio_files": "ogg"}, "audio_files=ogg: there is none such"),
        ({"fractions": [0.5, 0.5, 0.5]}, "add up to 1.5"),
        ({"validation": 1.5}, "validation=1.5"),
        ({"split_seed": -1}, "split_seed=-1"),
        ({"train_size": 0}, "train_size=0"),
        ({"protocol": "random", "grouped": True}, "grouped=true keeps actors apart"),
    ],
)
def test_options_are_checked_before_data_is_read(options, says):
    with pytest.raises(MmeqError, match=says):
        CremaD(**options)


def test_random_and_train_size(tmp_path):
    root, _ = small(tmp_path)
    listing = CremaD(root, protocol="random", train_size=30).listing()
    assert Counter(listing.split.tolist())["train"] == 30
    assert "random stratified" in listing.protocol
    assert not listing.grouped


def test_a_corpus_with_real_media(tmp_path):
    facts = write_cremad(tmp_path, actors=4, seconds=0.6)
    lists_ = {key: str(facts[key]) for key in ("train_list", "test_list")}
    manifest = CremaD(tmp_path, protocol="ogm", **lists_, validation=0.34).load()
    classes = manifest.spec.classes
    assert {i: classes[k] for i, k in zip(manifest.ids, manifest.labels, strict=True)} == facts[
        "labels"
    ]
    assert dict(zip(manifest.ids, manifest.groups, strict=True)) == facts["actors"]
    test = {i for i, part in zip(manifest.ids, manifest.split, strict=True) if part == "test"}
    assert test == {name for name, part in facts["split"].items() if part == "test"}
    assert manifest.present.all()
    assert any("in both train and test" in warning for warning in check_leakage(manifest))
    with (tmp_path / "SentenceFilenames.csv").open() as stream:
        assert len(list(csv.reader(stream))) == len(manifest) + 1
