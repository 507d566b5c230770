"""Plain values against type hints, and what targets take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmeq.config.instantiate import instantiate
from mmeq.config.signatures import describe, fits, resolve, signature
from mmeq.errors import MmeqError


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (True, bool, True),
        (1, bool, False),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        ("1", float, False),
        (None, float, False),
        (None, float | None, True),
        ("a", Literal["a", "b"], True),
        (1, Literal[True], False),
        ([1, 2], list[int], True),
        ([1, "x"], list[int], False),
        ([1, 2], tuple[int, int], True),
        ([1, 2, 3], tuple[int, int], False),
        ([1, 2, 3], tuple[int, ...], True),
        ("abc", Sequence[str], False),
        (["abc"], Sequence[str], True),
        ({"a": 1}, dict[str, Any], True),
        ({"a": 1}, list[int], False),
        ("x", Path, True),
        ("x", Any, True),
        (3, "a name that nothing resolves", True),
    ],
)
def test_fits(value, hint, right):
    assert fits(value, hint) is right


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_a_value_fits_its_own_type_and_no_other(value):
    own = type(value) if value is not None else None
    assert fits(value, own)
    others = {bool, int, str, list[int]} - {own}
    assert not any(fits(value, other) for other in others)


def test_describe_leaves_out_what_yaml_cannot_give():
    import torch

    assert describe(float | torch.Tensor) == "a number"


def test_arguments_of_bases_are_taken_in_where_a_class_passes_them_on():
    from mmeq.fusions.concat import Concat
    from mmeq.fusions.sum import Sum

    for cls in (Concat, Sum):
        takes = signature(cls)
        assert {"modalities", "dim", "classes", "prior", "absence"} <= set(takes.arguments)
        assert not takes.open


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os.system", "is not allowed"),
        ("builtins.eval", "is not allowed"),
        ("mmeqx.evil.Thing", "is not allowed"),
        ("mmeq.fusions.memory.Memry", "did you mean 'Memory'"),
        ("mmeq.fusions.memori.Memory", "no module 'mmeq.fusions.memori'"),
    ],
)
def test_resolve_refuses(name, said):
    with pytest.raises(MmeqError, match=said):
        resolve(name)


def test_instantiate_gives_what_is_taken_and_builds_nested_nodes():
    import torch

    layer = instantiate({"_target_": "torch.nn.Sequential"}, something_that_it_does_not_take=1)
    assert isinstance(layer, torch.nn.Sequential)
    linear = instantiate({"_target_": "torch.nn.Linear", "out_features": 3}, in_features=2)
    assert linear.weight.shape == (3, 2)
