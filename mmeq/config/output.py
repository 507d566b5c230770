"""Standard output that may lose its reader: what nobody reads any more is dropped."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


class Droppable(io.FileIO):
    """A descriptor to write to; once its pipe or terminal is gone, writing does nothing."""

    def write(self, data: Any, /) -> Any:  # noqa: ANN401 - any buffer; None: it would block
        """Write, and never again when the reader has left."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for what writes past Python too
            os.close(nowhere)
            return len(memoryview(data).cast("B"))


def outlive_readers() -> None:
    """Let the run go on when ``… | head`` ends or a terminal is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _outliving(stream))


def _outliving(stream: TextIO) -> TextIO:
    stream.flush()
    raw = Droppable(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=raw.isatty() or stream is sys.__stderr__,
    )
