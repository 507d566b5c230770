"""From a listing to a manifest: what is missing, absent or broken, told by name; columns; looks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from mmeq.data.columns import VectorColumn
from mmeq.data.datamodule import DataModule
from mmeq.data.leakage import check_leakage
from mmeq.data.media.clip import Absent, Blob, Broken, Clip
from mmeq.data.media.dataset import Listing, MediaDataset
from mmeq.data.media.preparing import prepare
from mmeq.data.media.presence import Found
from mmeq.errors import MmeqError


class Numbers:
    """Files of one line of bytes: a real, if small, format."""

    kind: ClassVar[str] = "audio"
    shape = (4,)
    augments = True

    def __init__(self):
        self.reads, self.probes = [], []

    def stored(self):
        return {"format": "numbers", "version": 1}

    def probe(self, clip):
        self.probes.append(clip.name)
        return self._bytes(clip) and 1.5

    def read(self, clip):
        self.reads.append(clip.name)
        data = np.frombuffer(self._bytes(clip), dtype=np.uint8)
        if b"late" in data.tobytes():
            raise Broken("bad at its end")
        return Blob(data, data.shape)

    def view(self, blobs, training, generator):
        out = torch.zeros(len(blobs), *self.shape)
        for row, blob in enumerate(blobs):
            if blob is not None:
                out[row] = torch.from_numpy(blob.data[:4].astype(np.float32))
                if training:
                    out[row] += torch.rand(1, generator=generator)
        return out

    def _bytes(self, clip):
        data = clip.path.read_bytes()
        if data == b"mute":
            raise Absent("no audio track")
        if len(data) < 4:
            raise Broken("no samples")
        return data


class Toy(MediaDataset):
    name = "toy"
    all_kinds: ClassVar = {"sound": "audio", "text": "text", "numbers": "vector"}

    def __init__(self, data_root, modalities=("sound", "text"), prepared=None, **changes):
        self.sound = Numbers()
        super().__init__(data_root, prepared, modalities, {"sound": self.sound})
        self.changes = changes

    def listing(self):
        root = self.root("sounds", beneath=["Toy"])
        names = [f"s{n}" for n in range(12)]
        texts = [f"word {n}" for n in range(12)]
        for row in self.changes.get("no_text", ()):
            texts[row] = None
        clips = [Clip(root / "sounds" / f"{n}.bin", f"sounds/{n}.bin") for n in names]
        for row in self.changes.get("no_clip", ()):
            clips[row] = None
        split = np.array(["train"] * 6 + ["validation"] * 3 + ["test"] * 3, dtype="<U10")
        split[list(self.changes.get("unused", ()))] = "unused"
        return Listing(
            protocol="given",
            classes=("a", "b"),
            ids=names,
            labels=np.arange(12) % 2,
            split=split,
            cells={
                "sound": clips,
                "text": texts,
                "numbers": VectorColumn(torch.randn(12, 3)),
            },
            groups=[f"g{n % 4}" for n in range(12)],
            notes=["one note of the release"],
            present={"numbers": np.arange(12) != 5},
        )


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "Toy" / "sounds").mkdir(parents=True)
    for n in range(12):
        (tmp_path / "Toy" / "sounds" / f"s{n}.bin").write_bytes(bytes([n, 1, 2, 3, 9]))
    return tmp_path


def sound(root, n, content):
    path = root / "Toy" / "sounds" / f"s{n}.bin"
    path.unlink() if content is None else path.write_bytes(content)


def test_a_whole_release(root):
    data = Toy(root)
    manifest = data.load()
    assert manifest.spec.complete
    assert manifest.spec.names == ("sound", "text")
    assert [m.kind for m in manifest.spec.modalities] == ["audio", "text"]
    assert manifest.spec.modalities[0].shape == (4,)
    assert manifest.spec.modalities[0].augmented
    assert not manifest.spec.modalities[1].augmented
    assert manifest.groups[5] == "g1"
    assert manifest.notes[0] == "one note of the release"
    assert "12 of 12 clips are not prepared" in manifest.notes[1]
    assert not data.sound.reads, "listing must not decode"
    batch = manifest.columns["sound"].batch(torch.tensor([3, 7]))
    assert batch.tolist() == [[3, 1, 2, 3], [7, 1, 2, 3]]


def test_what_cannot_be_used_is_absent_and_named(root):
    sound(root, 1, None)
    sound(root, 4, b"mute")
    sound(root, 7, b"")
    manifest = Toy(root).load()
    assert len(manifest) == 12
    assert not manifest.spec.complete
    gone = (~manifest.present[:, 0]).nonzero().flatten().tolist()
    assert gone == [1, 4, 7]
    seconds = manifest.columns["sound"].seconds
    assert [n for n, length in enumerate(seconds) if length != 1.5] == [1, 4, 7]
    assert manifest.present[:, 1].all()
    notes = "\n".join(manifest.notes)
    assert "1 files are missing: sounds/s1.bin" in notes
    assert "1 clips have no such track (a missing modality): sounds/s4.bin" in notes
    assert "1 files are broken: sounds/s7.bin (no samples)" in notes
    assert "9 of 9 clips are not prepared" in notes
    assert manifest.columns["sound"].batch(torch.tensor([4]))[0].tolist() == [0, 0, 0, 0]
    manifest.check()


def test_a_file_of_many_clips_is_named_and_counted_once():
    names = dict(enumerate(["a.avi", "a.avi", "b.avi", "a.avi", "c.avi", "d.avi", "d.avi"]))
    found = Found([None] * 7, [math.nan] * 7, missing=[0, 1, 2, 3], names=names)
    found.broken = {4: "empty file", 5: "no picture", 6: "truncated"}
    assert found.notes("video", 1) == [
        "modality 'video': 2 files are missing (of 4 clips): a.avi …",
        "modality 'video': 2 files are broken (of 3 clips): c.avi (empty file) …",
    ]
    assert "c.avi (empty file), d.avi (no picture)" in found.notes("video", 3)[1]


def test_a_tilde_stands_for_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    data = Toy(f"~/{root.name}")
    assert data.data_root == root
    assert len(data.load()) == 12


def test_a_sample_of_nothing_is_left_out_with_its_name(root):
    sound(root, 2, b"")
    manifest = Toy(root, no_text=[2, 3]).load()
    assert manifest.ids == [f"s{n}" for n in range(12) if n != 2]
    assert manifest.labels.tolist() == [n % 2 for n in range(12) if n != 2]
    assert manifest.split.tolist().count("train") == 5
    assert "1 samples are left out" in manifest.notes[-1]
    assert manifest.notes[-1].endswith(": s2")
    at = manifest.ids.index("s3")
    assert manifest.present[at].tolist() == [True, False]
    assert manifest.columns["sound"].batch(torch.tensor([at]))[0, 0] == 3


def test_unused_samples_are_dropped_without_a_word(root):
    sound(root, 0, None)
    manifest = Toy(root, modalities=["sound"], unused=[0, 6]).load()
    assert manifest.ids == [f"s{n}" for n in range(12) if n not in (0, 6)]
    assert "left out" not in "\n".join(manifest.notes)


def test_prepare_leaves_out_what_no_part_uses(root):
    data = Toy(root, unused=[0, 6])
    report = prepare(data, workers=1)
    assert report.decoded == 10
    notes = "\n".join(data.load().notes)
    assert "not prepared" not in notes
    assert "2 of 12 clips are not prepared" in "\n".join(Toy(root).load().notes)


def test_columns_in_memory_and_any_choice_of_modalities(root):
    manifest = Toy(root, modalities=["numbers", "text"]).load()
    assert manifest.spec.names == ("numbers", "text")
    assert manifest.spec.modalities[0].shape == (3,)
    assert manifest.present[5].tolist() == [False, True]
    assert "not prepared" not in "\n".join(manifest.notes)


def test_nothing_left_at_all(root):
    for n in range(12):
        sound(root, n, b"")
    with pytest.raises(MmeqError, match=r"no sample can be used .*sounds/s0.bin: no samples"):
        Toy(root, modalities=["sound"]).load()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (None, "data_root is missing: give data_root=<folder of toy>, which has sounds"),
        ("none", "there is no such folder"),
        ("Toy/sounds", "is no release of toy: it has no sounds"),
    ],
)
def test_a_wrong_root(root, where, says):
    with pytest.raises(MmeqError, match=says):
        Toy(None if where is None else root / where).load()


def test_an_unknown_modality(root):
    with pytest.raises(MmeqError, match="has no modality 'sond'; did you mean 'sound'"):
        Toy(root, modalities=["sond"])


def test_looks_are_remembered_until_the_file_changes(root):
    first = Toy(root)
    first.load()
    assert len(first.sound.probes) == 12
    second = Toy(root)
    second.load()
    assert second.sound.probes == []
    sound(root, 3, b"other bytes")
    third = Toy(root)
    third.load()
    assert third.sound.probes == ["sounds/s3.bin"]
    looks = root / "mmeq-prepared" / "looks-audio-1.jsonl"
    assert all(json.loads(line)["status"] == "ok" for line in looks.read_text().splitlines())


def test_a_read_only_root_only_costs_time(root):
    (root / "mmeq-prepared").write_text("a file where the folder should be")
    assert len(Toy(root).load()) == 12


def test_a_file_that_breaks_while_decoding_is_named_with_the_remedy(root):
    sound(root, 5, b"late....")
    manifest = Toy(root).load()
    assert manifest.spec.complete, "a look cannot see it"
    with pytest.raises(MmeqError, match=r"s5.bin cannot be decoded: bad at its end; run .*prepare"):
        manifest.columns["sound"].batch(torch.tensor([5]))


def test_the_data_module_augments_in_training_alone_and_by_the_seed(root):
    sound(root, 1, b"mute")

    def epoch(seed, workers=0):
        module = DataModule(Toy(root), batch_size=4, seed=seed, workers=workers)
        with pytest.warns(UserWarning, match="no such track"):
            module.setup()
        loader = module.train_dataloader()
        found = {i: x for b in loader for i, x in zip(b["id"], b["inputs"]["sound"], strict=True)}
        return module, found

    module, one = epoch(0)
    assert one["s1"].tolist() == [0, 0, 0, 0]
    assert one["s2"][0] != 2
    same, other = epoch(0, workers=1)[1], epoch(1)[1]
    assert all(one[i].equal(same[i]) for i in one)
    assert not one["s2"].equal(other["s2"])
    (batch,) = module.val_dataloader()
    assert batch["inputs"]["sound"][0].tolist() == [6, 1, 2, 3]


def test_dropped_modalities_are_not_decoded(root):
    data = Toy(root)
    module = DataModule(data, batch_size=6, modality_dropout={"sound": 0.9}, seed=3)
    with pytest.warns(UserWarning, match="not prepared"):
        module.setup()
    (batch,) = module.train_dataloader()
    kept = batch["present"][:, 0]
    assert 0 < int(kept.sum()) < 6 or not kept.any()
    assert len(data.sound.reads) == int(kept.sum())
    assert not batch["inputs"]["sound"][~kept].any()


def test_the_same_file_in_two_parts_is_leakage(root):
    class Twice(Toy):
        def listing(self):
            listing = super().listing()
            listing.cells["sound"][8] = listing.cells["sound"][0]
            listing.cells["text"][8] = listing.cells["text"][0]
            return listing

    found = check_leakage(Twice(root).load())
    assert any("1 distinct samples in both train and validation" in one for one in found)


def test_clips_without_content_are_refused():
    with pytest.raises(MmeqError, match="has no length"):
        Clip(Path("a"), "a", start=2.0, end=2.0)
    with pytest.raises(MmeqError, match="has no content"):
        Clip(Path("a"), "a", crop=(0.5, 0, 0.5, 1))


def test_fingerprints_tell_content_apart(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12")
    clips = [
        Clip(path, "a"),
        Clip(path, "b"),
        Clip(path, "a", 0.0, 1.0),
        Clip(path, "a", 0.0, 2.0),
        Clip(path, "a", crop=(0, 0, 0.5, 1)),
    ]
    keys = [clip.fingerprint() for clip in clips]
    assert len(set(keys)) == len(keys)
    assert Clip(tmp_path / "a", "a").fingerprint() == keys[0]
    path.write_bytes(b"123")
    assert Clip(path, "a").fingerprint() != keys[0]
