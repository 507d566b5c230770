"""A real, if small, format and dataset for tests of preparation; imports no torch, starts fast.

A file's first bytes say what it is: ``mute`` has no track, ``bad`` cannot be opened, ``late``
breaks while it is decoded, ``odd`` makes the decoder fail in a way that nobody foresaw, ``crash``
kills the process, ``touch`` changes while it is read; all else is content.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from mmeq.data.media import writing
from mmeq.data.media.clip import Absent, Blob, Broken, Clip
from mmeq.data.media.preparing import prepare, read_part

writing.ENTRIES = int(os.environ.get("TOY_ENTRIES", writing.ENTRIES))  # in workers too


@dataclass(frozen=True)
class Bytes:
    """Keeps a file's bytes, plus a number each; `slow` seconds a clip."""

    plus: int = 0
    slow: float = 0.0
    kind: ClassVar[str] = "audio"

    def stored(self):
        return {"format": "bytes", "plus": self.plus}

    def probe(self, clip):
        data = clip.path.read_bytes()
        if data.startswith(b"mute"):
            raise Absent("no audio track")
        if data.startswith(b"bad"):
            raise Broken("no header")
        return float(len(data))

    def read(self, clip):
        if self.slow:
            (clip.path.parent / "reading").touch()  # tells a test that it has begun
        time.sleep(self.slow)
        data = clip.path.read_bytes()
        if data.startswith(b"late"):
            raise Broken("bad at its end")
        if data.startswith(b"odd"):
            raise ZeroDivisionError("float division by zero")
        if data.startswith(b"crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        if data.startswith(b"touch"):
            os.utime(clip.path, ns=(1, 1))
        start, end = int(clip.start or 0), len(data) if clip.end is None else int(clip.end)
        values = np.frombuffer(data, np.uint8)[start:end] + np.uint8(self.plus)
        return Blob(values, (len(values), 1))


class Scenes(Bytes):
    """The same as another kind."""

    kind: ClassVar[str] = "video"


@dataclass
class Toy:
    """All files of a folder, as one modality or more."""

    root: Path
    formats: dict[str, Any] = field(default_factory=lambda: {"sound": Bytes()})
    spans: tuple[tuple[float | None, float | None], ...] = ((None, None),)
    extra: tuple[str, ...] = ()
    prepared_in: Path | None = None
    name: ClassVar[str] = "toy"

    @property
    def modalities(self):
        return tuple(self.formats)

    @property
    def prepared(self):
        return self.prepared_in or self.root / "mmeq-prepared"

    def clips(self):
        names = sorted(path.name for path in self.root.glob("*.bin"))
        return [
            Clip(self.root / name, name, start, end)
            for name in [*names, *self.extra]
            for start, end in self.spans
        ]

    def listing(self):
        clips = [*self.clips(), None]
        split = np.array(["train"] * len(clips))
        return SimpleNamespace(
            cells=dict.fromkeys(self.formats, clips), split=split, notes=["a note"]
        )


if __name__ == "__main__":  # preparing_toy.py <root> <workers> <slow> <part>
    root, workers, slow, part = sys.argv[1:]
    toy = Toy(Path(root), {"sound": Bytes(slow=float(slow))})
    report = prepare(toy, workers=int(workers), part=read_part(part))
    print("finished", report.finished, "stopped", report.stopped, "decoded", report.decoded)
