"""Worker processes that decode clips and write shards; one that dies costs its own clip alone."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeq.data.media.locks import Inherited
from mmeq.data.media.worker import MISSING, TICK, UNREADABLE, Task, work
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    from mmeq.data.media.formats import Format

CHUNK = 16
"""Most clips that a worker is given at once."""
BARREN = 3
"""So many workers may die without a clip in their hands before no new one is started."""


@dataclass
class Outcome:
    """How the work ended.

    Attributes:
        deaths: a sentence for each worker that died.
        failure: why nothing more can be written, or None.
    """

    deaths: list[str] = field(default_factory=list)
    failure: str | None = None


class _Worker:
    """The parent's side of a worker.

    Attributes:
        open: clips that it was given and has not written, in their order.
        current: the clip that it is at.
    """

    def __init__(self, root: Path, formats: Sequence[Format], locks: list[Inherited]) -> None:
        context = get_context("spawn")
        self.channel, other = context.Pipe()
        arguments = (other, locks, os.getpid())
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.open: dict[int, None] = {}
        self.current: int | None = None
        self.tell((root, list(formats)))

    def tell(self, message: Any) -> None:  # noqa: ANN401 - what can be pickled
        """Send; that it is gone will be seen by reading."""
        try:
            self.channel.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return

    def end(self) -> int:
        """Wait for its end, which is near, and return its exit code."""
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.channel.close()
        return self.process.exitcode or 0


def decode_all(
    tasks: Sequence[Task],
    root: Path,
    formats: Sequence[Format],
    workers: int,
    locks: list[Inherited],
    on_done: Callable[[int, str, str], None],
    on_tick: Callable[[], bool],
) -> Outcome:
    """Decode clips in worker processes, each of which writes its own shards.

    Args:
        tasks: the clips.
        root: of the prepared formats, whose folders exist.
        formats: by their number in the tasks.
        workers: processes.
        locks: that the workers hold too.
        on_done: takes number, status and reason of each decoded clip (twice, if it has to be
            decoded again).
        on_tick: called often; when it returns False the workers write what they have and end.

    Raises:
        MmeqError: the system starts no more processes.
    """
    queue = deque(range(len(tasks)))
    outcome, barren, going = Outcome(), 0, True
    crew: list[_Worker] = []

    def hire(count: int) -> None:
        for _ in range(min(count, len(queue))):
            try:
                crew.append(_Worker(root, formats, locks))
            except OSError as error:
                raise MmeqError(
                    f"worker {len(crew) + 1} cannot be started ({error.strerror}): give fewer by "
                    "prepare.workers=…"
                ) from error

    def dismiss() -> None:
        nonlocal going
        if going:
            going = False
            queue.clear()
            for worker in crew:
                worker.tell(None)

    def give(worker: _Worker) -> None:
        size = max(1, min(CHUNK, len(queue) // (4 * workers)))
        chunk = [queue.popleft() for _ in range(min(size, len(queue)))] if going else []
        worker.open.update(dict.fromkeys(chunk))
        worker.tell([(number, tasks[number]) for number in chunk] or None)

    def bury(worker: _Worker) -> None:
        nonlocal barren
        code = worker.end()
        crew.remove(worker)
        victim, how = worker.current, _how(code)
        barren += victim is None
        at = "" if victim is None else f" at {tasks[victim].clip.name}"
        outcome.deaths.append(f"a worker {how}{at}")
        if victim is not None:
            on_done(victim, UNREADABLE, f"the process that decoded it {how}")
        if going:
            queue.extendleft(n for n in reversed(worker.open) if n != victim)
            if barren < BARREN:
                hire(1)

    try:
        hire(workers)
        while crew:
            found = wait([worker.channel for worker in crew], TICK)
            for worker in [one for one in crew if one.channel in found]:
                try:
                    kind, what = worker.channel.recv()
                except (EOFError, OSError):
                    bury(worker)
                    continue
                if kind == "want":
                    give(worker)
                elif kind == "begin":
                    worker.current = what
                elif kind == "did":
                    worker.current = None
                    on_done(*what)
                    if what[1] in (MISSING, UNREADABLE):
                        worker.open.pop(what[0])
                elif kind == "kept":
                    for number in what:
                        worker.open.pop(number)
                elif kind == "failed":
                    outcome.failure = outcome.failure or what
                    dismiss()
                elif kind == "end":
                    worker.end()
                    crew.remove(worker)
            if not on_tick():
                dismiss()
    finally:
        for worker in crew:
            worker.process.kill()
            worker.end()
    return outcome


def _how(code: int) -> str:
    if code >= 0:
        return f"ended by itself with status {code}"
    name = signal.Signals(-code).name
    memory = " (was memory short? fewer prepare.workers need less)" if name == "SIGKILL" else ""
    return f"was ended by {name}{memory}"
