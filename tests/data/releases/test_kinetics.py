"""Kinetics-400 and Kinetics-Sounds: class lists, both layouts, and what is said of damage."""

from __future__ import annotations

from collections import Counter

import pytest

from mmeq.data.leakage import check_leakage
from mmeq.data.releases.kinetics import Kinetics
from mmeq.data.releases.kinetics_classes import KINETICS_400, KINETICS_SOUNDS
from mmeq.errors import MmeqError
from tests.corpora.kinetics import write_kinetics

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"
NAMES = ("tap dancing", "passing American football (in game)", "massaging person's head", "zumba")


def rows(part, classes=NAMES, each=20):
    """Label, id, start and end of each clip."""
    return [
        (label, f"{'-' if n == 0 else 'x'}{part[:2]}{k:03d}{n:05d}", 7 * n, 7 * n + 10)
        for k, label in enumerate(classes)
        for n in range(each)
    ]


def stem(row):
    return f"{row[1]}_{row[2]:06d}_{row[3]:06d}"


def write_lists(root, folder="annotations", val="val.csv", place="{part}", **options):
    listed = {}
    for part, name in (("train", "train.csv"), ("val", val), ("test", "test.csv")):
        listed[part] = rows(part, **options)
        (root / folder).mkdir(parents=True, exist_ok=True)
        lines = [f"{','.join(str(cell) for cell in row)},{part},0" for row in listed[part]]
        (root / folder / name).write_text("\n".join([HEADER, *lines]) + "\n")
        for row in listed[part]:
            label = row[0].replace(" ", "_")
            where = root / place.format(part=part, label=row[0], plain=label)
            where.mkdir(parents=True, exist_ok=True)
            (where / f"{stem(row)}.mp4").touch()
    return listed


def listing(root, classes=NAMES, **options):
    return Kinetics(root, classes=classes, **options).listing()


def check_parts(found, listed):
    by_part = {
        "test": {stem(row) for row in listed["val"]},
        "train": {stem(row) for row in listed["train"]},
    }
    for name, part, clip in zip(found.ids, found.split, found.cells["audio"], strict=True):
        where = "test" if part == "test" else "train"
        assert clip.path.stem in by_part[where]
        by_part[where].remove(clip.path.stem)
        assert name.endswith(clip.path.stem)
        assert clip.path.is_file()
    assert by_part == {"test": set(), "train": set()}
    labels = {stem(row): row[0] for part in ("train", "val") for row in listed[part]}
    for clip, label in zip(found.cells["video"], found.labels, strict=True):
        assert found.classes[label] == labels[clip.path.stem]


def test_the_class_lists():
    from torchvision.models import video

    assert list(KINETICS_400) == video.R3D_18_Weights.KINETICS400_V1.meta["categories"]
    assert len(KINETICS_SOUNDS) == 31
    assert set(KINETICS_SOUNDS) < set(KINETICS_400)
    assert list(KINETICS_SOUNDS) == sorted(KINETICS_SOUNDS)


@pytest.mark.parametrize(
    ("folder", "val", "place"),
    [
        ("annotations", "val.csv", "{part}"),
        (".", "validate.csv", "{part}/{label}"),
        ("kinetics400", "validate.csv", "{part}/{plain}"),
        ("annotations", "val.csv", "videos/{part}/{label}"),
    ],
)
def test_with_lists(tmp_path, folder, val, place):
    listed = write_lists(tmp_path, folder, val, place)
    found = listing(tmp_path)
    check_parts(found, listed)
    assert found.notes == []
    assert Counter(found.split.tolist()) == {"train": 72, "validation": 8, "test": 80}
    assert found.groups == [name.split("/")[1][:11] for name in found.ids]
    assert "full, 4 given classes, official validation part is test" in found.protocol
    assert "validation 10 % carved from train" in found.protocol


