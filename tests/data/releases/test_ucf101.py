"""UCF-101: three official lists, groups, two spellings of one class, flow that is missing."""

import re

import pytest
import torch

from mmeq.data.media.flow import FlowFormat
from mmeq.data.media.video import VideoFormat
from mmeq.data.releases.ucf101 import Ucf101
from mmeq.errors import MmeqError
from tests.corpora.damage import drop_line, duplicate_line, replace_in, truncate
from tests.corpora.ucf101 import write_ucf101

SMALL = {
    "rgb": VideoFormat(frames=2, most=3, resize=40, size=32),
    "flow": FlowFormat(frames=2, most=3, resize=40, size=32),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("ucf")
    return write_ucf101(root, classes=3, groups=5, clips=2, frames=6, size=(40, 30))


@pytest.fixture
def lists(tmp_path):
    """Label files and empty folders: listing decodes nothing."""
    return write_ucf101(tmp_path, classes=3, groups=5, clips=1, frames=2, size=(16, 16))


def data(facts, **options):
    return Ucf101(str(facts["root"]), validation=0.3, **{**SMALL, **options})


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_lists(whole, fold):
    listing = data(whole, fold=fold).listing()
    assert sorted(listing.ids) == sorted(whole["ids"])
    official = whole[f"split{fold}"]
    for one, part, label in zip(listing.ids, listing.split, listing.labels, strict=True):
        assert (part == "test") == (official[one] == "test")
        assert listing.classes[label] == whole["labels"][one]
    assert f"official fold {fold}" in listing.protocol
    known = {1: "9,537", 2: "9,586", 3: "9,624"}[fold]
    assert f"(official: {known})" in listing.notes[0]


def test_the_corpus(whole):
    manifest = data(whole).load()
    assert manifest.spec.names == ("rgb", "flow")
    assert [m.kind for m in manifest.spec.modalities] == ["video", "video"]
    assert [m.shape for m in manifest.spec.modalities] == [(2, 3, 32, 32), (2, 2, 32, 32)]
    assert manifest.spec.complete
    assert manifest.grouped
    manifest.check()
    batch = manifest.columns["flow"].batch(torch.arange(len(manifest)))
    assert batch.dtype == torch.uint8
    # each class moves in another direction, and 128 is no motion
    for label in range(3):
        mean = batch[manifest.labels == label].float().mean((0, 1, 3, 4)) - 128
        assert mean.abs().max() > 3
    assert manifest.columns["rgb"].batch(torch.tensor([0])).float().std() > 5


def test_validation_is_whole_groups(whole):
    listing = data(whole).listing()
    assert (listing.split == "validation").any()
    part_of = {}
    for group, part in zip(listing.groups, listing.split.tolist(), strict=True):
        assert part_of.setdefault(group, part) == part
    assert listing.groups[0] == f"{listing.classes[listing.labels[0]]}_g{listing.ids[0][-6:-4]}"
    assert len(part_of) == 15
    for label in range(3):
        parts = {
            p for p, k in zip(listing.split.tolist(), listing.labels, strict=True) if k == label
        }
        assert parts == {"train", "validation", "test"}


def test_two_spellings_of_one_class(whole):
    listing = data(whole).listing()
    row = next(k for k, one in enumerate(listing.ids) if "HandStandPushups" in one)
    assert listing.cells["rgb"][row].name.startswith("UCF-101/HandstandPushups/v_HandStand")
    assert listing.cells["flow"][row].name.startswith("tvl1_flow/u/v_Handstand")
    assert listing.cells["flow"][row].path.is_dir()


def test_flow_that_is_missing_or_broken(tmp_path):
    facts = write_ucf101(tmp_path, classes=3, groups=5, clips=1, frames=4, size=(40, 30))
    gone, half, torn = (facts["flow"][one] for one in facts["ids"][:3])
    for axis in "uv":
        (tmp_path / "tvl1_flow" / axis / gone).rename(tmp_path / f"moved_{axis}")
    (tmp_path / "tvl1_flow" / "v" / half).rename(tmp_path / "moved")
    truncate(
        tmp_path / "UCF-101" / facts["labels"][facts["ids"][2]] / f"{facts['ids'][2]}.avi", 0.01
    )
    next((tmp_path / "tvl1_flow" / "u" / torn).iterdir()).unlink()
    manifest = data(facts).load()
    text = "\n".join(manifest.notes)
    assert f"1 clips have no folder below tvl1_flow/u: {facts['ids'][0]}" in text
    assert f"tvl1_flow/u/{half} (no folder v/{half})" in text
    assert "is in v alone" in text
    assert len(manifest) == facts["count"] - 1
    gaps = {
        one
        for one, here in zip(manifest.ids, manifest.present.tolist(), strict=True)
        if not here[1]
    }
    assert gaps == set(facts["ids"][:2])


def test_one_modality_needs_only_its_folder(lists):
    root = lists["root"]
    (root / "tvl1_flow").rename(root / "elsewhere")
    assert len(data(lists, modalities=["rgb"]).listing().ids) == lists["count"]
    with pytest.raises(MmeqError, match="no release of ucf101: it has no tvl1_flow"):
        data(lists).listing()
    (root / "tvl1_flow").mkdir()
    with pytest.raises(MmeqError, match=r"no folder u; dataset\.modalities=\[rgb\]"):
        data(lists).listing()
    (root / "tvl1_flow").rmdir()
    (root / "elsewhere").rename(root / "tvl1_flow")
    (root / "UCF-101").rename(root / "films")
    assert len(data(lists, modalities=["flow"]).listing().ids) == lists["count"]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("classInd", "2 Archery", "3 Archery", "line 2: '3 Archery', expected '2 <Class>'"),
        ("testlist01", "Archery/", "Archer/", "unknown class 'Archer'; did you mean 'Archery'"),
        ("trainlist01", ".avi 2", ".avi 3", "Archery has the number 2, not 3"),
        ("testlist01", "Archery/v_Archery", "YoYo/v_Archery", "unknown class 'YoYo'"),
        (
            "testlist01",
            "Archery/v_Archery",
            "Archery/v_Diving",
            "a film of Diving in the folder of",
        ),
        (
            "testlist01",
            "Archery/v_Archery_g01",
            "Archery/Archery",
            "expected <Class>/v_<Class>_gNN",
        ),
    ],
)
def test_lines_that_cannot_be_understood(lists, file, old, new, words):
    replace_in(lists["root"] / "ucfTrainTestlist" / f"{file}.txt", old, new)
    with pytest.raises(MmeqError, match=re.escape(words)) as caught:
        data(lists).listing()
    assert re.search(rf"{file}\.txt, line \d", str(caught.value))


def test_other_damage(lists):
    folder = lists["root"] / "ucfTrainTestlist"
    duplicate_line(folder / "testlist01.txt", "v_Archery_g01_c01")
    with pytest.raises(MmeqError, match=r"v_Archery_g01_c01\.avi stands in testlist01\.txt, line"):
        data(lists).listing()
    for name in ("ApplyEye", "Archery", "Handstand"):
        drop_line(folder / "testlist01.txt", name)
    with pytest.raises(MmeqError, match="the test part is empty"):
        data(lists).listing()
    (folder / "testlist01.txt").unlink()
    with pytest.raises(MmeqError, match=r"testlist01\.txt cannot be read"):
        data(lists).listing()
    with pytest.raises(MmeqError, match="fold=4"):
        Ucf101(fold=4)
