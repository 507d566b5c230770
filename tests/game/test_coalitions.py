from __future__ import annotations

import pytest
import torch

from mmeq.errors import MmeqError
from mmeq.game import (
    all_coalitions,
    coalition_index,
    coalition_members,
    coalition_name,
    coalition_names,
)


@pytest.mark.parametrize("modalities", [1, 2, 5, 12])
def test_binary_order(modalities):
    rows = all_coalitions(modalities)
    assert rows.dtype == torch.bool
    assert rows.shape == (2**modalities, modalities)
    assert not rows[0].any()
    assert rows[-1].all()
    for r in range(0, 2**modalities, 7):
        members = [m for m in range(modalities) if r >> m & 1]
        assert rows[r].nonzero().flatten().tolist() == members
        assert coalition_index(reversed(members)) == r
        assert coalition_members(r, modalities) == tuple(members)


def test_names_in_binary_order():
    assert coalition_names(["x", "y", "z"]) == [
        *("none", "x", "y", "x+y", "z", "x+z", "y+z", "x+y+z"),
    ]
    assert coalition_name(torch.tensor([False, True]), ["x", "y"]) == "y"


@pytest.mark.parametrize("modalities", [0, 13, -1, 2.0, True])
def test_refuses_count(modalities):
    with pytest.raises(MmeqError, match="between 1 and 12"):
        all_coalitions(modalities)


@pytest.mark.parametrize("names", [["a", "a"], ["a+b"], [""], ["none", "b"], "ab", []])
def test_refuses_names(names):
    with pytest.raises(MmeqError):
        coalition_names(names)


def test_refuses_members():
    with pytest.raises(MmeqError, match="comes twice"):
        coalition_index([1, 1])
    with pytest.raises(MmeqError, match="negative"):
        coalition_index([-1])
    with pytest.raises(MmeqError, match="outside"):
        coalition_members(8, 3)
    with pytest.raises(MmeqError, match="3 flags"):
        coalition_name([True, False, True], ["a", "b"])
