"""What a driver says of a folder that another driver works in too."""

from __future__ import annotations

import fcntl

import pytest

from mmeq.sweeps import summary
from mmeq.sweeps.state import LOCK, Job


@pytest.fixture
def sweep(tmp_path):
    """Two jobs: one finished, one that was running when its note was written."""
    for number, state in enumerate(("finished", "running")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / LOCK).touch()
        Job(number, (f"seed={number}",), state, folder=folder).save()
    return tmp_path


def test_a_job_that_nobody_is_at_was_broken_off(sweep, capsys):
    assert summary.summarise(sweep) == 2
    said = capsys.readouterr()
    assert "1 of 2 jobs were broken off" in said.err
    assert f"hydra.sweep.dir={sweep}" in said.err


def test_a_job_that_another_process_is_at_is_its(sweep, capsys):
    with (sweep / "1" / LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert summary.summarise(sweep) == 0
    said = capsys.readouterr()
    assert "1 of 2 jobs are run by another process" in said.out
    assert "broken off" not in said.err


@pytest.mark.parametrize(("state", "status"), [("finished", 0), ("pruned", 0), ("stopped", 2)])
def test_a_job_that_ends_while_the_summary_is_made(sweep, capsys, monkeypatch, state, status):
    """Seen with two drivers in one folder: the note says running, then the lock is free."""
    asked = summary.busy

    def ended(job: Job) -> bool:
        job.ended(state, None, 1.0)
        return asked(job)

    monkeypatch.setattr(summary, "busy", ended)
    assert summary.summarise(sweep) == status
    assert ("broken off" in capsys.readouterr().err) == bool(status)
