"""A dead data worker is known by whatever the main process has made of it."""

from __future__ import annotations

import pytest

from mmeq.config.faults import LOADER, interrupted, worker_lost

KILLED = "DataLoader worker (pid 31) is killed by signal: Killed. "


def raised(code: str, **names: object) -> BaseException:
    """What code raises."""
    try:
        exec(code, {"__name__": "somewhere", **names})
    except Exception as error:
        return error
    raise AssertionError(f"{code!r} raised nothing")


def test_as_torch_says_it():
    assert worker_lost(RuntimeError(KILLED)) == "is killed by signal: Killed"
    assert worker_lost(RuntimeError("DataLoader worker (pid(s) 3, 4) exited unexpectedly")) == (
        "exited unexpectedly"
    )


@pytest.mark.parametrize("how", ["raise TypeError('odd') from error", "{}['key']"])
def test_as_the_line_that_it_met_turned_it(how):
    code = f"try:\n    raise RuntimeError({KILLED!r})\nexcept RuntimeError as error:\n    {how}"
    error = raised(code)
    assert not isinstance(error, RuntimeError)
    assert worker_lost(error) == "is killed by signal: Killed"
    assert interrupted(error)


@pytest.mark.parametrize("kind", ["ConnectionResetError", "ConnectionRefusedError", "EOFError"])
def test_as_a_broken_connection_inside_the_loader_alone(kind):
    assert worker_lost(raised(f"raise {kind}", __name__=LOADER)) == "its connection is closed"
    assert worker_lost(raised(f"raise {kind}")) is None


def test_other_errors_are_left_alone():
    assert worker_lost(ValueError("a mistake of ours")) is None
    assert not interrupted(TypeError("a mistake of ours"))
