"""Gaps made in the data and modality dropout: reproducible, really hidden, never everything."""

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.data.datamodule import DataModule
from mmeq.data.mfeat import Mfeat
from mmeq.data.missing import draw_kept, hide, rates_by_part
from mmeq.errors import MmeqError
from mmeq.game.missing import pattern_weights
from tests.data.test_datamodule import collect, ready, same, small

NAMES = ("v", "s", "i", "t")


def test_the_draws_follow_the_law_of_the_table():
    """Patterns come as often as `pattern_weights` says."""
    ids = [f"n{k}" for k in range(20_000)]
    rates = (0.7, 0.4, 0.9)
    present = torch.ones(len(ids), 3, dtype=torch.bool)
    kept = draw_kept("k", ids, list("abc"), torch.tensor(rates), present)
    patterns = (kept * torch.tensor([1, 2, 4])).sum(1)
    share = torch.bincount(patterns, minlength=8)[1:] / len(ids)
    assert share.double().sub(pattern_weights(rates, present[:1])[0]).abs().max() < 0.01
    assert kept.any(1).all()


@given(st.integers(0, 99), st.floats(0, 0.999), st.data())
@settings(max_examples=50, deadline=None)
def test_one_is_kept_and_nothing_is_made_up(seed, rate, data):
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1))
    present = torch.tensor(rows)
    ids = [f"s{k}" for k in range(len(rows))]
    kept = draw_kept(f"{seed}", ids, list("abc"), torch.tensor([rate, 0.0, rate]), present)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(1), present.any(1))
    assert torch.equal(kept[:, 1], present[:, 1])
    # the same for a sample whoever stands beside it
    last = draw_kept(
        f"{seed}", ids[-1:], list("abc"), torch.tensor([rate, 0.0, rate]), present[-1:]
    )
    assert torch.equal(last[0], kept[-1])


def test_gaps_are_zero_and_the_same_in_all_epochs_and_runs():
    data = ready(small(600), missing=0.4, batch_size=50, seed=3)
    manifest = data.manifest
    present = manifest.present
    assert not data.spec.complete
    assert "made gaps: train 40 %, validation 40 %, test 40 %, seed 3" in data.spec.protocol
    assert (present.float().mean(0) - 0.6).abs().max() < 0.08
    columns = manifest.columns
    assert (columns["v"].values[~present[:, 0]] == 0).all()
    assert (columns["s"].values[~present[:, 1]] == 0).all()
    assert (columns["s"].length[~present[:, 1]] == 0).all()
    assert (columns["i"].pixels[~present[:, 2]] == 0).all()
    assert all(columns["t"].texts[row] == "" for row in (~present[:, 3]).nonzero().flatten())
    # standardised by what is left
    fit = torch.from_numpy(manifest.split == "train") & present[:, 0]
    assert torch.allclose(columns["v"].values[fit].mean(0), torch.zeros(3), atol=1e-5)
    first, second = collect(data, [0, 1])
    by_id = [
        {one: row.tolist() for b in epoch for one, row in zip(b["id"], b["present"], strict=True)}
        for epoch in (first, second)
    ]
    assert by_id[0] == by_id[1]
    assert torch.equal(ready(small(600), missing=0.4, seed=3).manifest.present, present)
    assert not torch.equal(ready(small(600), missing=0.4, seed=4).manifest.present, present)


def test_parts_and_modalities():
    data = ready(small(600), missing={"train": {"t": 0.5}, "test": 0.2})
    present = data.manifest.present
    train, validation, test = (data.manifest.rows(p) for p in ("train", "validation", "test"))
    assert present[validation].all()
    assert present[train][:, :3].all()
    assert 0.4 < present[train][:, 3].float().mean() < 0.6
    assert 0.7 < present[test].float().mean() < 0.9
    assert "made gaps: train t 50 %, test 20 %" in data.spec.protocol


def test_no_gaps_change_nothing():
    data = ready(small(), missing={"train": 0.0}, modality_dropout=0.0)
    assert data.spec.complete
    assert data.spec.protocol == "fixed"


