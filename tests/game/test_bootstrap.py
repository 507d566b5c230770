from __future__ import annotations

import math
import time

import pytest
import torch
from sklearn.metrics import f1_score

from mmeq.errors import MmeqError
from mmeq.game import bootstrap, bootstrap_draws, percentile_interval, standard_error
from mmeq.game.bootstrap import f1_statistic, mean_statistic, resample_counts


def test_counts_are_multinomial():
    counts = torch.cat(list(resample_counts(50, 3000, seed=0)))
    assert counts.shape == (3000, 50)
    assert (counts.sum(1) == 50).all()
    assert counts.mean(0).sub(1).abs().max() < 0.1
    assert counts.var(0).mean().item() == pytest.approx(1 - 1 / 50, abs=0.02)


def test_chunks_stay_small():
    sizes = [c.numel() for c in resample_counts(300_000, 7, seed=0)]
    assert sum(sizes) == 7 * 300_000
    assert max(sizes) <= 2**20


def test_deterministic_by_seed():
    data = torch.rand(40, 3)
    draws = [bootstrap_draws(mean_statistic(data), 40, 100, seed) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_standard_error_of_a_mean():
    data = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).double()
    data[:, 1] *= 3
    se = standard_error(bootstrap_draws(mean_statistic(data), 400, 4000, 0))
    analytic = data.std(0, correction=0) / math.sqrt(400)
    torch.testing.assert_close(se, analytic, rtol=0.05, atol=0)


def test_interval_covers_the_truth():
    generator = torch.Generator().manual_seed(1)
    truth = torch.tensor([0.7, 0.45, 0.25])  # the third: difference of the first two, correlated
    covered = torch.zeros(3)
    repeats = 300
    for repeat in range(repeats):
        easy = torch.rand(200, generator=generator)
        data = torch.stack([easy < 0.7, easy < 0.45], 1).double()
        draws = bootstrap_draws(mean_statistic(data), 200, 300, seed=repeat)
        draws = torch.cat([draws, draws[:, :1] - draws[:, 1:]], 1)
        low, high = percentile_interval(draws, 0.95)
        covered += (low <= truth + 1e-9) & (truth - 1e-9 <= high)
    assert ((covered / repeats > 0.91) & (covered / repeats < 0.985)).all(), covered / repeats


def test_f1_draws_against_resampled_data():
    generator = torch.Generator().manual_seed(2)
    label = torch.randint(4, (30,), generator=generator)
    prediction = torch.randint(4, (30, 2), generator=generator)
    counts = next(resample_counts(30, 20, seed=5))
    drawn = f1_statistic(prediction, label, 5)(counts)
    for r in range(20):
        rows = torch.repeat_interleave(torch.arange(30), counts[r].long())
        for s in range(2):
            expected = f1_score(label[rows], prediction[rows, s], average="macro")
            assert drawn[r, s].item() == pytest.approx(expected, abs=1e-12)


def test_percentiles_against_torch():
    draws = torch.randn(101, 3, 2).double()
    low, high = percentile_interval(draws, 0.9)
    torch.testing.assert_close(low, draws.quantile(0.05, dim=0))
    torch.testing.assert_close(high, draws.quantile(0.95, dim=0))
    draws[::3, 0, 0] = math.nan
    draws[:, 1, 1] = math.nan
    low, _ = percentile_interval(draws, 0.9)
    torch.testing.assert_close(low, draws.nanquantile(0.05, dim=0), equal_nan=True)
    assert math.isnan(low[1, 1].item())


@pytest.mark.parametrize("coalitions", [7, 63])
def test_fast(coalitions):
    data = torch.rand(2000, coalitions) < 0.7
    times = []
    for _repeat in range(3):
        start = time.perf_counter()
        bootstrap_draws(mean_statistic(data), 2000, 1000, 0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3  # the best of three: other processes share the machine


def test_refuses():
    data = mean_statistic(torch.rand(4, 1))
    for draws in (1, 0, 10.0, True):
        with pytest.raises(MmeqError, match="draws"):
            bootstrap_draws(data, 4, draws, 0)
    with pytest.raises(MmeqError, match="at least one sample"):
        bootstrap_draws(data, 0, 10, 0)
    for level in (0.0, 1.0, 95):
        with pytest.raises(MmeqError, match="level"):
            percentile_interval(torch.rand(10, 1), level)


def test_kept_counts_are_the_drawn_ones(monkeypatch):
    kept = [torch.cat(list(bootstrap.resample_counts(700, 90, 3))) for _ in range(2)]
    monkeypatch.setattr(bootstrap, "KEPT", 0)
    streamed = torch.cat(list(bootstrap.resample_counts(700, 90, 3)))
    assert all(torch.equal(streamed, each) for each in kept)
    assert streamed.dtype == torch.float64
    assert streamed.sum(1).eq(700).all()
