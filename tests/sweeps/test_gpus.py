"""GPUs handed out: how many, which, and to one job at a time unless asked otherwise."""

import contextlib
import os

import pytest

from mmeq.errors import MmeqError
from mmeq.sweeps import gpus

ONE = {"accelerator": "gpu", "devices": 1}


@pytest.fixture
def four(monkeypatch, tmp_path):
    """A machine whose ``nvidia-smi`` lists four GPUs."""
    tool = tmp_path / "nvidia-smi"
    lines = "\n".join(f"echo '{index}, GPU-{name}'" for index, name in enumerate("abcd"))
    tool.write_text(f"#!/bin/sh\n{lines}\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "EVERY", 0.01)


def taken(held, trainer, sharing=1, looks=1):
    """What a job is shown; None when it still waits after so many looks."""
    left = [True] * looks

    def stopped():
        return not left or not left.pop()

    shown = held.enter_context(gpus.lent(trainer, sharing, stopped))
    return shown.get("CUDA_VISIBLE_DEVICES") or None


def test_each_job_gets_its_own(four):
    with contextlib.ExitStack() as held:
        shown = [taken(held, ONE) for _ in range(4)]
        assert shown == ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
        assert taken(held, ONE) is None
    with contextlib.ExitStack() as held:  # given back
        assert taken(held, {**ONE, "devices": 3}) == "GPU-a,GPU-b,GPU-c"
        assert taken(held, {**ONE, "devices": 2}) is None
        assert taken(held, {**ONE, "devices": "1"}) == "GPU-d"


def test_all_of_them_wait_until_none_is_in_use(four):
    for devices in (-1, "auto"):
        with contextlib.ExitStack() as held:
            with contextlib.ExitStack() as first:
                assert taken(first, ONE) == "GPU-a"
                assert taken(held, {**ONE, "devices": devices}) is None
            assert taken(held, {**ONE, "devices": devices}) == "GPU-a,GPU-b,GPU-c,GPU-d"


def test_asked_to_jobs_share(four):
    with contextlib.ExitStack() as held:
        shown = [taken(held, ONE, sharing=2) for _ in range(8)]
        assert sorted(shown) == sorted(2 * ["GPU-a", "GPU-b", "GPU-c", "GPU-d"])
        assert shown[:4] == ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]  # the emptiest first
        assert taken(held, ONE, sharing=2) is None
    with contextlib.ExitStack() as held:  # who shares never joins who did not ask to
        assert taken(held, ONE) == "GPU-a"
        assert taken(held, ONE, sharing=2) == "GPU-b"
        assert taken(held, ONE) == "GPU-c"


def test_named_ones_and_what_the_environment_leaves(four, monkeypatch):
    with contextlib.ExitStack() as held:
        listed = {**ONE, "devices": [1, 2]}
        assert taken(held, listed) is None  # by index: nothing to show
        assert taken(held, {**ONE, "devices": 2}) == "GPU-a,GPU-d"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2")
        assert taken(held, ONE) is None
    with contextlib.ExitStack() as held:
        assert taken(held, ONE) == "3"
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert taken(held, {**ONE, "devices": 3}) == "GPU-a,GPU-b,GPU-c"  # 3 is GPU-d


def test_what_takes_no_gpu_waits_for_none(four, monkeypatch):
    with contextlib.ExitStack() as held:
        assert taken(held, {**ONE, "devices": 4}) is not None
        assert taken(held, {"accelerator": "cpu", "devices": 2}) is None
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert taken(held, {"accelerator": "auto", "devices": 1}) is None


def test_more_than_there_are(four):
    for devices in (5, [0, 4]):
        with (
            pytest.raises(MmeqError, match="this machine shows 4 GPUs"),
            gpus.lent({**ONE, "devices": devices}, 1, lambda: True),
        ):
            pass


def test_a_machine_without(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []
