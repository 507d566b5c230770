"""Splits: parts are disjoint, cover, keep groups, and depend on the seed only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.data.manifest import PARTS
from mmeq.data.split import Split, apportion
from mmeq.errors import MmeqError


def labels_of(count, classes, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(count) % classes)


@given(
    count=st.integers(30, 300),
    classes=st.integers(2, 5),
    seed=st.integers(0, 10**6),
    cut=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
)
@settings(max_examples=40, deadline=None)
def test_stratified_parts(count, classes, seed, cut):
    train, rest = cut[0], 1 - cut[0]
    fractions = (train, rest * cut[1], rest * (1 - cut[1]))
    labels = labels_of(count, classes, seed)
    names = [str(c) for c in range(classes)]
    split = Split(seed, fractions).assign(labels, names)
    again = Split(seed, fractions).assign(labels, names)
    assert (split == again).all()
    assert set(split) == set(PARTS)  # every sample in exactly one of the three
    for label in range(classes):
        size = (labels == label).sum()
        for part, share in zip(PARTS, fractions, strict=True):
            assert abs(((labels == label) & (split == part)).sum() - share * size) < 1


@pytest.mark.parametrize("size", [4, 5, 6])
def test_small_classes_are_shared_out(size):
    """A class alone leaves validation and test the same remainder; together they get the same."""
    labels, names = np.repeat(np.arange(50), size), [str(c) for c in range(50)]
    split = Split(fractions=(0.8, 0.1, 0.1)).assign(labels, names)
    counts = [(split == part).sum() for part in PARTS]
    assert counts[1] == counts[2] == 25
    assert np.bincount(labels[split == "train"]).min() > 0


@given(seed=st.integers(0, 10**6), groups=st.integers(30, 80))
@settings(max_examples=30, deadline=None)
def test_groups_stay_whole(seed, groups):
    random = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), random.integers(groups, size=300)])
    labels = np.where(
        random.random(len(group)) < 0.9, group % 3, random.integers(3, size=len(group))
    )
    names = [f"g{g}" for g in group]
    split = Split(seed).assign(labels, ["a", "b", "c"], names)
    for g in range(groups):
        assert len(set(split[group == g])) == 1
    # Approximately stratified: within a few samples of the largest group.
    slack = 1.5 * np.bincount(group).max()
    for label in range(3):
        for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
            found = ((labels == label) & (split == part)).sum()
            assert abs(found - share * (labels == label).sum()) <= slack


def test_group_split_ignores_the_order_of_names_only_by_seed():
    group = [f"g{k % 40}" for k in range(200)]
    labels = np.array([k % 40 % 2 for k in range(200)])
    splits = [Split(seed).assign(labels, ["a", "b"], group) for seed in range(4)]
    assert all((splits[0] != other).any() for other in splits[1:])


def test_seeds_give_different_splits():
    labels = labels_of(200, 4)
    splits = [Split(seed).assign(labels, "abcd") for seed in range(5)]
    assert all((splits[0] != other).any() for other in splits[1:])


@given(size=st.integers(4, 120), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_train_size_only_shrinks_the_train_part(size, seed):
    labels = labels_of(200, 4, seed)
    full = Split(seed).assign(labels, "abcd")
    small = Split(seed, train_size=size).assign(labels, "abcd")
    assert (small == "train").sum() == size
    assert (full[small == "unused"] == "train").all()
    kept = small != "unused"
    assert (full[kept] == small[kept]).all()
    counts = np.bincount(labels[small == "train"], minlength=4)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_train_size_keeps_a_rare_class():
    labels = np.array([0] * 190 + [1] * 10)
    split = Split(train_size=5).assign(labels, "ab")
    assert np.bincount(labels[split == "train"]).tolist() == [4, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.6, 0.2, 0.3)}, "add up to 1.1"),
        ({"fractions": (0.8, 0.2)}, "expected a share"),
        ({"fractions": (0.8, 0.2, 0.0)}, "expected a share"),
        ({"train_size": 0}, "train_size=0"),
        ({"seed": -1}, "split_seed=-1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(MmeqError, match=message):
        Split(**options)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 1] * 50, {"train_size": 61}, "train_size=61: the train part has only 60"),
        ([0, 1] * 50, {"train_size": 1}, "smaller than the 2 classes"),
        ([0] * 100, {}, "no sample of class 'b' in the train part"),
        ([0, 1], {}, "the validation part is empty: 2 samples of 2 classes are too few"),
    ],
)
def test_data_that_cannot_be_cut(labels, options, message):
    with pytest.raises(MmeqError, match=message):
        Split(**options).assign(np.array(labels), ["a", "b"])


@given(st.integers(0, 500), st.lists(st.floats(0.01, 1), min_size=1, max_size=8))
def test_apportion_is_exact_and_near(total, shares):
    sizes = apportion(total, shares)
    assert sizes.sum() == total
    assert (abs(sizes - total * np.array(shares) / sum(shares)) < 1 + 1e-6).all()
