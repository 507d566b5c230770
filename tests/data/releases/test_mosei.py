"""CMU-MOSEI: layouts of MultiBench and MMSA, padding, gaps, scores into classes."""

import inspect
import os
import pickle
import re

import numpy as np
import pytest
import torch

from mmeq.data.releases.features import MODALITIES, read_features
from mmeq.data.releases.mosei import CLASSES, Mosei, classify
from mmeq.errors import MmeqError

WIDTHS = {"vision": 5, "audio": 4, "text": 6}
T = 8


def part(count, seed, front=True, score=None):
    """MultiBench's layout: sample n has 1 + n % 8 steps."""
    rng = np.random.default_rng(seed)
    used = 1 + np.arange(count) % T
    steps = np.arange(T)
    filled = steps >= T - used[:, None] if front else steps < used[:, None]
    out = {
        name: (rng.uniform(0.5, 1, (count, T, width)) * filled[..., None]).astype(np.float32)
        for name, width in WIDTHS.items()
    }
    score = rng.uniform(-3, 3, count) if score is None else np.asarray(score, float)
    out["labels"] = score.reshape(-1, 1, 1)
    out["id"] = np.array([[f"vid{seed}{n // 2}", str(n), str(n + 1)] for n in range(count)])
    return out


def release(**changes):
    return {"train": part(16, 1, **changes), "valid": part(8, 2), "test": part(8, 3)}


def mmsa(lengths=False):
    """MMSA's layout: text_bert with its mask, padding behind, ids of another form."""
    out = {}
    for key, data in {"train": part(16, 1, False), "valid": part(8, 2, False)}.items():
        out[key] = data
    out["test"] = part(8, 3, False)
    for data in out.values():
        count = len(data["labels"])
        used = 1 + np.arange(count) % T
        data["regression_labels"] = data.pop("labels").reshape(-1).astype(np.float32)
        data["classification_labels"] = np.zeros(count)
        data["id"] = [f"{video}$_${start}" for video, start, _ in data["id"].tolist()]
        mask = (np.arange(T) < used[:, None]).astype(np.int64)
        data["text_bert"] = np.stack([7 * mask, mask, 0 * mask], 1)
        # BERT gives vectors for its padding too
        data["text"] = np.where(data["text"] == 0, np.float32(0.1), data["text"])
        data["raw_text"] = np.array(["word"] * count)
        data["annotations"] = ["Positive"] * count
        if lengths:
            data["audio_lengths"] = (used + 3).tolist()
            data["vision_lengths"] = used.tolist()
            for name, steps in (("audio", 12), ("vision", 10)):
                data[name] = np.ones((count, steps, WIDTHS[name]), np.float32)
    return out


def write(root, data, name="mosei_senti_data.pkl"):
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(data))
    return path


def test_padding_in_front_moves_behind(tmp_path):
    data = release()
    write(tmp_path, data)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert manifest.spec.names == MODALITIES
    assert [m.shape for m in manifest.spec.modalities] == [(T, 5), (T, 4), (T, 6)]
    assert {m.kind for m in manifest.spec.modalities} == {"sequence"}
    assert manifest.spec.complete
    assert [len(manifest.rows(p)) for p in ("train", "validation", "test")] == [16, 8, 8]
    for name, column in manifest.columns.items():
        batch = column.batch(torch.tensor([2, 15, 16]))
        assert batch["length"].tolist() == [3, 8, 1]
        assert np.array_equal(batch["values"][0, :3], data["train"][name][2, -3:])
        assert not batch["values"][0, 3:].any()
        assert np.array_equal(batch["values"][2, :1], data["valid"][name][0, -1:])
    manifest.check()


def test_ids_groups_and_counts(tmp_path):
    write(tmp_path, release())
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert manifest.ids[3] == "vid11_3_4"
    assert manifest.groups[3] == "vid11"
    assert "16 train (official: 16,326)" in manifest.notes[0]
    assert "mosei_senti_data.pkl" in manifest.spec.protocol


def test_a_step_counts_when_any_modality_has_it(tmp_path):
    data = release()
    data["train"]["text"][9, -2:] = 0  # sample 9 has two words, neither has a vector
    data["train"]["text"][10, -3] = 0  # the first of three words has none
    write(tmp_path, data)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    text = manifest.columns["text"].batch(torch.tensor([9, 10]))
    assert text["length"].tolist() == [0, 3]
    assert not text["values"][1, 0].any()
    assert text["values"][1, 1].any()
    assert manifest.columns["audio"].batch(torch.tensor([9]))["length"].tolist() == [2]
    assert manifest.present[9].tolist() == [True, True, False]
    assert any(
        "modality 'text': 1 samples are zeros" in n and "vid14_9_10" in n for n in manifest.notes
    )


