"""Games with known Shapley values, and one that counts what it is asked."""

from __future__ import annotations

import math

import torch

from mmeq.game import all_coalitions, banzhaf_values, shapley_values

SHAPLEY = ("exact", "permutation", "antithetic", "kernel", "regression_adjusted")
SAMPLED = SHAPLEY[1:]


def index(coalitions):
    return (coalitions.long() << torch.arange(coalitions.shape[1])).sum(1)


def table_game(modalities, seed):
    """Independent normal values of all coalitions: (value, Shapley, Banzhaf)."""
    values = torch.randn(2**modalities, generator=torch.Generator().manual_seed(seed)).double()
    return lambda c: values[index(c)], shapley_values(values), banzhaf_values(values)


def additive(modalities, seed):
    weight = torch.randn(modalities, generator=torch.Generator().manual_seed(seed)).double()
    return lambda c: 0.3 + c.double() @ weight, weight


def pairwise(modalities, seed):
    """Additive terms and pairs: a pair's worth is shared in halves."""
    generator = torch.Generator().manual_seed(seed)
    alone = torch.randn(modalities, generator=generator).double()
    pair = torch.randn(modalities, modalities, generator=generator).double().triu(1)

    def value(c):
        z = c.double()
        return z @ alone + ((z @ pair) * z).sum(1)

    return value, alone + (pair + pair.T).sum(1) / 2


def unanimity(modalities, carrier):
    """Worth 1 iff the whole carrier is present: shared equally by it."""
    inside = torch.zeros(modalities, dtype=torch.bool)
    inside[list(carrier)] = True
    return lambda c: (c | ~inside).all(1).double(), inside.double() / len(carrier)


def voting(weights, quota):
    """Weighted voting; the Shapley-Shubik index by counting coalitions by size and weight.

    For m: sum over sizes s and weights w of the others with quota - w_m <= w < quota, times
    s!(M-s-1)!/M!: an independent closed form by dynamic programming over generating functions.
    """
    count = len(weights)
    phi = []
    for m in range(count):
        ways = {(0, 0): 1}
        for k, weight in enumerate(weights):
            if k != m:
                grown = dict(ways)
                for (size, total), n in ways.items():
                    key = (size + 1, total + weight)
                    grown[key] = grown.get(key, 0) + n
                ways = grown
        swings = [0] * count
        for (size, total), n in ways.items():
            if quota - weights[m] <= total < quota:
                swings[size] += n
        phi.append(sum(n / (count * math.comb(count - 1, s)) for s, n in enumerate(swings)))
    weight = torch.tensor(weights)
    return lambda c: ((c.long() @ weight) >= quota).double(), torch.tensor(phi).double()


def saturating(modalities, seed):
    """Pairwise evidence through a saturation, without a known solution beyond 12 modalities."""
    value, _ = pairwise(modalities, seed)
    generator = torch.Generator().manual_seed(seed)
    alone = torch.rand(modalities, generator=generator).double() * 4 / modalities

    def saturated(c):
        return 1 - torch.exp(-(c.double() @ alone) - 0.02 * value(c) / modalities)

    return saturated


def solved(value, modalities):
    return shapley_values(value(all_coalitions(modalities)))


class Counted:
    """A value function that remembers every row it was asked for, and how often it was called."""

    def __init__(self, value):
        self.value, self.asked, self.calls = value, [], 0

    def __call__(self, coalitions):
        assert coalitions.dtype == torch.bool
        self.calls += 1
        self.asked += index(coalitions).tolist()
        return self.value(coalitions)
