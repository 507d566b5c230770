"""The predictions file: both formats, and the game played again from the file alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAUROC

from mmeq.errors import MmeqError
from mmeq.game import (
    CoalitionGame,
    all_coalitions,
    measure_predictions,
    read_predictions,
    write_predictions,
)
from tests.game.helpers import CLASSES, FREQUENCIES, NAMES, synthetic, tensors

FORMATS = ["npz", "parquet"]


def arrays(samples=90, **changes):
    logits, label = synthetic(samples)
    present = np.ones((samples, 3), dtype=bool)
    present[4, 1] = False
    return {
        "logits": logits.transpose(0, 1).numpy(),
        "coalitions": all_coalitions(3)[1:].numpy(),
        "labels": label.numpy(),
        "ids": np.array([f"s\u00e9-{n}" for n in range(samples)]),
        "index": np.arange(samples) * 3,
        "present": present,
        "modalities": np.array(NAMES),
        "classes": np.array(["w", "x", "y", "z z"]),
        "class_frequencies": FREQUENCIES.double().numpy(),
        "value": np.array("nll"),
        "seed": np.array(7),
        **changes,
    }


def direct(value="nll", seed=7, keep=slice(None)):
    logits, label = synthetic()
    game = CoalitionGame(NAMES, FREQUENCIES.double(), value=value, draws=60, seed=seed)
    game.update(logits[:, keep], label[keep], torch.arange(len(label))[keep])
    return game.compute()


def same(one, other):
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(
        torch.equal(a[key].nan_to_num(9), b[key].nan_to_num(9)) for key in a
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_gives_every_array_back(suffix, tmp_path):
    given = arrays(phi=np.random.default_rng(0).random((90, 3)), phi_class=np.arange(90) % CLASSES,
                   phi_of=np.array(["label", "prediction"] * 45))  # fmt: skip
    given["labels"][[3, 50]] = -1
    path = write_predictions(tmp_path / "deep" / f"p.{suffix}", given)
    found = read_predictions(path)
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert np.array_equal(found[name], array), name
        assert found[name].dtype.kind == array.dtype.kind, name
        assert found[name].flags.writeable
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_game_from_a_file_is_the_game_to_the_last_bit(suffix, tmp_path):
    path = write_predictions(tmp_path / f"p.{suffix}", arrays())
    assert same(measure_predictions(path, draws=60), direct())
    assert same(
        measure_predictions(path, draws=60, value="macro_f1", seed=1), direct("macro_f1", 1)
    )


def test_parquet_has_a_row_for_each_sample_and_coalition(tmp_path):
    import pandas

    given = arrays()
    given["labels"][0] = -1
    table = pandas.read_parquet(write_predictions(tmp_path / "p.parquet", given))
    assert len(table) == 90 * 7
    outer = f"{NAMES[0]}+{NAMES[2]}"
    row = table[(table["id"] == "s\u00e9-4") & (table["coalition"] == outer)].iloc[0]
    assert np.array_equal(row["logits"], given["logits"][4, 4])
    assert row["label"] == given["labels"][4]
    assert row["prediction"] == given["classes"][given["logits"][4, 4].argmax()]
    assert row["present"].tolist() == [True, False, True]
    assert table["label"].isna().sum() == 7


def test_coalitions_may_stand_in_any_order_and_unlabelled_samples_do_not_count():
    given = arrays()
    turn = np.random.default_rng(0).permutation(7)
    given["logits"], given["coalitions"] = given["logits"][:, turn], given["coalitions"][turn]
    given["labels"][80:] = -1
    assert same(measure_predictions(given, draws=60), direct(keep=slice(80)))


def test_a_metric_of_ones_own_is_given_by_hand():
    given = arrays(value=np.array("multiclass_auroc"))
    with pytest.raises(MmeqError, match="played for multiclass_auroc"):
        measure_predictions(given)
    report = measure_predictions(given, value=MulticlassAUROC(CLASSES), draws=5)
    assert report.value == "multiclass_auroc"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": np.full(90, -1)}, "no sample of these predictions has a label"),
        ({"coalitions": np.zeros((7, 3), bool)}, "lack 7 of 7 coalitions"),
        ({"class_frequencies": None}, "do not hold class_frequencies"),
    ],
)
def test_what_cannot_be_measured_is_said(changes, said):
    given = {name: array for name, array in arrays(**changes).items() if array is not None}
    with pytest.raises(MmeqError, match=said):
        measure_predictions(given)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(MmeqError, match=r"ends in .npz or .parquet"):
        write_predictions(tmp_path / "p.csv", arrays())
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(MmeqError, match="is a folder"):
        write_predictions(tmp_path / "d.npz", arrays())
    with pytest.raises(MmeqError, match="there is no predictions file"):
        read_predictions(tmp_path / "p.npz")
    (tmp_path / "p.npz").write_text(json.dumps({}))
    with pytest.raises(MmeqError, match="is no npz"):
        read_predictions(tmp_path / "p.npz")
    np.savez(tmp_path / "q.npz", logits=np.zeros(3))
    with pytest.raises(MmeqError, match="lacks coalitions, labels"):
        read_predictions(tmp_path / "q.npz")
