"""Own data: what a table is taken for, parts, classes, paths, arrays; mistakes by name."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmeq.data.datamodule import DataModule
from mmeq.data.media.audio import AudioFormat
from mmeq.data.media.image import ImageFormat
from mmeq.data.media.video import VideoFormat
from mmeq.data.own.dataset import OwnData
from mmeq.errors import MmeqError
from tests.corpora.media import write_audio, write_image, write_video

CONF = Path(__file__).parents[3] / "conf" / "dataset" / "manifest.yaml"
PARTS = ["train"] * 4 + ["val", "test"]


def table(folder, columns, name="my.csv"):
    """Write a CSV of columns; values repeat up to the longest."""
    count = max(len(values) for values in columns.values())
    lines = [",".join(columns)]
    for row in range(count):
        lines.append(",".join(str(values[row % len(values)]) for values in columns.values()))
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def words(count=30, **others):
    return {"label": ["yes", "no"], "words": [f"text {n}" for n in range(count)], **others}


def refuses(says, path, **options):
    with pytest.raises(MmeqError, match=says):
        OwnData(path, **options).listing()


# --- what is understood


def test_kinds_follow_from_the_cells_and_are_shown(tmp_path):
    np.save(tmp_path / "v.npy", np.zeros(3))
    np.save(tmp_path / "s.npy", np.zeros((2, 3)))
    columns = {
        "id": range(6),
        "label": "ab",
        "group": "xyz",
        "voice": ["a.WAV", "b.mp3", "c.ogg"],
        "face": ["a.mp4", ""],
        "photo": ["a.jpg", "b.PNG"],
        "said": ["Hello.", "3.5 stars", "www.example.org"],
        "vec": ["v.npy"],
        "seq": ["", "s.npy"],
        "age": ["31", "4.5"],
        "nothing": [""],
    }
    data = OwnData(table(tmp_path, columns))
    assert data.kinds == {
        "voice": "audio",
        "face": "video",
        "photo": "image",
        "said": "text",
        "vec": "vector",
        "seq": "sequence",
    }
    assert data.modalities == tuple(data.kinds)
    assert data.name == "my"
    note = data._understood()
    assert note.startswith("dataset 'my': 6 rows, modalities voice (audio), face (video), photo")
    assert "left out: age (numbers; dataset.vectors=" in note
    assert "nothing (empty)" in note
    assert "dataset.kinds={face: [video, audio]}" in note
    assert data.prepared == tmp_path / "mmeq-prepared"


@pytest.mark.parametrize("count", range(2, 11))
def test_2_to_10_modalities(tmp_path, count):
    columns = {f"m{m}": [f"{m} {n}" for n in range(30)] for m in range(count)}
    path = table(tmp_path, {"label": "abc", **columns})
    manifest = OwnData(path, modalities=[f"m{m}" for m in reversed(range(count))]).load()
    manifest.check()
    assert manifest.spec.names == tuple(f"m{m}" for m in reversed(range(count)))
    assert manifest.columns["m1"].batch(torch.tensor([7])) == ["1 7"]
    assert manifest.spec.complete


def test_one_file_for_two_modalities(tmp_path):
    path = table(tmp_path, {"label": "ab", "clip": ["x/a.mp4", "", "x/b.mp4"]})
    data = OwnData(path, kinds={"clip": ["video", "audio"]})
    assert data.kinds == {"clip_video": "video", "clip_audio": "audio"}
    assert "sound of" not in data._understood()
    named = OwnData(path, kinds={"clip": {"voice": "audio", "face": "video"}}, modalities=["voice"])
    assert named.kinds == {"voice": "audio"}
    assert isinstance(named.formats["voice"], AudioFormat)
    listing = OwnData(
        table(tmp_path, {"label": "ab", "split": PARTS, "clip": ["x/a.mp4", "", "x/b.mp4"]}),
        kinds={"clip": ["video", "audio"]},
    ).listing()
    assert listing.cells["clip_audio"] == listing.cells["clip_video"]
    names = [clip and clip.name for clip in listing.cells["clip_audio"]]
    assert names == ["x/a.mp4", None, "x/b.mp4"] * 2
    assert listing.cells["clip_audio"][0].path == tmp_path / "x" / "a.mp4"


def test_columns_of_numbers_as_vectors(tmp_path):
    columns = words(6, split=PARTS, age=[20, 30, "", 40], bmi=[1.5, 2, "", 1e-3], pay=[7, "", 8])
    data = OwnData(
        table(tmp_path, columns), vectors={"body": ["bmi", "age"]}, kinds={"pay": "vector"}
    )
    assert data.kinds == {"words": "text", "pay": "vector", "body": "vector"}
    assert "left out" not in data._understood()
    manifest = data.load()
    manifest.check()
    assert manifest.columns["body"].values[:2].tolist() == [[1.5, 20], [2, 30]]
    assert manifest.present[:, 2].tolist() == [True, True, False, True, True, True]
    assert manifest.present[:, 1].tolist() == [True, False, True] * 2
    assert manifest.spec.modalities[2].shape == (2,)


def test_other_names_of_columns(tmp_path):
    columns = {
        "emotion": "ab",
        "label": ["x y", "z"],
        "file": [f"f{n}" for n in range(6)],
        "fold": PARTS,
        "split": ["test"],
        "text": [f"t{n}" for n in range(6)],
    }
    roles = {"label": "emotion", "id": "file", "split": "fold"}
    data = OwnData(table(tmp_path, columns), columns=roles)
    # another label or split left in the table must not become an input unasked
    assert data.modalities == ("text",)
    listing = data.listing()
    assert listing.ids[:2] == ["f0", "f1"]
    assert listing.classes == ("a", "b")
    assert listing.split.tolist() == ["train"] * 4 + ["validation", "test"]


def test_id_may_be_the_file_too(tmp_path):
    path = table(tmp_path, {"label": "ab", "file": [f"{n}.wav" for n in range(30)]})
    listing = OwnData(path, columns={"id": "file"}, kinds={"file": {"voice": "audio"}}).listing()
    assert listing.ids[3] == "3.wav"
    assert listing.cells["voice"][3].name == "3.wav"
    assert OwnData(path).listing().ids[:2] == ["1", "2"]


# --- classes and parts


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        (["0.5", "-1"], ("-1", "0.5")),
        (["b", "a", "10"], ("10", "a", "b")),
        (["inf", "9", "10"], ("10", "9", "inf")),
    ],
)
def test_classes_in_order(tmp_path, labels, classes):
    listing = OwnData(table(tmp_path, words(label=labels))).listing()
    assert listing.classes == classes
    assert [classes[label] for label in listing.labels[: len(labels)]] == labels


def test_given_classes(tmp_path):
    path = table(tmp_path, words(label=[0, 1]))
    listing = OwnData(path, classes=[1, 0]).listing()
    assert listing.classes == ("1", "0")
    assert listing.labels[:2].tolist() == [1, 0]
    refuses(r"my.csv, line 3: the label '1' is none of dataset.classes", path, classes=["0", "2"])
    named = OwnData(table(tmp_path, words(label=[0, "nan"]), "n.csv"), classes=["nan", 0]).listing()
    assert named.labels[:2].tolist() == [1, 0]
    refuses(r"class '2' has 0 of the 3 samples", path, classes=[0, 1, 2])
    refuses(r"classes: '1' is given twice", path, classes=[0, 1, "1"])


def test_a_split_as_given(tmp_path):
    columns = words(7, split=["Train", "training", "train", "VALID", "dev", "Testing", "unused"])
    data = OwnData(table(tmp_path, columns))
    listing = data.listing()
    wanted = ["train"] * 3 + ["validation"] * 2 + ["test", "unused"]
    assert listing.split.tolist() == wanted
    assert listing.protocol == "as given in my.csv"
    manifest = data.load()
    assert manifest.ids == ["1", "2", "3", "4", "5", "6"]


def test_a_validation_part_is_carved_where_none_is_given(tmp_path):
    split = ["train"] * 40 + ["test"] * 10
    path = table(tmp_path, words(50, split=split, group=[f"g{n // 4}" for n in range(50)]))
    one = OwnData(path, validation=0.2).listing()
    assert Counter(one.split.tolist()) == {"train": 32, "validation": 8, "test": 10}
    assert (
        one.protocol == "as given in my.csv, validation carved 20 % of train grouped split_seed=0"
    )
    assert not one.grouped, "the given parts are none of ours to promise"
    parts = {
        part: {g for g, p in zip(one.groups, one.split.tolist(), strict=True) if p == part}
        for part in ("train", "validation")
    }
    assert not parts["train"] & parts["validation"]
    again = OwnData(path, validation=0.2, split_seed=1).listing()
    assert again.split.tolist() != one.split.tolist()
    other = OwnData(path, validation=0.2, split_seed=1, grouped=False).listing()
    assert "stratified split_seed=1" in other.protocol
    assert other.split.tolist() != one.split.tolist()
    assert (other.split[40:] == "test").all()


def test_a_split_that_is_made(tmp_path):
    path = table(tmp_path, words(100, group=[f"g{n // 5}" for n in range(100)]))
    data = OwnData(path, train_size=20, fractions=[0.6, 0.2, 0.2])
    listing = data.listing()
    assert Counter(listing.split.tolist()) == {
        "train": 20, "unused": 40, "validation": 20, "test": 20
    }  # fmt: skip
    assert listing.protocol == "grouped 60/20/20 split_seed=0 train_size=20"
    assert listing.grouped
    loose = OwnData(path, grouped=False).listing()
    assert not loose.grouped
    assert loose.protocol == "stratified 80/10/10 split_seed=0"
    assert OwnData(path, split_seed=1).listing().split.tolist() != loose.split.tolist()
    forced = table(tmp_path, words(100, split=["train", "test"]), "forced.csv")
    assert OwnData(forced, columns={"split": None}).listing().protocol == loose.protocol


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torn_groups_of_a_given_split_are_warned_of(tmp_path):
    path = table(tmp_path, words(12, split=["train", "val", "test", "train"], group=["one"]))
    module = DataModule(OwnData(path))
    with pytest.warns(UserWarning, match="1 groups in both train and validation"):
        module.setup()


def test_a_text_that_gives_the_label_away(tmp_path):
    fine = {"either": ["x", "y", "y", "x"], "twice": [f"t{n}" for n in range(12)]}
    path = table(tmp_path, words(36, mood=["good", "bad"], **fine))
    notes = OwnData(path).load().notes
    assert [note for note in notes if "gives the label away" in note] == [
        "dataset 'my': modality 'mood' has one text for each class: it gives the label away; leave "
        "it out by dataset.modalities"
    ]


# --- paths


def test_paths_start_from_the_table_or_from_data_root(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "media").mkdir()
    columns = {"label": "ab", "photo": [f"./p//{n}.jpg" for n in range(30)]}
    path = table(tmp_path / "tables", columns)
    clip = OwnData(path).listing().cells["photo"][0]
    assert (clip.path, clip.name) == (tmp_path / "tables" / "p" / "0.jpg", "p/0.jpg")
    data = OwnData(path, data_root=str(tmp_path / "media"))
    assert data.listing().cells["photo"][2].path == tmp_path / "media" / "p" / "2.jpg"
    assert data.prepared == tmp_path / "media" / "mmeq-prepared"
    refuses("data_root=.*none: there is no such folder", path, data_root=str(tmp_path / "none"))


def test_paths_may_not_leave_the_root_unasked(tmp_path):
    root, out = tmp_path / "root", tmp_path / "root-not"
    (root / "in").mkdir(parents=True)
    out.mkdir()
    (out / "a.wav").write_bytes(b"")
    (root / "in" / "b.wav").write_bytes(b"")
    (root / "file.wav").symlink_to(out / "a.wav")
    (root / "folder").symlink_to(out)
    (root / "near").symlink_to(root / "in")
    (root / "same.wav").symlink_to("in/b.wav")
    fine = ["in/b.wav", "in/../in/b.wav", "../root/in/b.wav", str(root / "in/b.wav"), "near/b.wav"]
    fine += ["same.wav", str(root / "same.wav"), "../root/same.wav"]
    for cell in fine:
        data = OwnData(table(root, {"label": "ab", "voice": [cell] * 6, "split": PARTS}))
        clip = data.listing().cells["voice"][0]
        assert clip.name == "in/b.wav", cell
        assert clip.path.resolve() == root / "in" / "b.wav"
    for cell in ["../root-not/a.wav", str(out / "a.wav"), "file.wav", "folder/a.wav", "../c.wav"]:
        columns = {"label": "ab", "voice": ["in/b.wav", cell, ""] * 2, "split": PARTS}
        path = table(root, columns)
        refuses(rf"my.csv, line 3: the path '{cell}' leads out of {root} ", path)
        clip = OwnData(path, allow_outside=True).listing().cells["voice"][1]
        assert clip.path.resolve() == (root / cell).resolve()


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("https://example.org/a.wav", "line 3: 'https://.* is an address"),
        ("x" * 300 + ".wav", "line 3: 'xxx.*… is no path of a file"),
        ("ä" * 130 + ".wav", "line 3: 'äää.*… is no path of a file"),
        ("a/" * 2100 + "a.wav", "line 3: 'a/a/.*… is no path of a file"),
    ],
)
def test_what_is_no_path(tmp_path, cell, says):
    columns = {"label": "ab", "voice": ["a.wav", cell, ""] * 2, "split": PARTS}
    refuses(says, table(tmp_path, columns))


@pytest.mark.slow
def test_100_000_rows_are_listed_in_no_time(tmp_path):
    count = 100_000
    columns = {
        "id": range(count),
        "label": range(8),
        "clip": [f"clips/{n % 100}/{n}.mp4" for n in range(count)],
        "words": [f"some words of {n}" for n in range(count)],
    }
    path = table(tmp_path, columns)
    begun = time.process_time()
    listing = OwnData(path).listing()
    assert time.process_time() - begun < 3
    assert listing.cells["clip"][99_999].name == "clips/99/99999.mp4"
    begun = time.process_time()
    OwnData(path)
    assert time.process_time() - begun < 1, "the table is remembered"


# --- arrays


def arrays(folder, content, **others):
    """A table of array files; None is a row whose file is missing, "" one without."""
    cells = []
    for row, one in enumerate(content):
        cells.append("" if isinstance(one, str) else f"{row}.npy")
        if isinstance(one, np.ndarray):
            np.save(folder / f"{row}.npy", one)
    return table(folder, words(len(content), split=PARTS, sensor=cells, **others))


def test_vectors_and_sequences_of_array_files(tmp_path):
    content = [np.full(3, n, dtype=np.int16) for n in range(6)]
    content[1], content[2] = None, ""
    manifest = OwnData(arrays(tmp_path, content)).load()
    manifest.check()
    assert manifest.spec.modalities[1].shape == (3,)
    assert manifest.columns["sensor"].values[:, 0].tolist() == [0, 0, 0, 3, 4, 5]
    assert manifest.present[:, 1].tolist() == [True, False, False, True, True, True]
    assert "modality 'sensor': 1 files are missing: 1.npy" in manifest.notes

    steps = [2, 4, 1, 3, 2, 2]
    content = [np.full((length, 2), n + 1.0) for n, length in enumerate(steps)]
    data = OwnData(arrays(tmp_path, content))
    assert data.kinds["sensor"] == "sequence"
    manifest = data.load()
    assert manifest.spec.modalities[1].shape == (4, 2)
    assert manifest.columns["sensor"].length.tolist() == steps
    assert manifest.columns["sensor"].values[2, :, 1].tolist() == [3, 0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = DataModule(data, batch_size=8)
        module.setup()
        (batch,) = module.train_dataloader()
    values = batch["inputs"]["sensor"]
    steps_BT1 = (torch.arange(4) < values["length"][:, None])[:, :, None]
    assert values["values"][steps_BT1.expand(-1, -1, 2)].mean().abs() < 1e-6, "standardised"
    assert not values["values"][~steps_BT1.expand(-1, -1, 2)].any()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.array([1.0, np.nan, 0.0]), "3.npy holds NaN or an infinity"),
        (np.array([1.0, 1e300, 0.0]), "3.npy holds NaN or an infinity"),
        (np.zeros((1, 3)), r"3.npy has the shape \[1, 3\]: a vector is \[F\]"),
        (np.zeros(0), r"3.npy has the shape \[0\]"),
        (np.zeros(4), "3.npy has 4 features, 0.npy has 3"),
        (np.array(["a", "b", "c"]), "3.npy holds <U1: give numbers"),
        (np.array([True, False, True]), "3.npy holds bool: give numbers"),
        (np.array([1, "a", None], dtype=object), "3.npy is no sound .npy file of numbers"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'", "3.npy is no sound .npy file"),
        (b"no array", "3.npy is no sound .npy file"),
        (b"", "3.npy is no sound .npy file"),
    ],
)
def test_array_files_that_cannot_be_used(tmp_path, bad, says):
    path = arrays(tmp_path, [np.zeros(3)] * 6)
    if isinstance(bad, bytes):
        (tmp_path / "3.npy").write_bytes(bad)
    else:
        np.save(tmp_path / "3.npy", bad, allow_pickle=True)
    refuses(says, path)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (b"no array", "0.npy is no sound .npy file"),
        (np.zeros((2, 2, 2)), r"0.npy has the shape \[2, 2, 2\]: give a vector \[F\] or a seq"),
        (np.array(1.0), r"0.npy has the shape \[\]"),
        (np.array([{}], dtype=object), "0.npy holds Python objects, which are not read"),
    ],
)
def test_the_first_array_file_tells_the_kind(tmp_path, first, says):
    path = arrays(tmp_path, [np.zeros(3)] * 6)
    if isinstance(first, bytes):
        (tmp_path / "0.npy").write_bytes(first)
    else:
        np.save(tmp_path / "0.npy", first, allow_pickle=True)
    with pytest.raises(MmeqError, match=says):
        OwnData(path)


def test_an_archive_by_the_name_of_an_array(tmp_path):
    path = arrays(tmp_path, [np.zeros(3)] * 6)
    with (tmp_path / "3.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(3))
    refuses("3.npy is an archive of arrays", path)


def test_a_folder_by_the_name_of_an_array(tmp_path):
    path = arrays(tmp_path, [None] * 6)
    (tmp_path / "0.npy").mkdir()
    with pytest.raises(MmeqError, match=r"0.npy cannot be read: Is a directory"):
        OwnData(path)


def test_a_column_without_a_name_is_shown(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(
        ",label,words,\n" + "".join(f"{n},{'ab'[n % 2]},w {n}\n"[:-1] + ",\n" for n in range(30))
    )
    with pytest.raises(MmeqError, match="more than one column without a name"):
        OwnData(str(path))
    path.write_text("label,words,\n" + "".join(f"{'ab'[n % 2]},w {n},\n" for n in range(30)))
    assert "left out: '' (empty)" in OwnData(str(path))._understood()


def test_no_array_file_is_there(tmp_path):
    path = arrays(tmp_path, [None] * 6)
    with pytest.raises(
        MmeqError, match=rf"none of its files is there .*{tmp_path}/0.npy.*data_root"
    ):
        OwnData(path)
    told = OwnData(path, kinds={"sensor": "vector"})
    with pytest.raises(
        MmeqError, match=r"no sample has the modality 'sensor' .*6 files are missing"
    ):
        told.load()
    alone = OwnData(path, kinds={"sensor": "vector"}, modalities=["sensor"])
    with pytest.raises(MmeqError, match=r"no sample has the modality 'sensor' .*: 0.npy, 1.npy"):
        alone.load()


# --- mistakes


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"Label": "ab"}, {}, "my.csv has no column 'label'; did you mean 'Label'.*one of: Label"),
        ({"mood": "ab"}, {}, "no column 'label' .one of: mood, words.; .*columns={label"),
        ({"label": ["a", "b", ""]}, {}, r"line 4: the label .column 'label'. is empty, as in 9 mo"),
        (
            {"label": ["0", "1", "NaN"]},
            {},
            r"my.csv, line 4: the label .column 'label'. is 'NaN', .*, as in 9 more rows",
        ),
        ({"label": ["a"]}, {}, "column 'label' of my.csv has one class alone .'a'."),
        ({"label": ["a"] * 29 + ["b"]}, {}, r"class 'b' has 1 of the 3 .*my.csv, line 31"),
        ({"id": range(7)}, {}, "my.csv, line 9: the id '0' is that of line 2 too"),
        ({"id": ["x", ""]}, {}, r"line 3: the id .column 'id'. is empty"),
        ({"group": ["x", ""]}, {}, r"line 3: the group .column 'group'. is empty"),
        ({"split": ["train", "tset"]}, {}, "line 3: there is no part 'tset'; did you mean 'test'"),
        ({"split": ["train", ""]}, {}, r"line 3: the part .column 'split'. is empty"),
        ({"split": ["train", "val"]}, {}, r"no row of the test part .it has: train, val."),
        ({"split": ["test", "val"]}, {}, "no row of the train part"),
        (
            {"split": ["test"] * 10 + ["train"] * 20, "label": ["a", "c"] * 5 + ["a", "b"] * 10},
            {},
            "no sample of class 'c' in the train part",
        ),
        (
            {"split": ["train", "train", "test"]},
            {"validation": 0.001},
            "0.001 of its train part is less than a sample",
        ),
        ({"group": "xy"}, {}, "my.csv has 2 groups, and a split that keeps them whole needs 3"),
        ({}, {"name": "../x"}, "dataset.name='../x': give a word without '/'"),
        ({}, {"validation": 1.0}, "validation=1: give a share"),
        ({}, {"fractions": [0.5, 0.5, 0.5]}, "add up to 1.5"),
        ({}, {"train_size": 100}, "train_size=100: the train part has only 24"),
        ({"split": PARTS}, {"train_size": 100}, "train_size=100: the train part has only 20"),
        ({}, {"columns": {"lable": "x"}}, "columns: there is no role 'lable'; did you mean 'lab"),
        ({}, {"columns": {"id": "word"}}, "columns.id: my.csv has no column 'word'; did you mean"),
        ({}, {"columns": {"label": None}}, "my.csv has no column 'label'"),
        ({}, {"kinds": {"word": "text"}}, "kinds: my.csv has no column 'word'; did you mean 'wo"),
        ({}, {"kinds": {"words": "txt"}}, "kinds.words: there is no kind 'txt'; did you mean 't"),
        ({}, {"kinds": {"words": 3}}, "kinds.words=3: give a kind .audio, video"),
        ({}, {"kinds": {"words": []}}, r"kinds.words=\[\]: give a kind"),
        ({}, {"kinds": {"label": "text"}}, "modality 'label' is the column of the labels"),
        ({"split": PARTS}, {"kinds": {"split": {"a": "text"}}}, "'a' is the column of the splits"),
        ({"x": [""]}, {"kinds": {"x": "text"}}, "kinds: column 'x' is empty in every row"),
        ({"x": [""]}, {"modalities": ["x"]}, "modalities: column 'x' is empty in every row"),
        ({"x": [5]}, {"modalities": ["x"]}, "column 'x' holds numbers: give dataset.kinds={x: vec"),
        ({}, {"modalities": ["word"]}, "'my' has no modality 'word'; did you mean 'words'"),
        ({}, {"vectors": {"v": ["word"]}}, "vectors.v: my.csv has no column 'word'"),
        ({}, {"vectors": {"v": "words"}}, "vectors.v='words': give a list of columns"),
        ({}, {"vectors": {"v": ["words"]}}, "line 2: 'words' is 'text 0', expected a number"),
        ({"x": [1, ""], "y": [2]}, {"vectors": {"v": ["x", "y"]}}, "line 3: 'x' is None, expected"),
        ({"x": [1, "inf"]}, {"vectors": {"v": ["x"]}}, "line 3: 'x' is 'inf', expected a number"),
        ({"x": [1]}, {"vectors": {"words": ["x"]}}, "two modalities would be called 'words'"),
        ({"a.b": ["x", "y z"]}, {}, "'a.b' cannot be the name of a modality .*kinds={'a.b': {my_n"),
        ({"type": ["x", "y z"]}, {}, "'type' cannot be the name of a modality"),
        ({"a+b": ["x", "y z"]}, {}, "'a.b' cannot be the name of a modality"),
        (
            {"clip": ["a.mp4", "a.mp4", "b.wav", "talk"]},
            {},
            "'clip' has cells of several kinds: .* like video .my.csv, line 2: 'a.mp4'.; .*like aud"
            "io .my.csv, line 4: 'b.wav'.; .*like text .my.csv, line 5.*kinds={'clip': video}",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_any_data_are_read(tmp_path, columns, options, says):
    full = words()
    if "label" not in columns and any(name in columns for name in ("Label", "mood")):
        del full["label"]
    refuses(says, table(tmp_path, full | columns), **options)


def test_a_table_without_modalities(tmp_path):
    path = table(tmp_path, {"label": "ab", "id": range(30), "age": range(30)})
    says = r"no column that could be a modality beside id, label; left out: age .num"
    with pytest.raises(MmeqError, match=says):
        OwnData(path, columns={"id": "id"})


def test_files_of_an_unknown_ending_are_no_texts(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.txt").write_text("words")
    path = table(tmp_path, {"label": "ab", "x": [f"{n}.txt" for n in range(3)] * 4})
    with pytest.raises(MmeqError, match=r"'x' names files of an unknown ending .*line 2: '0.txt'"):
        OwnData(path)
    assert OwnData(path, kinds={"x": "text"}).kinds == {"x": "text"}
    (tmp_path / "1.txt").unlink()
    assert OwnData(path).kinds == {"x": "text"}


def test_the_config_names_every_option(tmp_path):
    import inspect

    node = yaml.safe_load(CONF.read_text("utf-8"))
    node.pop("_target_")
    supplied = {"data_root", "prepared"}
    assert set(node) == set(inspect.signature(OwnData).parameters) - supplied
    formats = {"audio": AudioFormat, "video": VideoFormat, "image": ImageFormat}
    for kind, cls in formats.items():
        options = node.pop(kind)
        assert options.pop("_target_") == f"{cls.__module__}.{cls.__qualname__}"
        assert set(options) == set(inspect.signature(cls).parameters)
        node[kind] = cls(**options)
    node["path"] = table(tmp_path, words())
    assert len(OwnData(**node).load()) == 30


def test_columns_that_were_not_chosen_are_not_looked_at(tmp_path):
    columns = words(30, mixed=["a.mp4", "b.wav"], gone=["x.npy"], **{"odd.name": ["x", "y"]})
    path = table(tmp_path, columns)
    assert OwnData(path, modalities=["words"]).kinds == {"words": "text"}
    refuses("'mixed' has cells of several kinds", path, modalities=["words", "mixed"])
    refuses("has no modality 'gome'; did you mean 'gone'", path, modalities=["gome"])


# --- real files


def real(folder, count=12):
    """Six modalities of real files; row 2 has a silent film, 3 no photo, 4 a broken voice."""
    random = np.random.default_rng(0)
    for n in range(count):
        tone = (9000 * np.sin(np.arange(8000) * (0.05 + 0.02 * n))).astype(np.int16)
        frames = random.integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
        sound = None if n == 2 else (tone, 8000)
        write_video(folder / f"clips/{n}.mp4", frames, 8, sound=sound)
        write_audio(folder / f"voices/{n}.wav", tone, 8000)
        if n != 3:
            write_image(folder / f"photos/{n}.jpg", frames[0])
        np.save(folder / f"{n}.npy", random.normal(size=(2 + n % 3, 5)))
    (folder / "voices/4.wav").write_bytes(b"RIFF")
    return table(
        folder,
        {
            "label": "ab",
            "split": ["train"] * 8 + ["val"] * 2 + ["test"] * 2,
            "clip": [f"clips/{n}.mp4" for n in range(count)],
            "voice": [f"voices/{n}.wav" for n in range(count)],
            "photo": [f"photos/{n}.jpg" for n in range(count)],
            "said": [f"the words of {n}" for n in range(count)],
            "sensor": [f"{n}.npy" for n in range(count)],
        },
    )


def test_real_files_of_every_kind_end_to_end(tmp_path):
    data = OwnData(
        real(tmp_path),
        kinds={"clip": ["video", "audio"]},
        audio=AudioFormat(rate=8000, seconds=0.5, features="spectrogram", n_fft=64, hop=50),
        video=VideoFormat(fps=8, frames=2, resize=40, size=32),
        image=ImageFormat(resize=40, size=32),
    )
    module = DataModule(data, batch_size=8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.setup()
    said = "\n".join(str(one.message) for one in caught)
    assert "12 rows, modalities clip_video (video), clip_audio (audio), voice (audio)" in said
    assert "modality 'clip_audio': 1 clips have no such track (a missing modality): clips/2" in said
    assert "modality 'photo': 1 files are missing: photos/3.jpg" in said
    assert "modality 'voice': 1 files are broken: voices/4.wav (" in said
    shapes = {m.name: m.shape for m in module.spec.modalities}
    assert shapes == {
        "clip_video": (2, 3, 32, 32),
        "clip_audio": (33, 81),
        "voice": (33, 81),
        "photo": (3, 32, 32),
        "said": (),
        "sensor": (4, 5),
    }
    for loader in (module.train_dataloader(), module.val_dataloader()):
        for batch in loader:
            inputs, present = batch["inputs"], batch["present"]
            for m, (name, shape) in enumerate(shapes.items()):
                if name not in ("said", "sensor"):
                    assert inputs[name].shape == (len(present), *shape)
                    seen = inputs[name].flatten(1).any(1)
                    assert seen.tolist() == present[:, m].tolist(), name
            assert inputs["sensor"]["values"].shape == (len(present), 4, 5)
            assert inputs["said"] == [f"the words of {int(one) - 1}" for one in batch["id"]]
    gaps = (~module.manifest.present).nonzero().tolist()
    assert gaps == [[2, 1], [3, 3], [4, 2]]


def test_a_wrong_root_is_told_from_gaps(tmp_path):
    """All files of a modality missing is a mistake of the path, not an incomplete data set."""
    (tmp_path / "there").mkdir()
    path = real(tmp_path / "there")
    (tmp_path / "other").mkdir()
    data = OwnData(path, data_root=str(tmp_path / "other"), modalities=["photo", "said"])
    with pytest.raises(
        MmeqError, match=r"no sample has the modality 'photo' .*12 files are missing"
    ):
        data.load()
