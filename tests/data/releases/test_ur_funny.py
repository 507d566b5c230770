"""UR-FUNNY: MultiBench's one file, and the authors' pickles with punchline and context."""

import pickle
import re

import numpy as np
import pytest
import torch

from mmeq.data.releases.ur_funny import UrFunny
from mmeq.errors import MmeqError

WIDTHS = {"openface": 4, "covarep": 3}


def dump(root, name, value):
    (root / f"{name}.pkl").write_bytes(pickle.dumps(value))


def authors(root, spoken="language_sdk", counts=(8, 4, 4)):
    """Sample n says the words n, n + 1, … (2 + n % 3 of them) after a context of two lines."""
    rng = np.random.default_rng(0)
    keys = np.arange(1, 1 + sum(counts)).tolist()
    ends = np.cumsum((0, *counts))
    folds = {k: keys[ends[i] : ends[i + 1]] for i, k in enumerate(("train", "dev", "test"))}
    words = [[float(n), n + 0.5] for n in range(40)]
    lines = {key: ([[0, 1], [2]], [key + i for i in range(2 + key % 3)]) for key in keys}
    dump(root, "data_folds", folds)
    dump(root, "humor_label_sdk", {key: key % 2 for key in keys})
    dump(root, "word_embedding_list", words)
    dump(root, spoken, {
        key: {"context_embedding_indexes": before, "punchline_embedding_indexes": last}
        for key, (before, last) in lines.items()
    })  # fmt: skip
    for name, width in WIDTHS.items():
        dump(root, f"{name}_features_sdk", {
            key: {
                "context_features": [rng.normal(size=(len(one), width)).tolist() for one in before],
                "punchline_features": rng.normal(size=(len(last), width)).tolist(),
            }
            for key, (before, last) in lines.items()
        })  # fmt: skip
    return keys


def edit(root, name, change):
    path = root / f"{name}.pkl"
    value = pickle.loads(path.read_bytes())
    change(value)
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("spoken", ["language_sdk", "word_embedding_indexes_sdk"])
def test_the_last_line(tmp_path, spoken):
    authors(tmp_path, spoken)
    manifest = UrFunny(str(tmp_path)).load()
    assert manifest.ids == [str(n) for n in range(1, 17)]
    assert manifest.labels.tolist() == [n % 2 for n in range(1, 17)]
    assert [len(manifest.rows(p)) for p in ("train", "validation", "test")] == [8, 4, 4]
    assert [m.shape for m in manifest.spec.modalities] == [(50, 4), (50, 3), (50, 2)]
    text = manifest.columns["text"].batch(torch.tensor([6]))  # sample 7: words 7, 8, 9
    assert text["length"].tolist() == [3]
    assert text["values"][0, :4].tolist() == [[7, 7.5], [8, 8.5], [9, 9.5], [0, 0]]
    for column in manifest.columns.values():
        assert column.length.tolist() == [2 + n % 3 for n in range(1, 17)]
    manifest.check()
    assert "punchline, last 50 words" in manifest.spec.protocol
    assert "8 train (official: 7,614)" in manifest.notes[0]
    assert manifest.groups is None


def test_the_lines_before_it(tmp_path):
    authors(tmp_path)
    manifest = UrFunny(str(tmp_path), protocol="context").load()
    text = manifest.columns["text"].batch(torch.tensor([6]))
    assert text["values"][0, : text["length"][0], 0].tolist() == [0, 1, 2, 7, 8, 9]
    short = UrFunny(str(tmp_path), protocol="context", steps=4).load()
    assert short.columns["text"].batch(torch.tensor([6]))["values"][0, :, 0].tolist() == [
        2,
        7,
        8,
        9,
    ]
    assert short.spec.protocol != manifest.spec.protocol


def test_features_that_are_missing_or_not_finite(tmp_path):
    authors(tmp_path)

    def change(data):
        data[3]["punchline_features"] = []
        data[4]["punchline_features"][0][0] = float("-inf")
        data[5]["punchline_features"] = [[0.0] * 3] * 4

    edit(tmp_path, "covarep_features_sdk", change)
    manifest = UrFunny(str(tmp_path)).load()
    manifest.check()
    assert (~manifest.present[:, 1]).nonzero().flatten().tolist() == [2, 4]
    notes = "\n".join(manifest.notes)
    assert "modality 'audio': 1 numbers in 1 samples are NaN or infinite" in notes
    assert "modality 'audio': 2 samples are zeros all through and lack it: 3, 5" in notes


