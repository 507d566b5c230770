"""A run of a fixed seed loses what it lost before the engine was made faster.

Every method, fusion and kind of step, with and without gaps, over epochs that feed each other.
Another order of the same additions moves a loss by 1e-7 of it, and training carries that on.
"""

import json

import pytest
from e2e.equal import numbers
from e2e.losses import RECORD, cases, losses

CLOSE = 1e-5


def test_losses_stay():
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    trees = cases()
    assert trees.keys() == recorded.keys()
    wrong = {}
    for name, tree in trees.items():
        now, then = list(numbers(losses(tree))), list(numbers(recorded[name]))
        assert len(now) == len(then)
        if now != pytest.approx(then, rel=CLOSE, abs=CLOSE, nan_ok=True):
            wrong[name] = max(abs(a - b) for a, b in zip(now, then, strict=True))
    assert not wrong