def test_a_sample_without_anything_is_left_out(tmp_path):
    data = release()
    for name in MODALITIES:
        data["test"][name][4] = 0
    write(tmp_path, data)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert len(manifest) == 31
    assert "vid32_4_5" not in manifest.ids
    assert any("1 samples are left out" in note for note in manifest.notes)


def test_what_is_not_finite_becomes_zero_and_is_counted(tmp_path):
    data = release()
    data["train"]["audio"][5, -1, :2] = -np.inf
    data["test"]["audio"][1, -1, 0] = np.nan
    data["train"]["vision"][7, -1, 0] = np.inf
    write(tmp_path, data)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    manifest.check()
    notes = "\n".join(manifest.notes)
    assert "modality 'audio': 3 numbers in 2 samples are NaN or infinite" in notes
    assert "modality 'vision': 1 numbers in 1 samples" in notes
    last = manifest.columns["audio"].batch(torch.tensor([5]))["values"][0, 5]
    assert last[:2].tolist() == [0, 0]
    assert last[2:].all()


def test_some_modalities_read_as_all_do(tmp_path):
    data = release()
    data["train"]["audio"][6, -7] = 0  # audio starts later than the others
    write(tmp_path, data)
    whole = Mosei(str(tmp_path)).load().columns["audio"]
    alone = Mosei(str(tmp_path), modalities=["audio"]).load()
    assert alone.spec.names == ("audio",)
    assert torch.equal(alone.columns["audio"].values, whole.values)
    assert torch.equal(alone.columns["audio"].length, whole.length)


def test_mmsa_aligned_goes_by_the_mask(tmp_path):
    data = mmsa()
    write(tmp_path, data, "Processed/aligned_50.pkl")
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert manifest.ids[3] == "vid11$_$3"
    assert manifest.groups[3] == "vid11"
    for name in MODALITIES:
        batch = manifest.columns[name].batch(torch.tensor([4, 15]))
        assert batch["length"].tolist() == [5, 8]
        assert not batch["values"][0, 5:].any()
        assert np.array_equal(batch["values"][0, :5], data["train"][name][4, :5])


def test_mmsa_unaligned_goes_by_its_lengths(tmp_path):
    write(tmp_path, mmsa(lengths=True), "unaligned_50.pkl")
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert [m.shape[0] for m in manifest.spec.modalities] == [10, 12, T]
    lengths = [c.batch(torch.tensor([4]))["length"].tolist() for c in manifest.columns.values()]
    assert lengths == [[5], [8], [5]]


def test_unaligned_without_lengths_is_cut_one_by_one(tmp_path):
    data = release()
    for rows in data.values():
        rows["audio"] = np.concatenate([rows["audio"], rows["audio"]], 1)
    write(tmp_path, data)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    lengths = [c.batch(torch.tensor([4]))["length"].tolist() for c in manifest.columns.values()]
    assert lengths == [[5], [T + 5], [5]]


SCORES = [-3, -2.6, -1.5, -1 / 3, 0, 0, 0.5, 1.5, 2.5, 2.7, 3, 1, 2, -1, -2, 0.2]


@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [
        ("has0", [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]),
        ("five", [0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 3, 4, 1, 0, 2]),
        ("seven", [0, 0, 1, 3, 3, 3, 3, 5, 5, 6, 6, 4, 5, 2, 1, 3]),
    ],
)
def test_classes_of_scores(protocol, wanted):
    labels, keep = classify(np.array(SCORES), protocol)
    assert labels.tolist() == wanted
    assert keep.all()


def test_binary_leaves_zero_out(tmp_path):
    write(tmp_path, release(score=SCORES))
    manifest = Mosei(str(tmp_path)).load()
    train = manifest.rows("train")
    assert len(train) == 14
    assert manifest.labels[train].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert manifest.spec.classes == ("negative", "positive")
    assert any("2 segments with score 0 are left out" in note for note in manifest.notes)
    assert "binary" in manifest.spec.protocol
    manifest.check()


def test_train_size(tmp_path):
    write(tmp_path, release())
    whole, some = (Mosei(str(tmp_path), "", None, "has0", None, 0, n).load() for n in (None, 6))
    assert len(some.rows("train")) == 6
    assert len(some.rows("test")) == len(whole.rows("test"))
    assert "train_size=6" in some.spec.protocol
    assert some.spec.protocol != whole.spec.protocol


