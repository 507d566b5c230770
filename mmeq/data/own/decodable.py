"""Media files of which each was decoded once, so that none can stop a prediction half-way.

Shape suffixes: N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mmeq.data.columns import Column
from mmeq.data.media.clip import Absent, Broken, Clip
from mmeq.data.media.column import MediaColumn
from mmeq.data.media.flow import FlowClip, FlowFormat
from mmeq.data.media.formats import Format
from mmeq.data.media.presence import look
from mmeq.data.media.store import Store

THREADS = 8
Found = tuple[Column, np.ndarray, dict[int, str]]
"""Column, bool [N] of the samples that have it, and row → why a file cannot be used."""


def decodable(places: Sequence[tuple[Path, str] | None], format: Format, prepared: Path) -> Found:
    """Return the clips that can be decoded, and why the others cannot.

    What was prepared is believed; any other file is decoded, since a look into it does not tell
    whether all of it is sound. What was decoded is not kept: of a large table it would not fit.

    Args:
        places: N files and their names; None where a sample has none.
        format: that reads them.
        prepared: folder of prepared formats.
    """
    of = FlowClip if isinstance(format, FlowFormat) else Clip
    clips = [None if place is None else of(*place) for place in places]
    store = Store(prepared, format)
    found = look(clips, format, store, prepared)
    why = found.lost
    rows = [r for r, key in enumerate(found.keys) if key is not None and store.find(key) is None]
    with ThreadPoolExecutor(THREADS) as pool:
        for row, reason in zip(rows, pool.map(_decoder(format, clips), rows), strict=True):
            if reason is not None:
                why[row], found.keys[row] = reason, None
    here_N = np.array([key is not None for key in found.keys])
    kept = [clip if here else None for clip, here in zip(clips, here_N, strict=True)]
    held = store if len(store) else None
    return MediaColumn(kept, format, found.keys, held, found.seconds), here_N, why


def _decoder(format: Format, clips: Sequence[Clip | None]) -> Callable[[int], str | None]:
    def decode(row: int) -> str | None:
        """Say why a clip cannot be decoded, or nothing."""
        clip = clips[row]
        assert clip is not None
        try:
            format.read(clip)
        except Absent:
            return f"{clip.name} has no such track"
        except (Broken, OSError) as error:
            return f"{clip.name}: {error}"
        return None

    return decode
