from __future__ import annotations

import pickle

import pytest
import torch
from e2e.faulty import Process
from torch.utils._python_dispatch import TorchDispatchMode

from mmeq.errors import MmeqError
from mmeq.game import CoalitionAccuracy, CoalitionGame, measure_game, sample_scores
from tests.game.helpers import FREQUENCIES, LAYOUTS, NAMES, play, synthetic, tensors

EVERYTHING = torch.arange(90)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, entry in one.items():
        assert torch.allclose(entry, other[name], rtol=0, atol=0, equal_nan=True), name


@pytest.mark.parametrize("value", ["accuracy", "nll", "macro_f1"])
def test_equals_the_functional_core(value):
    logits, label = synthetic()
    core = measure_game(
        NAMES, *sample_scores(logits, label), label, FREQUENCIES, value=value, draws=60
    )
    assert_same(tensors(core), tensors(play(value, [EVERYTHING])))


def test_batches_order_and_repeats_do_not_matter():
    whole = tensors(play("nll", [EVERYTHING]))
    shuffled = EVERYTHING[torch.randperm(90)]
    assert_same(whole, tensors(play("nll", [*shuffled.split(7), shuffled[:13]])))


def test_two_processes_equal_one(warm, tmp_path):
    """With uneven samples, a repeated sample, and a process without any."""
    store = tmp_path / "store"
    ranks = [
        Process(
            warm,
            str(rank),
            str(store),
            module="tests.game.helpers",
            cwd=tmp_path,
            GLOO_SOCKET_IFNAME="lo",
        )
        for rank in range(2)
    ]
    with ranks[0], ranks[1]:
        for rank in ranks:
            assert rank.status() == 0, rank.text()
    for value in ("accuracy", "nll"):
        alone = tensors(play(value, [EVERYTHING]))
        for layout in LAYOUTS:
            for rank in range(2):
                assert_same(alone, torch.load(f"{store}.{layout}.{value}.{rank}"))


class NoWaiting(TorchDispatchMode):
    """Fails on operations that make the host wait for a device."""

    WAITS = (
        *("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select"),
        *("bincount", "item", "_assert_async", "repeat_interleave"),
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert not any(name.startswith(wait) for wait in self.WAITS), name
        assert "device" not in (kwargs or {}) or kwargs["device"] is None, f"{name} moves data"
        return func(*args, **(kwargs or {}))


def test_update_does_not_wait_for_the_device():
    logits, label = synthetic()
    game = CoalitionGame(NAMES, FREQUENCIES, draws=10)
    shell = CoalitionAccuracy(7)
    with NoWaiting():
        for start in (0, 45):
            part = slice(start, start + 45)
            game.update(logits[:, part], label[part], EVERYTHING[part])
            shell.update(logits[:, part], label[part])
    assert game.compute().samples == 90
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWaiting():
        label.sum().item()


def test_runs_on_without_a_graph_and_without_a_device():
    """Meta tensors hold no data: an update that looked at a number would fail on them."""
    logits, label = synthetic()
    game = CoalitionGame(NAMES, FREQUENCIES, draws=10).to("meta")
    game.update(logits.to("meta"), label.to("meta"), EVERYTHING.to("meta"))
    live = CoalitionGame(NAMES, FREQUENCIES, draws=10)
    live.update(logits.requires_grad_(), label, EVERYTHING)
    assert not live.nll[-1].requires_grad


def test_reset_pickle_and_cache():
    logits, label = synthetic()
    game = CoalitionGame(NAMES, FREQUENCIES, draws=10)
    game.update(logits[:, :10], label[:10], EVERYTHING[:10])
    first = game.compute()
    assert game.compute() is first
    again = pickle.loads(pickle.dumps(game)).compute()
    assert_same(tensors(first), tensors(again))
    game.reset()
    with pytest.raises(MmeqError, match="at least one"), pytest.warns(UserWarning, match="before"):
        game.compute()
    game.update(logits, label, EVERYTHING)
    assert game.compute().samples == 90
    assert game.state_dict() == {}


def test_many_classes():
    frequencies = torch.ones(300)
    game = CoalitionGame(["a"], frequencies, draws=10)
    logits = torch.zeros(1, 2, 300)
    logits[0, 0, 299] = 5
    game.update(logits, torch.tensor([299, 7]), torch.tensor([0, 1]))
    assert game.compute().values["accuracy"][1].item() == 0.5


def test_bad_data_is_named_by_compute():
    logits, label = synthetic()
    for wrong, match in ((-1, "label -1"), (4, "label 4")):
        game = CoalitionGame(NAMES, FREQUENCIES, draws=10)
        game.update(logits, torch.where(EVERYTHING == 5, wrong, label), EVERYTHING)
        with pytest.raises(MmeqError, match=match):
            game.compute()
    broken = logits.clone()
    broken[6, 2, 0] = torch.nan
    game = CoalitionGame(NAMES, FREQUENCIES, draws=10)
    game.update(broken, label, EVERYTHING)
    with pytest.raises(MmeqError, match=r"1 of 90 samples .* a\+b\+c"):
        game.compute()


def test_refuses():
    logits, label = synthetic()
    with pytest.raises(MmeqError, match="between 1 and 12"):
        CoalitionGame([f"m{i}" for i in range(13)], FREQUENCIES)
    with pytest.raises(MmeqError, match="unknown value"):
        CoalitionGame(NAMES, FREQUENCIES, value="auc")
    with pytest.raises(MmeqError, match="draws"):
        CoalitionGame(NAMES, FREQUENCIES, draws=0)
    game = CoalitionGame(NAMES, FREQUENCIES)
    with pytest.raises(MmeqError, match="expected logits"):
        game.update(logits[:6], label, EVERYTHING)
    with pytest.raises(MmeqError, match="expected logits"):
        game.update(logits, label, EVERYTHING[:3])
    with pytest.raises(MmeqError, match="expected logits"):
        game.update(logits[..., :3], label, EVERYTHING)
    with pytest.raises(MmeqError, match="at least 1"):
        CoalitionAccuracy(0)
    with pytest.raises(MmeqError, match="expected logits"):
        CoalitionAccuracy(3).update(logits, label)


def test_coalition_accuracy():
    logits, label = synthetic()
    shell = CoalitionAccuracy(7)
    for part in EVERYTHING.split(40):
        shell.update(logits[:, part], label[part])
    torch.testing.assert_close(shell.compute(), (logits.argmax(-1) == label).float().mean(1))
    shell.reset()
    assert shell.hits.sum() == 0