@pytest.mark.parametrize("spell", [str, lambda name: name.replace(" ", "_")])
@pytest.mark.parametrize("above", [".", "videos"])
def test_in_folders_of_classes(tmp_path, spell, above):
    listed = {part: rows(part) for part in ("train", "val")}
    for part, clips in listed.items():
        for row in clips:
            folder = tmp_path / above / part / spell(row[0].replace("'", ""))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{stem(row)}.mp4").touch()
            (folder / f"._{stem(row)}.mp4").touch()
    found = listing(tmp_path)
    check_parts(found, listed)
    assert found.notes == []
    assert {group[:3] for group in found.groups} == {"xtr", "-tr", "xva", "-va"}


def test_clips_that_are_not_on_disk_are_counted_and_left_out(tmp_path):
    listed = write_lists(tmp_path)
    lost = [stem(row) for row in listed["train"][3:8]]
    for name in lost:
        (tmp_path / "train" / f"{name}.mp4").unlink()
    found = listing(tmp_path)
    assert len(found.ids) == 155
    assert not {name.split("/")[1] for name in found.ids} & set(lost)
    (note,) = found.notes
    assert note == (
        "dataset 'kinetics400': 5 of 80 clips that train.csv lists are not on disk: "
        f"{', '.join(lost[:3])} …"
    )


def test_replacements_and_files_without_span(tmp_path):
    listed = write_lists(tmp_path)
    one, other = stem(listed["train"][0]), listed["train"][1]
    better = tmp_path / "replacement/replacement_for_corrupted_k400" / f"{one}.mp4"
    better.parent.mkdir(parents=True)
    better.touch()
    path = tmp_path / "train" / f"{stem(other)}.mp4"
    path.rename(path.with_stem(other[1]))
    found = listing(tmp_path)
    assert found.notes == []
    clips = dict(zip(found.ids, found.cells["video"], strict=True))
    assert clips[f"train/{one}"].path == better
    assert clips[f"train/{stem(other)}"].path.stem == other[1]


def test_sounds(tmp_path):
    classes = (*KINETICS_SOUNDS, "abseiling")
    write_lists(tmp_path, classes=classes, each=4)
    found = Kinetics(tmp_path, protocol="sounds", validation=0.25).listing()
    assert found.classes == KINETICS_SOUNDS
    assert len(found.ids) == 31 * 8
    assert Counter(found.labels.tolist()) == dict.fromkeys(range(31), 8)
    assert found.protocol.startswith("sounds, 31 classes")
    assert "124 train (official: 14,799), 124 val (official: 2,597)" in found.notes[0]
    full = Kinetics(tmp_path, classes=["abseiling", "singing"], validation=0.25).listing()
    assert len(full.ids) == 16


def test_classes_without_clips_are_named(tmp_path):
    write_lists(tmp_path, classes=NAMES[:3])
    with pytest.raises(MmeqError, match="1 of 4 classes have no clip in train/: zumba; data"):
        listing(tmp_path)
    path = tmp_path / "annotations" / "train.csv"
    path.write_text(path.read_text() + "zumba,abcdefghijk,0,10,train,0\n" * 1)
    (tmp_path / "train" / "abcdefghijk_000000_000010.mp4").touch()
    assert listing(tmp_path).notes == []


def test_what_is_no_class(tmp_path):
    write_lists(tmp_path / "a")
    with pytest.raises(MmeqError, match="no clip of kinetics_sounds's classes"):
        Kinetics(tmp_path / "a", protocol="sounds", classes=["bowling", "singing"]).listing()
    for part in ("train", "val"):
        for label in (*NAMES, "shaving sheep"):
            (tmp_path / "b" / part / label).mkdir(parents=True)
            for n in range(10):
                (tmp_path / "b" / part / label / f"{label[:4]}{n}.mp4").touch()
    (note,) = listing(tmp_path / "b").notes
    assert "2 folders are left out" in note
    assert note.endswith("train/shaving sheep, val/shaving sheep")


