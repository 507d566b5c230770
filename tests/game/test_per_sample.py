"""Every sample's own game: efficiency, dummies, and a reference that walks all orders."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game import sample_shapley


def reference(logits_SC, label, frequencies):
    """The mean gain of each modality over all orders of arrival."""
    modalities = (len(logits_SC) + 1).bit_length() - 1

    def value(members):
        row = sum(1 << m for m in members)
        if row == 0:
            return float(frequencies[label])
        return float(logits_SC[row - 1].double().softmax(-1)[label])

    phi = [0.0] * modalities
    orders = list(permutations(range(modalities)))
    for order in orders:
        for place, m in enumerate(order):
            phi[m] += (value(order[: place + 1]) - value(order[:place])) / len(orders)
    return phi


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 10_000))
def test_each_sample_has_the_values_of_its_own_game(modalities, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, 2**modalities - 1, classes, generator=generator)
    label = torch.randint(classes, (6,), generator=generator)
    frequencies = torch.rand(classes, generator=generator) + 0.1
    phi = sample_shapley(logits, label, frequencies)
    share = (frequencies.double() / frequencies.double().sum())[label]
    full = logits[:, -1].double().softmax(-1)[torch.arange(6), label]
    assert torch.allclose(phi.sum(1), full - share, atol=1e-12)
    for n in range(6):
        told = reference(
            logits[n], int(label[n]), frequencies.double() / frequencies.double().sum()
        )
        assert phi[n].tolist() == pytest.approx(told, abs=1e-12)


def test_a_modality_that_changes_nothing_gets_nothing():
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    frequencies = torch.tensor([0.1, 0.2, 0.3, 0.4])
    logits[:, 1] = frequencies.log()  # b alone answers the constant
    logits[:, 2] = logits[:, 0]  # and adds nothing to a
    phi = sample_shapley(logits, torch.tensor([0, 1, 2, 3, 0]), frequencies)
    assert phi[:, 1].abs().max() < 1e-7


@pytest.mark.parametrize(
    ("label", "frequencies", "said"),
    [
        (torch.tensor([0, 1]), torch.ones(2), "expected a class for each of 1"),
        (torch.tensor([2]), torch.ones(2), "outside 0..1"),
        (torch.tensor([0]), torch.ones(3), "2 class frequencies"),
    ],
)
def test_what_does_not_fit_is_refused(label, frequencies, said):
    with pytest.raises(MmeqError, match=said):
        sample_shapley(torch.zeros(1, 3, 2), label, frequencies)
