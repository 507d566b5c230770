"""Synthetic data: the oracle and simple models see the parts that were put in, and no others."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mmeq.data.oracle import accuracies, posterior
from mmeq.data.synthetic import Synthetic
from mmeq.errors import MmeqError


def alone(data, modality):
    """Test accuracy of a logistic regression on one modality."""
    labels, values = data.generate()
    half = len(labels) // 2
    model = LogisticRegression(max_iter=300).fit(values[modality, :half], labels[:half])
    return model.score(values[modality, half:], labels[half:])


def ideal(data, *coalitions):
    labels, values = data.generate()
    return accuracies(data.model(), values, labels, np.array(coalitions, dtype=bool))


def test_xor_is_invisible_to_single_modalities():
    data = Synthetic(2, 2000, 2, 6, snr=8.0, shared=0, unique=0, synergy=1)
    assert abs(alone(data, 0) - 0.5) < 0.06
    assert abs(alone(data, 1) - 0.5) < 0.06
    first, second, both = ideal(data, [1, 0], [0, 1], [1, 1])
    assert abs(first - 0.5) < 0.06
    assert abs(second - 0.5) < 0.06
    assert both > 0.99
    # A pair is not enough when three modalities share the secret.
    triple = Synthetic(3, 2000, 2, 6, snr=8.0, shared=0, unique=0, synergy=1)
    pair, full = ideal(triple, [1, 1, 0], [1, 1, 1])
    assert abs(pair - 0.5) < 0.06
    assert full > 0.99


def test_snr_controls_unimodal_accuracy():
    data = Synthetic(3, 4000, 4, 16, snr=[6, 2, 0], shared=1, unique=0, synergy=0)
    found = [alone(data, m) for m in range(3)]
    assert found[0] > 0.98
    assert 0.6 < found[1] < 0.9
    assert abs(found[2] - 0.25) < 0.05
    best = ideal(data, *np.eye(3))
    assert (np.array(found) < best + 0.03).all()  # nothing beats Bayes
    assert np.all(np.diff(best) < 0)


def test_shared_adds_nothing_and_unique_adds_much():
    shared = Synthetic(2, 4000, 4, 12, snr=10, shared=0.6, unique=0, synergy=0)
    one, both = ideal(shared, [1, 0], [1, 1])
    assert abs(one - (0.6 + 0.4 / 4)) < 0.03  # the channel's own limit
    assert abs(both - one) < 0.005
    unique = Synthetic(3, 4000, 4, 12, snr=10, shared=0, unique=0.6, synergy=0)
    one, all_three = ideal(unique, [1, 0, 0], [1, 1, 1])
    assert abs(one - 0.7) < 0.03
    assert all_three > one + 0.08


def test_equal_settings_are_balanced():
    singles = ideal(Synthetic(3, 6000, 4, 12, snr=2.5), *np.eye(3))
    assert np.ptp(singles) < 0.04


def test_posterior_agrees_with_a_sum_over_all_codes():
    """An independent reference: every code of every modality, one sample at a time."""
    data = Synthetic(3, 12, 2, 6, snr=[1, 2, 0.5], shared=0.4, unique=[0.2, 0.7, 0.5], synergy=0.6)
    model, (_, values) = data.model(), data.generate()
    for coalition in ([1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]):
        seen = [m for m in range(3) if coalition[m]]
        for n in range(3):
            expected = np.zeros(2)
            for y in range(2):
                for codes in np.ndindex(2, *(2,) * 3, *(2,) * 3):
                    s, u, r = codes[0], codes[1:4], codes[4:]

                    def p(code, reliability, y=y):
                        return reliability * (code == y) + (1 - reliability) / 2

                    weight = p(s, 0.4) * p(sum(r) % 2, 0.6) / 4
                    for m in range(3):
                        weight *= p(u[m], model.unique[m])
                    for m in seen:
                        a = model.codes[m]
                        mean = model.snr[m] * (a[0, s] + a[1, u[m]] + a[2, r[m]])
                        weight *= np.exp(-0.5 * ((values[m, n] - mean) ** 2).sum())
                    expected[y] += weight
            found = posterior(model, values[:, n : n + 1], np.array(coalition, dtype=bool))
            assert np.allclose(found[0], expected / expected.sum(), atol=1e-9)


def test_deterministic_by_seed_and_independent_of_the_split():
    one, same = Synthetic(samples=200).load(), Synthetic(samples=200, split_seed=9).load()
    assert torch.equal(one.columns["m1"].values, same.columns["m1"].values)
    assert (one.split != same.split).any()
    other = Synthetic(samples=200, data_seed=1).load()
    assert not torch.equal(one.columns["m1"].values, other.columns["m1"].values)


@pytest.mark.parametrize("sources", [2, 10])
def test_shapes_and_subsets(sources):
    data = Synthetic(sources, 120, 5, 15, modalities=["m1", "m0"])
    manifest = data.load()
    manifest.check()
    assert manifest.spec.names == ("m1", "m0")
    assert manifest.columns["m0"].values.shape == (120, 15)
    assert torch.bincount(manifest.labels).tolist() == [24] * 5
    full = Synthetic(sources, 120, 5, 15).load()
    assert torch.equal(full.columns["m0"].values, manifest.columns["m0"].values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": 25}, "sources=25: expected 2 to 24"),
        ({"snr": [1, 2]}, "2 numbers for sources=3"),
        ({"shared": 1.5}, "shared=1.5"),
        ({"unique": [0.1, 0.2, float("nan")]}, "unique=nan"),
        ({"features": 5}, "features=5: expected 12"),
        ({"modalities": ["m3"]}, "no modality 'm3'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(MmeqError, match=message):
        Synthetic(**options)
