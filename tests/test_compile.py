"""``compile=true`` learns what the plain run learns."""

import pytest
import torch
from e2e.equal import BASE, BATCH, composed, numbers
from e2e.losses import losses

from mmeq.config import build, compiling
from mmeq.errors import MmeqError

SHORT = ["dataset.sources=2", "dataset.snr=[4,2]", "dataset.train_size=36"]
CASES = {
    "memory": [
        *SHORT,
        "fusion=memory",
        "fusion.align=feature",
        "optim.clip_norm=0.5",
        "trainer.max_epochs=2",
    ],
    "gated, joint, gaps": [*SHORT, "method=joint", "fusion=gated", "missing={m0:0.5}"],
}
"""Few shapes: each is compiled by itself."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_compiled_losses_equal_plain_ones(name, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool takes seconds to start
    [tree] = composed({name: CASES[name]}, (*BASE, f"batch_size={BATCH}")).values()
    plain = list(numbers(losses(tree)))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = list(numbers(losses(tree, compiling.compile_parts)))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 2 <= graphs <= 14
    assert not torch._dynamo.utils.counters["graph_break"]
    assert compiled == pytest.approx(plain, rel=1e-4, abs=1e-5, nan_ok=True)


def test_no_compiler_is_told_before_anything_is_built(tmp_path, monkeypatch):
    [tree] = composed({"one": ["compile=true"]}).values()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MmeqError, match="compile=true: there is no C\\+\\+ compiler 'no-such"):
        build(tree, tmp_path)
