"""Own data as arrays: what is missing, how it is standardised, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmeq.data.arrays import own_manifest, read_arrays
from mmeq.data.columns import VectorColumn
from mmeq.data.datamodule import DataModule
from mmeq.data.manifest import Manifest
from mmeq.data.spec import DatasetSpec, Modality
from mmeq.errors import MmeqError

SPEC = DatasetSpec(
    "small",
    "fixed",
    ("cat", "dog"),
    (
        Modality("v", "vector", (3,)),
        Modality("s", "sequence", (5, 2)),
        Modality("i", "image", (3, 4, 4)),
        Modality("t", "text"),
    ),
)
STATISTICS = {
    "v": (torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 4.0, 1.0]).double()),
    "s": (torch.tensor([10.0, 20.0]).double(), torch.tensor([2.0, 5.0]).double()),
}


def given(**changes):
    random = np.random.default_rng(0)
    arrays = {
        "v": random.normal(size=(4, 3)),
        "s": random.normal(size=(4, 7, 2)),
        "s_length": np.array([7, 2, 1, 5]),
        "i": random.integers(0, 256, (4, 3, 4, 4)).astype(np.uint8),
        "t": np.array(["a", "bcd", "", "\u00fc"]),
    }
    return {key: array for key, array in {**arrays, **changes}.items() if array is not None}


def manifest(**changes):
    return own_manifest(given(**changes), SPEC, STATISTICS, source="data=x.npz")


def test_arrays_become_columns_standardised_by_the_training_part():
    made = manifest()
    assert made.ids == ["0", "1", "2", "3"]
    assert made.labels.tolist() == [-1] * 4
    assert made.present.all()
    assert made.spec.complete
    rows = torch.arange(4)
    wanted = (given()["v"].astype(np.float32) - [1, 2, 3]) / [2, 4, 1]
    assert np.allclose(made.columns["v"].batch(rows), wanted, atol=1e-6)
    sequence = made.columns["s"].batch(rows)
    wanted = (given()["s"].astype(np.float32) - [10, 20]) / [2, 5]
    assert np.allclose(sequence["values"][3, :5], wanted[3, :5], atol=1e-6)
    assert (sequence["values"][3, 5:] == 0).all()
    assert sequence["length"].tolist() == [7, 2, 1, 5]
    assert np.array_equal(made.columns["i"].batch(rows), given()["i"])
    assert made.columns["t"].batch(rows) == ["a", "bcd", "", "\u00fc"]


def test_what_is_missing():
    """No array, a row of NaN, a length of 0, a flag: all of them are modalities that lack."""
    values, steps = given()["v"], given()["s"]
    values[1], steps[2, 0] = np.nan, np.nan  # the sequence of sample 2 has that step alone
    made = manifest(
        v=values,
        s=steps,
        s_length=np.array([0, 2, 1, 5]),
        i=None,
        t_present=np.array([True, True, True, False]),
    )
    assert made.present.tolist() == [
        [True, False, False, True],
        [False, True, False, True],
        [True, False, False, True],
        [True, True, False, False],
    ]
    assert not made.spec.complete
    rows = torch.arange(4)
    assert (made.columns["v"].batch(rows)[1] == 0).all()
    assert made.columns["s"].batch(rows)["length"].tolist() == [0, 2, 0, 5]
    assert (made.columns["s"].batch(rows)["values"][2] == 0).all()
    assert made.columns["i"].batch(rows).shape == (4, 3, 4, 4)
    assert made.columns["t"].batch(rows)[3] == ""


def test_labels_by_name_or_number_and_ids():
    assert manifest(labels=np.array(["dog", "cat", "dog", "dog"])).labels.tolist() == [1, 0, 1, 1]
    made = manifest(labels=np.array([-1, 0, 1, 1]), ids=np.array(["a", "b", "c", "d"]))
    assert made.labels.tolist() == [-1, 0, 1, 1]
    assert made.ids == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vv": np.zeros((4, 3))}, "unknown array 'vv'"),
        ({"v": np.zeros((4, 2))}, r"'v' is float64 \[4, 2\]: give numbers \[N, 3\]"),
        ({"v": np.zeros((5, 3))}, "has 4 rows, 'v' has 5"),
        ({"v": np.array([[0, np.nan, 0]] * 4)}, "sample '0' holds NaN or an infinity"),
        ({"v": np.array([[0, np.inf, 0]] * 4)}, "sample '0' holds NaN or an infinity"),
        ({"s_length": np.array([8, 1, 1, 1])}, "whole numbers .N. from 0 to 7"),
        ({"s": np.zeros((4, 2))}, r"give numbers \[N, T, 2\]"),
        ({"s": None}, "there is 's_length', but no 's'"),
        ({"i": np.zeros((4, 3, 8, 8), np.uint8)}, r"give uint8 \[N, 3, 4, 4\]"),
        ({"i": np.zeros((4, 3, 4, 4))}, "'i' is float64"),
        ({"t": np.zeros(4)}, "give text of a fixed width"),
        ({"t_present": np.ones(4)}, r"give bool \[N\]"),
        ({"labels": np.array(["dog", "cat", "dgo", "dog"])}, "did you mean 'dog'"),
        ({"labels": np.array([0, 1, 2, 0])}, "the label 2 is outside 0 to 1"),
        ({"labels": np.zeros(4)}, "give class names, or whole numbers"),
        ({"ids": np.array(["a", "b", "a", "c"])}, "the id 'a' occurs more than once"),
    ],
)
def test_what_does_not_fit_is_said_by_name(changes, said):
    with pytest.raises(MmeqError, match=said):
        manifest(**changes)


def test_nothing_at_all():
    with pytest.raises(MmeqError, match="holds no modality of the run"):
        own_manifest({"ids": np.array(["a"])}, SPEC, STATISTICS)
    values = np.zeros((2, 3))
    values[1] = np.nan
    with pytest.raises(MmeqError, match="sample '1' has no modality at all"):
        own_manifest({"v": values}, SPEC, STATISTICS)
    with pytest.raises(MmeqError, match="holds no sample"):
        own_manifest({"v": np.zeros((0, 3))}, SPEC, STATISTICS)
    spoken = DatasetSpec("d", "p", ("a", "b"), (Modality("w", "audio", (1, 9)),))
    with pytest.raises(MmeqError, match="of kind audio, which arrays cannot give"):
        own_manifest({"w": np.zeros((2, 1, 9))}, spoken, {})


def test_a_file_is_read_without_pickle(tmp_path):
    np.savez(tmp_path / "a.npz", v=np.zeros((2, 3)), t=np.array(["x", None], dtype=object))
    with pytest.raises(MmeqError, match="'t' holds Python objects"):
        read_arrays(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_text("no")
    with pytest.raises(MmeqError, match="is no npz"):
        read_arrays(tmp_path / "b.npz")
    with pytest.raises(MmeqError, match="there is no such file"):
        read_arrays(tmp_path / "c.npz")


class Given:
    """A dataset that is at hand."""

    def load(self):
        values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 5 + 100
        spec = DatasetSpec("d", "p", ("a", "b"), (Modality("v", "vector", (3,)),))
        split = np.array(["train", "train", "validation", "test"] * 10)
        self.raw = values.numpy()
        return Manifest(
            spec, [str(n) for n in range(40)], torch.arange(40) % 2, split,
            {"v": VectorColumn(values)}, torch.ones(40, 1, dtype=torch.bool),
        )  # fmt: skip


def test_the_runs_own_samples_come_back_as_they_were():
    dataset = Given()
    data = DataModule(dataset, batch_size=7)
    data.setup()
    test = data.manifest.rows("test")
    own = own_manifest({"v": dataset.raw[test]}, data.spec, data.statistics)
    batches = zip(data.loader("test"), data.loader_of(own), strict=True)
    for theirs, mine in batches:
        assert torch.equal(theirs["inputs"]["v"], mine["inputs"]["v"])
