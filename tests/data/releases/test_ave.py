"""AVE: the official lists, several events in one video, spans, damage named by file and line."""

import inspect
import re

import pytest
import yaml

from mmeq.data.releases.ave import CLASSES, Ave, read_events
from mmeq.errors import MmeqError
from tests.corpora.ave import write_ave
from tests.corpora.damage import drop_line, duplicate_line, replace_in, truncate, undecodable_text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("ave")
    return write_ave(root, classes=3, train=2, val=1, test=1, seconds=0.6, unlisted=1)


@pytest.fixture
def lists(tmp_path):
    """Label files and empty clips: listing decodes nothing."""
    (tmp_path / "AVE").mkdir()
    lines = {
        "train": ["Bark&aaa&good&0&10", "Cat&bbb&good&2&7", "Horse&bbb&good&3&8"],
        "val": ["Bark&ccc&good&0&4"],
        "test": ["Cat&ddd&good&1&9", "Horse&eee&good&0&10"],
    }
    for part, rows in lines.items():
        (tmp_path / f"{part}Set.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def notes(listing):
    return "\n".join(listing.notes)


def test_the_corpus(whole):
    manifest = Ave(str(whole["root"])).load()
    assert len(manifest) == whole["count"]
    assert manifest.spec.classes == CLASSES
    assert len(CLASSES) == len(set(CLASSES)) == 28
    assert [m.kind for m in manifest.spec.modalities] == ["audio", "video"]
    assert manifest.spec.modalities[0].shape == (257, 1007)
    assert manifest.spec.complete
    assert sorted(manifest.groups) == sorted(whole["ids"])
    for row, video in enumerate(manifest.groups):
        assert CLASSES[manifest.labels[row]] == whole["labels"][video]
        assert manifest.split[row].replace("validation", "val") == whole["split"][video]
    text = "\n".join(manifest.notes)
    assert "6 train (official: 3,339)" in text
    assert "Annotations.txt lists 1 events that no part has" in text
    assert "official" in manifest.spec.protocol
    manifest.check()


def test_a_video_of_several_events(lists):
    listing = Ave(str(lists)).listing()
    assert listing.ids[:3] == ["aaa_0_10_Bark", "bbb_2_7_Cat", "bbb_3_8_Horse"]
    assert listing.groups[1] == listing.groups[2] == "bbb"
    assert listing.cells["audio"][1] == listing.cells["video"][2]
    assert listing.cells["audio"][1].seconds is None
    assert not listing.grouped


def test_the_span_of_the_event(lists):
    listing = Ave(str(lists), span="event").listing()
    first, second = listing.cells["video"][1:3]
    assert (first.start, first.end, second.start, second.end) == (2, 7, 3, 8)
    assert first.name == "AVE/bbb.mp4"
    assert listing.protocol != Ave(str(lists)).listing().protocol


def test_an_event_without_length_is_the_whole_video(lists):
    replace_in(lists / "trainSet.txt", "aaa&good&0&10", "aaa&good&0&0")
    listing = Ave(str(lists), span="event").listing()
    assert listing.cells["video"][0].seconds is None
    assert "1 events have no length and stand for the whole video: aaa" in notes(listing)


def test_a_repeated_event_is_told_and_numbered(lists):
    duplicate_line(lists / "trainSet.txt", "aaa")
    listing = Ave(str(lists)).listing()
    assert listing.ids[:2] == ["aaa_0_10_Bark", "aaa_0_10_Bark#2"]
    assert "1 events are listed more than once: aaa_0_10_Bark" in notes(listing)


def test_a_header_and_blank_lines_are_no_events(lists):
    path = lists / "trainSet.txt"
    text = path.read_text()
    path.write_text(f"\ufeffCategory&VideoID&Quality&StartTime&EndTime\r\n\n{text}")
    assert len(read_events(path)) == 3


def test_the_folder_above(lists, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    lists.rename(above / "AVE_Dataset")
    assert len(Ave(str(above)).listing().ids) == 6


def test_files_that_are_missing_or_broken(whole, tmp_path):
    root = tmp_path / "copy"
    facts = write_ave(root, classes=2, train=2, val=1, test=1, seconds=0.6)
    gone, torn = facts["ids"][:2]
    (root / "AVE" / f"{gone}.mp4").unlink()
    truncate(root / "AVE" / f"{torn}.mp4", 0.2)
    manifest = Ave(str(root)).load()
    assert len(manifest) == facts["count"] - 2
    text = "\n".join(manifest.notes)
    assert f"1 files are missing: AVE/{gone}.mp4" in text
    assert f"1 files are broken: AVE/{torn}.mp4" in text
    assert "2 samples are left out" in text


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("train", "Cat&bbb", "Kat&bbb", "line 2: unknown class 'Kat'; did you mean 'Cat'"),
        ("test", "Cat&ddd&good&1&9", "Cat&ddd&good&1", "line 1: 'Cat&ddd&good&1' is not Category&"),
        ("val", "good&0&4", "good&0&x", "line 1: the times '0' and 'x' are no numbers"),
        ("val", "good&0&4", "good&0&14", "line 1: the times 0 to 14 are not within"),
        ("val", "good&0&4", "good&4&0", "line 1: the times 4 to 0 are not within"),
        ("val", "ccc", "../ccc", "line 1: '../ccc' is no video id"),
    ],
)
def test_lines_that_cannot_be_understood(lists, file, old, new, words):
    replace_in(lists / f"{file}Set.txt", old, new)
    with pytest.raises(MmeqError, match=re.escape(words)) as caught:
        Ave(str(lists)).listing()
    assert f"{file}Set.txt" in str(caught.value)


def test_other_damage(lists):
    drop_line(lists / "valSet.txt", "ccc")
    with pytest.raises(MmeqError, match="the validation part is empty"):
        Ave(str(lists)).listing()
    undecodable_text(lists / "valSet.txt")
    with pytest.raises(MmeqError, match=r"valSet\.txt, line 1: not UTF-8"):
        Ave(str(lists)).listing()
    (lists / "valSet.txt").unlink()
    with pytest.raises(MmeqError, match=r"no release of ave: it has no valSet\.txt"):
        Ave(str(lists)).listing()


def test_train_size(lists):
    with pytest.raises(MmeqError, match="smaller than the 3 classes"):
        Ave(str(lists), train_size=2).listing()
    listing = Ave(str(lists), train_size=3).listing()
    assert (listing.split == "train").sum() == 3
    assert "train_size=3" in listing.protocol


def test_options(pytestconfig):
    with pytest.raises(MmeqError, match=r"span=evnt.*'event'"):
        Ave(span="evnt")
    with pytest.raises(MmeqError, match="protocol=other"):
        Ave(protocol="other")
    conf = yaml.safe_load((pytestconfig.rootpath / "conf/dataset/ave.yaml").read_text())
    assert set(conf) - {"_target_"} == set(inspect.signature(Ave).parameters) - {
        "data_root",
        "prepared",
    }