def test_gaps_come_on_top_of_those_that_are_there():
    manifest = small(600, complete=False)
    before = manifest.present.clone()
    present = ready(manifest, missing=0.6).manifest.present
    assert not (present & ~before).any()
    assert present.any(1).all()
    assert present.sum() < before.sum()


def dropped(epochs, **options):
    return collect(ready(small(), batch_size=8, seed=5, modality_dropout=0.5, **options), epochs)


def test_dropout_is_drawn_anew_each_epoch_and_hides_really():
    first, second = dropped([0, 1])
    seen = [
        {one: row.tolist() for b in epoch for one, row in zip(b["id"], b["present"], strict=True)}
        for epoch in (first, second)
    ]
    assert seen[0] != seen[1]
    for batch in chain(first, second):
        present, inputs = batch["present"], batch["inputs"]
        assert present.any(1).all()
        assert (inputs["v"][~present[:, 0]] == 0).all()
        assert (inputs["s"]["values"][~present[:, 1]] == 0).all()
        assert (inputs["s"]["length"][~present[:, 1]] == 0).all()
        assert (inputs["i"][~present[:, 2]] == 0).all()
        assert [text != "" for text in inputs["t"]] == present[:, 3].tolist()
        assert inputs["i"].dtype == torch.uint8
    share = torch.cat([batch["present"] for batch in chain(first, second)]).float().mean()
    assert 0.4 < share < 0.65


def test_dropout_does_not_depend_on_workers_or_restarts():
    alone = dropped([0, 1])
    assert same(dict(enumerate(chain(*alone))), dict(enumerate(chain(*dropped([0, 1], workers=1)))))
    (resumed,) = dropped([1])
    assert same(dict(enumerate(resumed)), dict(enumerate(alone[1])))


def test_dropout_leaves_evaluation_alone():
    data = ready(small(), modality_dropout={"v": 0.9})
    assert not data.spec.complete  # training looks at the masks
    for split in ("train", "validation", "test"):
        assert all(batch["present"].all() for batch in data.loader(split))


def test_hide_takes_every_form():
    kept = torch.tensor([True, False])
    raw = {"values": torch.ones(2, 3), "length": torch.tensor([2, 2])}
    hidden = hide(raw, kept)
    assert hidden["values"][1].sum() == 0
    assert hidden["length"].tolist() == [2, 0]
    assert hide(["a", "b"], kept) == ["a", ""]
    assert hide(torch.full((2,), float("nan")), kept)[1] == 0
    assert hide([torch.ones(2), torch.ones(3)], kept)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (1.0, "missing=1.0: give a rate from 0 up to"),
        (-0.1, "missing=-0.1"),
        ({"x": 0.5}, "missing names the unknown modality 'x'"),
        ({"train": {"vv": 0.5}}, "missing.train names the unknown modality 'vv'; did you mean 'v'"),
        ({"train": 2}, "missing.train=2"),
        ({"train": 0.1, "v": 0.5}, "names the part.s. train and also 'v'"),
        ({"v": "much"}, "missing.v=much"),
    ],
)
def test_bad_rates(missing, said):
    with pytest.raises(MmeqError, match=said):
        rates_by_part(missing, NAMES)
    with pytest.raises(MmeqError, match=said):
        ready(small(), missing=missing)


def test_bad_dropout():
    with pytest.raises(MmeqError, match="modality_dropout=1: give a rate"):
        ready(small(), modality_dropout=1)


def test_every_modality_must_be_left_somewhere_in_training():
    with pytest.raises(MmeqError, match="absent from the whole train part"):
        ready(small(), missing={"v": 0.999})


def test_real_data_with_gaps():
    data = DataModule(Mfeat(), missing=0.3)
    data.setup()
    batch = next(iter(data.val_dataloader()))
    assert (batch["inputs"]["fou"][~batch["present"][:, 0]] == 0).all()
    assert not batch["present"].all()
