"""Two and three ranks learn what one process learns from the same global batches.

Every method, fusion and kind of step, over three epochs, so that what an epoch teaches (orders,
coefficients, prototypes, weights of losses) feeds the next. The last batches are uneven; batches
lack classes and, with gaps, all that a rank could have of a modality.
"""

import pytest
from e2e.equal import CASES, METHODS, compared, composed, held, largest, run
from e2e.running import difference

from mmeq.config import groups

NAMES = list(CASES)
MILD = {"mmcosine": ["method.scale=1"]}
"""Its factor of 15 before a softmax makes rounding larger too: gradients differ by 3e-5 on one
processor and 3e-4 on another, without the factor by 1e-6."""
PARTS = 4
"""Tests that the cases are shared out to."""


def test_every_method_is_compared():
    assert set(METHODS) == set(groups()["method"])


@pytest.mark.parametrize("part", range(PARTS))
def test_ranks_equal_one_process(part, warm, tmp_path):
    names = NAMES[part::PARTS]
    trees = composed({name: [*CASES[name], *MILD.get(name, ())] for name in names})
    methods = {name: tree for name, tree in trees.items() if name in (*METHODS, "memory")}
    wrong = []
    for ranks, gaps, chosen in ((2, True, trees), (3, False, methods)):
        one, many = tmp_path / f"one-{ranks}", tmp_path / f"many-{ranks}"
        run(warm, one, chosen, 1, gaps=gaps)
        run(warm, many, chosen, ranks, gaps=gaps)
        for name in chosen:
            [alone], each = held(one, name, 1), held(many, name, ranks)
            found = compared(each[0], alone, ranks)
            if not largest(found) < 2e-4:
                wrong.append((name, ranks, found))
            # the same on all ranks, to the last bit
            for key in ("weights", "gradients"):
                assert all(difference(each[0][key], x[key], name) is None for x in each)
            assert [sum(sizes) for sizes in zip(*(x["sizes"] for x in each), strict=True)] == (
                alone["sizes"]
            )
            assert len({x["sizes"][-1] for x in each}) == 2
            assert all(x["lacking"]["class"] for x in each)
            assert any(x["lacking"]["modality"] for x in each) == gaps
    assert not wrong
