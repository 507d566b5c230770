"""Peak memory: what is taken and given back between start and read is in the peak."""

import numpy as np
import pytest
import torch

from mmeq.callbacks import memory
from mmeq.callbacks.memory import PeakMemory

MIB = 2**20
linux = memory.RESET.exists()


def test_nothing_is_told_before_the_start():
    assert PeakMemory().read() is None


def test_a_peak_that_is_over_is_told_and_an_earlier_one_is_not():
    held = np.ones(300 * MIB, dtype=np.uint8)
    del held
    meter = PeakMemory()
    meter.start(torch.device("cpu"))
    held = np.ones(100 * MIB, dtype=np.uint8)
    del held
    found = meter.read()
    if not linux:
        assert found is None
        return
    assert found["kind"] == "rss"
    assert found["peak_mb"] == pytest.approx(100, abs=30)


def test_where_the_system_tells_nothing_none_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "RESET", tmp_path / "missing" / "clear_refs")
    meter = PeakMemory()
    meter.start(torch.device("cpu"))
    assert meter.read() is None
