"""Why order matters: the measurement is exact where the answer is known."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "experiments" / "order"
SMALL = [
    *("dataset=synthetic", "dataset.samples=200", "backbone.dim=8", "batch_size=32"),
    "backbone.encoders.vector.hidden=8",
]


@pytest.fixture(scope="module")
def why():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        yield importlib.import_module("why")


@pytest.fixture(scope="module")
def fits(why):
    """Loss → the runs from weak to strong, again, and from strong to weak."""
    trees = {loss: why.tree_of([*SMALL, f"method.supervise={loss}"]) for loss in why.LOSSES[:2]}
    orders = [(1, 0, 2), (1, 0, 2), (2, 0, 1)]
    return {loss: [why.Fit(tree, order) for order in orders] for loss, tree in trees.items()}


def test_the_same_order_gives_the_same_encoders_and_another_does_not(why, fits):
    for one, again, other in fits.values():
        assert one.order == one.method.order == (1, 0, 2)
        for epoch in why.AT:
            for m in range(3):
                assert why.apart(one, again, epoch, m) == 0
                assert why.apart(one, other, epoch, m) > 0.01
                assert torch.equal(one.encoder(one.start, m), other.encoder(other.start, m))


def test_a_gradient_is_that_of_the_loss_at_the_place(why, fits):
    one = fits["sequential"][0]
    state = one.states[1]
    first = one.gradient(state, 1, 0)
    assert torch.equal(first, one.gradient(state, 1, 0))
    # by hand: the coalition of modality 1 alone, whose answer no order changes
    one.module.load_state_dict(state, strict=False)
    one.module.train()
    torch.manual_seed(0)
    features = one.module.encode(one.batch)
    alone_SM = torch.tensor([[False, True, False]])
    logits_SBC = one.module.fuse(features, alone_SM, ((0, 1, 2),))
    loss = torch.nn.functional.cross_entropy(logits_SBC[0], one.batch["label"])
    one.module.zero_grad()
    loss.backward()
    by_hand = torch.cat([p.grad.flatten() for p in one.module.encoder(1).parameters()])
    torch.testing.assert_close(first.float(), by_hand)
    assert not torch.equal(first, one.gradient(state, 1, 2))


def test_the_weakest_is_what_validation_values_least(why):
    options = [*SMALL, "dataset.snr=[0.1,6,1.5]", "dataset.unique=[0,0.9,0.3]"]
    options += ["optim.optimizer.lr=0.01"]
    assert why.ascending(options)[-1] == 1


def test_what_is_measured_stands_in_the_table(why):
    found = why.measured([*SMALL, "method.supervise=sequential"], (1, 0, 2))
    assert list(found) == ["1", "5"]
    assert set(found["5"]) == set(why.PLACES)
    for place in found["5"].values():
        assert place["apart"] > 0
        assert place["dropout"] > 0
        assert -1 <= place["cosine"] < 1
        assert place["length"] > 0
    lines = [
        {"data": "small", "loss": loss, "seed": 0, "split": 0, "found": found}
        for loss in why.LOSSES
    ]
    told = why.text(lines)
    cell = f"{found['5']['weakest']['cosine']:.2f}".replace("-", "−")
    assert "| small | sequential | " in told
    assert cell in told
    assert "Means over 1 runs" in told
