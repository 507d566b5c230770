from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game import edm, edm_capacity, edm_normalised, shapley_values

contributions = st.lists(st.floats(-5, 5), min_size=1, max_size=8).filter(
    lambda phi: sum(max(x, 0) for x in phi) > 1e-3
)


def test_worked_example():
    phi = shapley_values(torch.tensor([0.1683, 0.62, 0.35, 0.65], dtype=torch.float64))
    assert edm(phi).item() == pytest.approx(100 * 0.27 / (0.65 - 0.1683))
    assert round(edm(phi).item(), 2) == 56.05


def test_shares_of_75_and_25_are_50_percent():
    assert edm(torch.tensor([0.75, 0.25])).item() == 50
    assert edm(torch.tensor([[1.0, 1.0], [2.0, 0.0]])).tolist() == [0, 100]


@settings(max_examples=100, deadline=None)
@given(contributions, st.floats(0.1, 10))
def test_range_scale_and_order(phi, scale):
    count = len(phi)
    percent = edm(torch.tensor(phi)).item()
    assert 0 <= percent <= 200 * (1 - 1 / count) + 1e-9
    normalised = edm_normalised(torch.tensor(phi)).item()
    assert 0 <= normalised <= 1
    if count > 1:
        assert normalised == pytest.approx(percent / (200 * (1 - 1 / count)))
    assert edm(scale * torch.tensor(phi).double()).item() == pytest.approx(percent, abs=1e-4)
    assert edm(torch.tensor(phi[::-1])).item() == pytest.approx(percent, abs=1e-9)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_ends_of_the_range(count):
    alone = torch.eye(count)[0]
    assert edm(alone).item() == pytest.approx(200 * (1 - 1 / count))
    assert edm_normalised(alone).item() == pytest.approx(1)
    assert edm(torch.ones(count)).item() == pytest.approx(0, abs=1e-12)


def test_one_modality_is_balanced():
    assert edm(torch.tensor([0.3])).item() == 0
    assert edm_normalised(torch.tensor([0.3])).item() == 0


def test_negative_values_are_clipped_for_the_shares():
    assert edm(torch.tensor([0.6, -0.2])).item() == 100
    assert edm(torch.tensor([0.3, 0.3, -0.1])).item() == pytest.approx(200 / 3)


@pytest.mark.parametrize("phi", [[0.0, 0.0], [-0.1, -0.2], [1e-12, -1.0]])
@pytest.mark.parametrize("measure", [edm, edm_normalised, lambda p: edm_capacity(p, [0.5, 0.5])])
def test_nan_and_warning_without_contributions(phi, measure):
    with pytest.warns(RuntimeWarning, match="no modality contributes"):
        assert math.isnan(measure(torch.tensor(phi)).item())


def test_warning_can_be_kept_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = edm(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), warn=False)
    assert math.isnan(rows[0].item())
    assert rows[1].item() == 0


def test_target():
    phi = torch.tensor([0.75, 0.25])
    assert edm(phi, target=[0.75, 0.25]).item() == 0
    assert edm(torch.tensor([0.0, 1.0]), [0.75, 0.25]).item() == 150
    assert edm_normalised(torch.tensor([0.0, 1.0]), [0.75, 0.25]).item() == 1


def test_capacity():
    phi = torch.tensor([0.6, 0.3, 0.0])
    assert edm_capacity(phi, [0.4, 0.2, 0.0]).item() == pytest.approx(0, abs=1e-5)
    assert edm_capacity(phi, [0.4, 0.2, -0.1]).item() == pytest.approx(0, abs=1e-5)
    assert edm_capacity(phi, [1.0, 1.0, 1.0]).item() == pytest.approx(edm(phi).item())
    assert edm(phi).item() > 60
    with pytest.warns(RuntimeWarning, match="no modality has capacity"):
        assert math.isnan(edm_capacity(phi, [0.0, 0.0, 0.0]).item())


def test_refuses():
    phi = torch.tensor([0.5, 0.5])
    for wrong in ([0.5, 0.6], [1.5, -0.5], [1.0], [math.nan, 1.0]):
        with pytest.raises(MmeqError, match="target"):
            edm(phi, target=wrong)
    with pytest.raises(MmeqError, match="capacity"):
        edm_capacity(phi, [1.0])
    with pytest.raises(MmeqError, match="phi"):
        edm(torch.tensor([math.nan, 1.0]))
    with pytest.raises(MmeqError, match="phi"):
        edm(torch.tensor(1.0))
