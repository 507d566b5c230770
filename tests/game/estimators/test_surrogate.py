from __future__ import annotations

import pytest
import torch

from mmeq.game import all_coalitions, shapley_values
from mmeq.game.estimators.surrogate import Surrogate


@pytest.mark.parametrize("modalities", [2, 3, 6, 9])
@pytest.mark.parametrize("kind", ["additive", "order 3", "random"])
def test_shapley_values_in_closed_form(modalities, kind):
    """Against the exact formula on the surrogate's own values of all coalitions."""
    generator = torch.Generator().manual_seed(modalities)
    sign = all_coalitions(modalities).double() * 2 - 1
    odd = {
        "additive": sign @ torch.randn(modalities, generator=generator).double(),
        "order 3": sign[:, :3].prod(1) + sign[:, 0],
        "random": torch.randn(len(sign), generator=generator).double(),
    }[kind]
    odd = (odd - odd.flip(0)) / 2
    g = Surrogate(sign[len(sign) // 2 :], odd[len(sign) // 2 :])
    torch.testing.assert_close(g.shapley(), shapley_values(g(sign)), rtol=0, atol=1e-9)
    torch.testing.assert_close(g(sign), -g(-sign))


def test_finds_interactions_it_was_not_shown():
    generator = torch.Generator().manual_seed(0)
    sign = (torch.rand(400, 8, generator=generator) > 0.5).double() * 2 - 1
    odd = torch.sinh(sign @ torch.linspace(0.05, 0.4, 8).double())
    g = Surrogate(sign[:200], odd[:200])
    additive = torch.linalg.lstsq(sign[:200], odd[:200, None]).solution[:, 0]
    error = (g(sign[200:]) - odd[200:]).square().mean()
    assert g.decay > 0
    assert error < 0.2 * (sign[200:] @ additive - odd[200:]).square().mean()
