"""Samplers: resume exactly, ranks partition, batches carry their epoch."""

from itertools import chain, zip_longest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.data.sampler import EpochBatches, EvaluationSampler, TrainSampler, batch_generator
from mmeq.errors import MmeqError


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


def test_a_fresh_sampler_continues_where_the_other_is():
    rows = np.arange(100, 150)
    through = TrainSampler(rows, seed=3)
    orders = [epoch(through, k) for k in range(4)]
    assert epoch(TrainSampler(rows, seed=3), 3) == orders[3]
    assert epoch(TrainSampler(rows, seed=4), 3) != orders[3]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == rows.tolist() for order in orders)


@given(count=st.integers(1, 60), world=st.integers(1, 5), number=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_ranks_partition(count, world, number):
    rows = np.arange(count) * 2
    evaluated = [list(EvaluationSampler(rows, rank, world)) for rank in range(world)]
    assert sorted(chain(*evaluated)) == rows.tolist()
    assert [len(EvaluationSampler(rows, r, world)) for r in range(world)] == list(
        map(len, evaluated)
    )
    if count < world:
        with pytest.raises(MmeqError, match="too few"):
            len(TrainSampler(rows, 0, 0, world))
        return
    samplers = [TrainSampler(rows, 0, rank, world) for rank in range(world)]
    parts = [epoch(sampler, number) for sampler in samplers]
    # Interleaved, the ranks see the order of a single process.
    alone = epoch(TrainSampler(rows, 0, 0, 1), number)
    together = [row for step in zip_longest(*parts) for row in step]
    assert together[:count] == alone
    assert set(together[count:]) <= {None}


@given(count=st.integers(1, 60), world=st.integers(1, 5), size=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_batches_of_ranks_make_up_those_of_one_process(count, world, size):
    if count < world:
        return
    one = list(EpochBatches(TrainSampler(np.arange(count), 1, 0, 1), world * size))
    ranks = [EpochBatches(TrainSampler(np.arange(count), 1, r, world), size) for r in range(world)]
    parts = [list(batches) for batches in ranks]
    assert {len(batches) for batches in ranks} == set(map(len, parts)) == {len(parts[0])}
    # as many, unless a rank would have less than two samples of the last
    tail = count % (world * size)
    assert len(one) - len(parts[0]) == (
        len(one) > 1 and 0 < tail < world * min(2, size) and (tail > 1 or world * size == 1)
    )
    for (_, whole), *each in zip(one, *parts, strict=False):
        assert sorted(whole) == sorted(row for _, rows in each for row in rows)
        lengths = [len(rows) for _, rows in each]
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= (min(2, size) if len(parts[0]) > 1 else 1)


@given(count=st.integers(1, 40), size=st.integers(1, 9))
def test_batches_carry_the_epoch_and_leave_out_a_tail_of_one(count, size):
    sampler = TrainSampler(np.arange(count), 1, 0, 1)
    batches = EpochBatches(sampler, size)
    sampler.set_epoch(7)
    seen = list(batches)
    assert len(seen) == len(batches)
    assert all(number == 7 for number, _ in seen)
    lost = count % size == 1 and size > 1 and count > 1
    assert sum(len(rows) for _, rows in seen) == count - lost
    if size > 1 and count > 1:
        assert min(len(rows) for _, rows in seen) > 1


def test_generator_depends_on_every_argument():
    def draw(*arguments):
        return torch.rand(3, generator=batch_generator(*arguments)).tolist()

    base = (0, 1, [5, 6], "image")
    assert draw(*base) == draw(*base)
    for other in [(1, 1, [5, 6], "image"), (0, 2, [5, 6], "image"), (0, 1, [6, 5], "image")]:
        assert draw(*other) != draw(*base)
    assert draw(0, 1, [5, 6], "audio") != draw(*base)