def spoil(name, change):
    return lambda root: edit(root, name, change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (spoil("humor_label_sdk", lambda d: d.pop(5)), "humor_label_sdk.pkl has no sample 5"),
        (spoil("humor_label_sdk", lambda d: d.update({5: 2})), "sample '5' has the label 2"),
        (spoil("data_folds", lambda d: d.pop("dev")), "data_folds.pkl has no list 'dev'"),
        (spoil("data_folds", lambda d: d["dev"].append(1)), "the id 1 stands in the folds twice"),
        (
            spoil("openface_features_sdk", lambda d: d[2].pop("punchline_features")),
            "openface_features_sdk.pkl: sample 2 cannot be read",
        ),
        (
            spoil("openface_features_sdk", lambda d: d[2].update(punchline_features=[[1.0]])),
            "sample 2 has features of shape (1, 1)",
        ),
        (
            spoil("language_sdk", lambda d: d[2].update(punchline_embedding_indexes=[99])),
            "language_sdk.pkl: sample 2 cannot be read",
        ),
        (lambda root: (root / "word_embedding_list.pkl").unlink(), "word_embedding_list.pkl"),
    ],
)
def test_damage_is_named(tmp_path, damage, words):
    authors(tmp_path)
    damage(tmp_path)
    with pytest.raises(MmeqError, match=re.escape(words)):
        UrFunny(str(tmp_path)).load()


def humor(root, name="humor.pkl"):
    rng = np.random.default_rng(0)
    data = {}
    for key, count, first in (("train", 8, 1), ("valid", 4, 9), ("test", 4, 13)):
        filled = (np.arange(6) >= 6 - (1 + np.arange(count) % 6)[:, None])[..., None]
        data[key] = {
            "vision": rng.uniform(1, 2, (count, 6, 4)) * filled,
            "audio": rng.uniform(1, 2, (count, 6, 3)) * filled,
            "text": rng.uniform(1, 2, (count, 6, 2)) * filled,
            "labels": (np.arange(count) % 2).reshape(-1, 1),
            "id": np.arange(first, first + count).reshape(-1, 1),
        }
    (root / name).write_bytes(pickle.dumps(data))
    return data


def test_the_file_of_multibench(tmp_path):
    data = humor(tmp_path)
    manifest = UrFunny(str(tmp_path)).load()
    assert manifest.ids == [str(n) for n in range(1, 17)]
    assert manifest.groups is None
    assert manifest.labels.tolist() == [0, 1] * 8
    batch = manifest.columns["vision"].batch(torch.tensor([2]))
    assert batch["length"].tolist() == [3]
    assert np.allclose(batch["values"][0, :3], data["train"]["vision"][2, 3:])
    assert "as in humor.pkl" in manifest.spec.protocol
    with pytest.raises(MmeqError, match="protocol=context needs the authors' pickles"):
        UrFunny(str(tmp_path), protocol="context").load()


def test_a_file_by_name_goes_before_the_authors_files(tmp_path):
    authors(tmp_path)
    humor(tmp_path, "other.pkl")
    assert "as in other.pkl" in UrFunny(str(tmp_path), file="other.pkl").load().spec.protocol


def test_train_size(tmp_path):
    humor(tmp_path)
    manifest = UrFunny(str(tmp_path), train_size=4).load()
    assert len(manifest.rows("train")) == 4
    assert len(manifest.rows("test")) == 4
    assert "train_size=4" in manifest.spec.protocol


def test_nothing_there(tmp_path):
    with pytest.raises(MmeqError, match=r"none of humor\.pkl, data_folds\.pkl"):
        UrFunny(str(tmp_path)).load()
    with pytest.raises(MmeqError, match=r"protocol=punch.*'punchline'"):
        UrFunny(protocol="punch")
    with pytest.raises(MmeqError, match="steps=0"):
        UrFunny(steps=0)


@pytest.mark.parametrize("original", [False, True])
def test_the_corpus(tmp_path, original):
    corpora = pytest.importorskip("tests.corpora.sequences")
    facts = corpora.write_ur_funny(tmp_path, original=original)
    manifest = UrFunny(str(tmp_path)).load()
    assert sorted(manifest.ids) == sorted(facts["ids"])
    labels = {
        one: str(label) for one, label in zip(manifest.ids, manifest.labels.tolist(), strict=True)
    }
    assert labels == facts["labels"]
    parts = dict(zip(manifest.ids, manifest.split.tolist(), strict=True))
    assert {one: part.replace("validation", "valid") for one, part in parts.items()} == facts[
        "split"
    ]
    assert [m.shape[1] for m in manifest.spec.modalities] == [371, 81, 300]
    if original:
        words = {one: len(text.split()) for one, text in facts["texts"].items()}
        for column in manifest.columns.values():
            assert column.length.tolist() == [words[one] for one in manifest.ids]
    manifest.check()
