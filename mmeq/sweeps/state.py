"""What has become of the jobs of a sweep, by their folders."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmeq.files import write_json

NOTE, LOCK = "job.json", ".lock"
"""In a job's folder: what a sweep notes of it, and what the process at it holds."""

STATES = ("finished", "pruned", "failed", "stopped", "running")
UNFINISHED = STATES[-2:]


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        number: that Hydra gave it.
        overrides: of the command line, with the sweep's values.
        state: ``finished``, ``pruned`` (ended by the search, see `reason`), ``failed``,
            ``stopped`` (it goes on when the sweep is started again) or ``running``.
        reason: why it failed, was pruned or stopped.
        seconds: that its process took, all attempts together.
        since: when it was last begun, in seconds since 1970.
        monitor: what its epoch was chosen by, such as ``val/accuracy``.
        value: of that metric.
        edm: on validation, in the chosen epoch.
        folder: of its run; not part of the note.
    """

    number: int
    overrides: tuple[str, ...]
    state: str = "running"
    reason: str | None = None
    seconds: float = 0.0
    since: float = 0.0
    monitor: str | None = None
    value: float | None = None
    edm: float | None = None
    folder: Path = Path()

    def save(self) -> Job:
        """Write the note into the folder, at once as a whole."""
        note = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_json(self.folder / NOTE, note)
        return self

    def begun(self) -> Job:
        """Return the job as it is once its process has been started."""
        return replace(self, state="running", reason=None, since=time.time()).save()

    def ended(self, state: str, reason: str | None, seconds: float) -> Job:
        """Return the job as it is once its process has ended."""
        seconds += self.seconds
        ended = replace(self, state=state, reason=reason, seconds=seconds, **measured(self.folder))
        return ended.save()


def load(folder: Path) -> Job | None:
    """Return the job whose run lies in a folder; None when no sweep has noted one."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Job(**{**note, "overrides": tuple(note["overrides"]), "folder": folder})


def jobs(sweep: Path) -> list[Job]:
    """Return the jobs in a sweep's folder, in their order."""
    found = [load(path.parent) for path in sweep.rglob(NOTE)]
    return sorted(filter(None, found), key=lambda job: (job.number, str(job.folder)))


def busy(job: Job) -> bool:
    """Say whether a process is at a job."""
    with contextlib.suppress(FileNotFoundError), (job.folder / LOCK).open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def broken_off(job: Job) -> bool:
    """Say whether a job that no process is at any more has not come to its end.

    Its note is read anew: another process may have ended it since, and frees the lock after it has
    written the note.
    """
    now = load(job.folder)
    return now is None or now.state in UNFINISHED


def measured(folder: Path) -> dict[str, Any]:
    """Return the validation figures of a finished run; empty for a run that is not."""
    path = folder / "results.json"
    if not path.is_file():
        return {}
    results = json.loads(path.read_text(encoding="utf-8"))
    monitor = results.get("monitor") or {}
    edm = (results.get("validation") or {}).get("edm") or {}
    return {
        "monitor": monitor.get("name"),
        "value": monitor.get("value"),
        "edm": edm.get("value"),
    }