def test_a_clip_listed_twice(tmp_path):
    listed = write_lists(tmp_path)
    path = tmp_path / "annotations" / "train.csv"
    first = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + first + "\n")
    found = listing(tmp_path)
    assert len(found.ids) == 160
    assert f"train.csv lists 1 clips twice: {stem(listed['train'][0])}" in found.notes[0]
    path.write_text(path.read_text() + first.replace("tap dancing", "zumba") + "\n")
    with pytest.raises(MmeqError, match=r"line 83: .* is 'zumba', in line 2 it is 'tap dancing'"):
        listing(tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tap dance,abc,0,10,train,0", "train.csv, line 2: 'tap dance' is no class.*did you mean"),
        ("zumba,abc,x,10,train,0", "line 2: time_start='x', time_end='10': expected seconds"),
        ("zumba,abc", "line 2: time_start='', time_end='': expected seconds"),
        ("zumba,,0,10,train,0", "line 2: the youtube_id is missing"),
    ],
)
def test_a_list_that_cannot_be_understood(tmp_path, line, says):
    write_lists(tmp_path)
    (tmp_path / "annotations" / "train.csv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(MmeqError, match=says):
        listing(tmp_path)


def test_a_list_that_is_no_utf8(tmp_path):
    write_lists(tmp_path)
    path = tmp_path / "annotations" / "train.csv"
    path.write_bytes(path.read_bytes() + b"zumba,caf\xe9,0,10,train,0\n")
    with pytest.raises(MmeqError, match=r"train\.csv, line 82: not UTF-8 text"):
        listing(tmp_path)


def test_another_header_and_half_a_release(tmp_path):
    write_lists(tmp_path)
    path = tmp_path / "annotations" / "val.csv"
    path.write_text("path,label\n")
    with pytest.raises(MmeqError, match="the header is 'path,label', expected 'label,youtube_id"):
        listing(tmp_path)
    path.unlink()
    with pytest.raises(MmeqError, match=r"a list is missing: val\.csv or validate\.csv"):
        listing(tmp_path)
    (tmp_path / "annotations" / "train.csv").unlink()
    (tmp_path / "val").rename(tmp_path / "v")
    with pytest.raises(MmeqError, match=r"neither lists .* nor a folder val"):
        listing(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"protocol": "sound"}, "protocol=sound: there is none such; did you mean 'sounds'"),
        ({"classes": ["zumbaa", "singing"]}, "'zumbaa' is no class.*did you mean 'zumba'"),
        ({"classes": ["zumba", "zumba"]}, "'zumba' is given twice"),
        ({"classes": ["zumba"]}, "give at least two"),
        ({"classes": "zumba"}, "expected a list"),
        ({"validation": 0}, "validation=0"),
        ({"train_size": -1}, "train_size=-1"),
    ],
)
def test_options_are_checked_before_data_is_read(options, says):
    with pytest.raises(MmeqError, match=says):
        Kinetics(**options)


@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_a_corpus_with_real_media(tmp_path, layout):
    facts = write_kinetics(tmp_path, layout, classes=3, train=4, val=2, seconds=0.5)
    data = Kinetics(
        tmp_path, protocol="sounds", classes=sorted(set(facts["labels"].values())), validation=0.25
    )
    manifest = data.load()
    used = {name for name, part in facts["split"].items() if part != "test"}
    names = [one.rsplit("/", 1)[1] for one in manifest.ids]
    assert set(names) == used
    assert len(names) == len(used)
    for name, label, part in zip(names, manifest.labels, manifest.split, strict=True):
        assert manifest.spec.classes[label] == facts["labels"][name]
        assert (part == "test") == (facts["split"][name] == "val")
    silent = [n for n, here in zip(names, manifest.present[:, 0].tolist(), strict=True) if not here]
    assert set(silent) == set(facts["silent"]) & used
    assert manifest.present[:, 1].all()
    assert check_leakage(manifest) == []
