"""A missing pattern put upon an evaluation."""

from __future__ import annotations

import pytest
import torch

from mmeq.data.datamodule import DataModule
from mmeq.data.hide import check_pattern, kept_by
from mmeq.data.mfeat import Mfeat
from mmeq.errors import MmeqError

NAMES = ("fou", "zer", "mor")


def loaded(names=NAMES):
    data = DataModule(Mfeat(modalities=list(names)), batch_size=50)
    data.setup()
    return data


def test_a_named_modality_goes_from_all_samples():
    data = loaded()
    before, frequencies = data.statistics, data.class_frequencies
    data.hide(kept_by(data.manifest, ["zer"]))
    assert not data.spec.complete
    for batch in data.loader("test"):
        assert (batch["inputs"]["zer"] == 0).all()
        assert batch["inputs"]["fou"].abs().sum() > 0
        assert batch["present"].tolist() == [[True, False, True]] * len(batch["label"])
    assert data.statistics is before
    assert torch.equal(data.class_frequencies, frequencies)


@pytest.mark.filterwarnings("ignore:dataset 'mfeat'.*identical content")
def test_random_gaps_keep_one_and_depend_on_the_sample_alone():
    manifest = loaded().manifest
    kept = kept_by(manifest, rate=0.6, seed=3)
    assert kept.any(1).all()
    assert torch.equal(kept, kept_by(manifest, rate=0.6, seed=3))
    assert not torch.equal(kept, kept_by(manifest, rate=0.6, seed=4))
    # one is kept of those that lose all: 0.6 - 0.6^3 / 3
    assert (~kept).double().mean().item() == pytest.approx(0.6 - 0.6**3 / 3, abs=0.02)
    fewer = loaded(("zer", "mor")).manifest
    some = kept_by(fewer, rate={"zer": 0.6}, seed=3)
    assert some[:, 1].all()
    drawn = kept[:, 0]  # where nothing had to be kept, the draws are as they fell
    assert torch.equal(some[drawn, 0], kept[drawn, 1])


def test_a_named_one_is_never_the_one_that_is_kept():
    kept = kept_by(loaded().manifest, ["zer"], rate=0.9)
    assert not kept[:, 1].any()
    assert kept.any(1).all()


def test_samples_that_would_keep_nothing_are_refused():
    data = loaded()
    data.hide(torch.tensor([True, False, False]))
    with pytest.raises(MmeqError, match="would be left with no modality, such as 'mfeat-0"):
        data.hide(kept_by(data.manifest, ["fou"]))


def test_only_the_samples_of_the_part_must_keep_something():
    data = loaded()
    manifest = data.manifest
    kept_NM = torch.ones(manifest.present.shape, dtype=torch.bool)
    kept_NM[manifest.rows("train")[0]] = torch.tensor([True, False, False])
    data.hide(kept_NM)
    data.hide(kept_by(data.manifest, ["fou"]), "test")
    present = data.manifest.present
    assert not present[manifest.rows("test"), 0].any()
    assert present[manifest.rows("train"), 0].all()
    with pytest.raises(MmeqError, match="1 samples would be left with no modality"):
        data.hide(kept_by(data.manifest, ["fou"]), "train")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ((["zre"], 0.0, 0), r"missing=\[zre\]: the run has no modality 'zre'; did you mean 'zer'"),
        ((NAMES, 0.0, 0), "hides every modality"),
        (([], 1.0, 0), "missing_rate=1.0: give a rate from 0 up to"),
        (([], {"zre": 0.5}, 0), "missing_rate names the unknown modality 'zre'"),
        (([], 0.5, -1), "missing_seed=-1"),
    ],
)
def test_patterns_that_cannot_be(pattern, said):
    with pytest.raises(MmeqError, match=said):
        check_pattern(*pattern, NAMES)
