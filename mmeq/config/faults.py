"""What went wrong around a run, in plain words, and how to go on."""

from __future__ import annotations

import errno
import re
import time
import traceback
from pathlib import Path
from typing import Any

from mmeq.config import ranks
from mmeq.errors import MmeqError
from mmeq.files import NotWritten, os_error

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a system says that cannot take what is written."""

WORKER = r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (?P<how>.*)"
LOADER = "torch.utils.data.dataloader"
PEER = r"gloo|NCCL|[Cc]onnection (closed|reset)|Broken pipe|heartbeat"
"""How a collective fails when another rank is gone."""


def explained(error: Exception, trainer: Any, run_dir: Path) -> MmeqError | None:  # noqa: ANN401
    """Return what to tell the user about an error that is no mistake of mmeq; None for others.

    Args:
        error: that ended the run.
        trainer: a lightning.Trainer.
        run_dir: the run folder.
    """
    go_on = f"go on by resume={run_dir}"
    if isinstance(error, MmeqError):
        return None
    refusal = os_error(error)
    if refusal is not None and (isinstance(refusal, NotWritten) or refusal.errno in REFUSED):
        named = refusal if isinstance(refusal, NotWritten) else _named(refusal)
        return MmeqError(f"{named}: earlier files are whole; once it can, {go_on}")
    if (how := worker_lost(error)) is not None:
        return MmeqError(
            f"a process that loads data has died ({how}); where memory is short, fewer workers= "
            f"take less: {go_on}"
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        first = str(error).strip().splitlines()[0]
        return MmeqError(f"compile=true: {first}; {go_on} compile=false")
    if trainer.world_size > 1 and gone(error):
        return MmeqError(f"{_who(trainer)}, so this one cannot go on: {go_on}")
    return None


def gone(error: Exception) -> bool:
    """Say whether a collective failed because another rank is gone."""
    from torch.distributed import DistError

    return isinstance(error, RuntimeError) and (
        isinstance(error, DistError) or re.search(PEER, str(error)) is not None
    )


def worker_lost(error: BaseException) -> str | None:
    """Say how a data worker has ended, when that is what the error comes of; None otherwise.

    torch raises it from a signal handler, at any line of the main process: what that line belongs
    to may have turned it into an error of its own. Before the signal arrives, a batch may be asked
    for of the dead process: then the connection to it fails inside the loader.
    """
    seen: BaseException | None = error
    while seen is not None:
        if found := re.search(WORKER, str(seen)):
            return found["how"].split(". ")[0].rstrip(".")
        if isinstance(seen, ConnectionError | EOFError) and _in_loader(seen):
            return "its connection is closed"
        seen = seen.__cause__ or seen.__context__
    return None


def interrupted(error: Exception) -> bool:
    """Say whether the error may come of a signal that other processes of the run have had first."""
    return (isinstance(error, RuntimeError) and gone(error)) or worker_lost(error) is not None


def _in_loader(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(f.f_globals.get("__name__") == LOADER for f, _ in frames)


def _named(error: OSError) -> str:
    place = f"{error.filename} " if error.filename else "a file "
    return f"{place}cannot be written ({error.strerror or error})"


def _who(trainer: Any) -> str:  # noqa: ANN401 - a lightning.Trainer
    until = time.monotonic() + 1.0
    while (dead := ranks.fallen(trainer)) is None and time.monotonic() < until:
        if not ranks.started(trainer):
            break
        time.sleep(0.05)
    return dead or "another rank of the run has ended"