def test_a_repeated_id_is_numbered(tmp_path):
    data = release()
    data["train"]["id"][1] = data["train"]["id"][0]
    write(tmp_path, data)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert manifest.ids[:2] == ["vid10_0_1", "vid10_0_1#2"]
    assert any("1 ids occur more than once" in note for note in manifest.notes)


@pytest.mark.parametrize("form", ["vid9[3]", b"vid9[3]", ["vid9[3]"]])
def test_ids_of_multibench(tmp_path, form):
    data = release()
    data["train"]["id"] = np.array([form] + [f"v[{n}]" for n in range(1, 16)], dtype=object)
    found = read_features(write(tmp_path, data), ["audio"])
    assert (found.ids[0], found.groups[0]) == ("vid9[3]", "vid9")


def without(key, name):
    data = release()
    del data[key][name]
    return data


def changed(key, name, value):
    data = release()
    data[key][name] = value
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], "holds a list"),
        ({"train": part(8, 1)}, "no part 'valid' (it has ['train'])"),
        (without("test", "vision"), "'test' has no 'vision'"),
        (without("valid", "labels"), "'valid' has neither"),
        (without("train", "id"), "'train' has no 'id'"),
        (changed("train", "labels", np.zeros((16, 6))), "shape (16, 6), expected one score"),
        (changed("train", "labels", ["a"] * 16), "are no numbers"),
        (changed("train", "labels", np.full((16, 1), np.nan)), "'vid10_0_1' is no number"),
        (changed("train", "labels", np.full((16, 1), 5.0)), "'vid10_0_1' has the score 5"),
        (changed("train", "id", ["a"]), "1 ids for 16 labels"),
        (changed("valid", "text", np.zeros((8, 3))), "'text' of 'valid' has shape (8, 3)"),
        (changed("valid", "text", np.zeros((8, T, 7))), "'text' has [6, 7] features"),
        (changed("valid", "text", [np.zeros((2, 6)), np.zeros((3, 6))]), "several lengths"),
        (changed("valid", "text", np.zeros((8, T, 6), object)), "type object"),
    ],
)
def test_another_content_is_refused_by_name(tmp_path, data, words):
    write(tmp_path, data)
    with pytest.raises(MmeqError, match=re.escape(words)) as caught:
        Mosei(str(tmp_path)).load()
    assert "mosei_senti_data.pkl" in str(caught.value)


def test_a_hostile_file_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    write(tmp_path, {"train": Evil()})
    with pytest.raises(MmeqError, match="system"):
        Mosei(str(tmp_path)).load()
    assert not (tmp_path / "ran").exists()


def test_a_torn_file(tmp_path):
    path = write(tmp_path, release())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(MmeqError, match=r"mosei_senti_data\.pkl is no whole pickle"):
        Mosei(str(tmp_path)).load()


def test_no_file(tmp_path):
    with pytest.raises(MmeqError, match=r"none of mosei_senti_data\.pkl, .*dataset\.file"):
        Mosei(str(tmp_path)).load()
    write(tmp_path, release(), "mine.pkl")
    with pytest.raises(MmeqError, match=r"file=mime\.pkl.*did you mean 'mine\.pkl'"):
        Mosei(str(tmp_path), file="mime.pkl").load()
    assert len(Mosei(str(tmp_path), file="mine.pkl", protocol="seven").load()) == 32
    with pytest.raises(MmeqError, match="data_root is missing"):
        Mosei().load()


def test_options():
    with pytest.raises(MmeqError, match=r"protocol=binry.*'binary'"):
        Mosei(protocol="binry")
    with pytest.raises(MmeqError, match="no modality 'video'"):
        Mosei(modalities=["video"])
    assert {len(CLASSES[p]) for p in ("binary", "has0")} == {2}
    assert "protocol" in inspect.signature(Mosei).parameters


def test_the_corpus(tmp_path):
    corpora = pytest.importorskip("tests.corpora.sequences")
    facts = corpora.write_mosei(tmp_path)
    manifest = Mosei(str(tmp_path), protocol="seven").load()
    assert manifest.ids == facts["ids"]
    assert manifest.groups == [facts["videos"][one] for one in facts["ids"]]
    assert [m.shape for m in manifest.spec.modalities] == [(50, 35), (50, 74), (50, 300)]
    for column in manifest.columns.values():
        assert column.length.tolist() == [facts["lengths"][one] for one in facts["ids"]]
    scores = np.array([facts["scores"][one] for one in facts["ids"]])
    assert (manifest.labels.numpy() - 3 == np.round(scores)).all()
    manifest.check()
