"""Optical flow kept as two folders of grey pictures: u (to the right) and v (down).

Shape suffixes: B batch, T instants kept, K instants of a sample, H height, W width; 2 is u, v.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL
from PIL import Image

from mmeq.data.media.clip import Blob, Broken, Clip
from mmeq.data.media.moving import MovingFormat, pick
from mmeq.data.media.pictures import pack

_FRAME = re.compile(r"(?:flow_[a-z]_)?(?:frame)?_?(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
VERSION = 1
"""Of what `FlowFormat.read` gives: to be raised whenever that changes."""


@dataclass(frozen=True)
class FlowClip(Clip):
    """A clip whose path is a folder of u, ``…/u/<clip>``; that of v is ``…/v/<clip>``.

    The fingerprint is that of both folders. A folder's time of change tells of frames that were
    added, removed or renamed (a release unpacked anew), not of a file that was overwritten in
    place: to look at each of 5 million files at every start would take minutes. Who edits frames
    in place prepares under another ``prepared`` folder.
    """

    @property
    def other(self) -> Path:
        """Folder of v."""
        return self.path.parent.parent / "v" / self.path.name

    def fingerprint(self) -> str:
        """Return what tells this content from any other, see the class.

        Raises:
            FileNotFoundError: when there is no folder of u; without v the clip is broken.
        """
        stats = [self.path.stat(), *([self.other.stat()] if self.other.exists() else [])]
        parts = (self.name, *((one.st_size, one.st_mtime_ns) for one in stats), "flow")
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class FlowFormat(MovingFormat):
    """Flow fields at evenly spaced instants: uint8 [B, frames, 2, size, size], 127.5 no motion.

    A grey value g stands for (g/255 − 1/2)·2b pixels a frame, b the bound (20 in the usual TV-L1
    release [second-hand]); values are kept as they are, also where pictures are resized. What
    evaluation and training see is chosen as for videos (`mmeq.data.media.moving.MovingFormat`);
    a mirrored sample has the sign of u turned: g → 255 − g.

    Args:
        frames: instants of a sample.
        most: kept of a clip at most, at the middles of equal stretches.
        resize: shorter side in pixels, as kept.
        size: height and width in the batch.
        augment: in training a random instant of each stretch, random resized crop, mirroring;
            false: training sees what evaluation sees.
        jpeg: quality (1 to 100) at which kept pictures are compressed; None keeps them as they are.

    Raises:
        MmeqError: names an option that makes no sense, its value, and what would be right.
    """

    channels: ClassVar[int] = 2
    motion: ClassVar[bool] = True

    frames: int = 3
    most: int = 10
    resize: int = 256
    size: int = 224
    augment: bool = True
    jpeg: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        self.check("flow", "instants")

    def stored(self) -> dict[str, Any]:
        """Return what `read` depends on beside the files."""
        return {
            "kind": "flow", "version": VERSION, "most": self.most, "resize": self.resize,
            "jpeg": self.jpeg, "pillow": int(PIL.__version__.split(".")[0]),
        }  # fmt: skip

    def probe(self, clip: Clip) -> float | None:
        """Compare the two folders, open the first picture; time is not known of pictures.

        Raises:
            Broken: when a folder is empty, they differ, or the picture cannot be opened.
        """
        for path in _pairs(clip)[0]:
            _open(path).close()
        return None

    def read(self, clip: Clip) -> Blob:
        """Decode pairs: uint8 [T, H, W, 2], shape the same.

        As JPEGs: u and v by turns, shape (T, length of the first, …, length of the last).

        Raises:
            Broken: names the picture that cannot be decoded or has another size.
        """
        pairs = _pairs(clip)
        kept = pick(len(pairs), [0.5] * min(self.most, len(pairs)))
        pictures = [_grey(path, self.resize) for index in kept for path in pairs[index]]
        odd = next((k for k, one in enumerate(pictures) if one.shape != pictures[0].shape), None)
        if odd is not None:
            raise Broken(
                f"{_named(pairs[kept[odd // 2]][odd % 2])} has another size than the first"
            )
        if self.jpeg is None:
            field_THW2 = np.stack([np.stack(pictures[::2]), np.stack(pictures[1::2])], -1)
            return Blob(field_THW2.reshape(-1), field_THW2.shape)
        packed = [pack(one, self.jpeg) for one in pictures]
        lengths = [len(one) for one in packed]
        return Blob(np.frombuffer(b"".join(packed), np.uint8), (len(kept), *lengths))

    def unpacked(self, blob: Blob, numbers: list[int]) -> dict[int, np.ndarray]:
        """Instants by number: uint8 [H, W, 2]."""
        if self.jpeg is None:
            field_THW2 = blob.data.reshape(blob.shape)
            return {k: field_THW2[k] for k in numbers}
        ends = np.cumsum((0, *blob.shape[1:])).tolist()

        def grey(number: int) -> np.ndarray:
            data = blob.data[ends[number] : ends[number + 1]].tobytes()
            with Image.open(io.BytesIO(data)) as picture:
                return np.asarray(picture)

        return {k: np.stack([grey(2 * k), grey(2 * k + 1)], -1) for k in numbers}


def _pairs(clip: Clip) -> list[tuple[Path, Path]]:
    """Return the pictures of u and v, in order of their numbers."""
    assert isinstance(clip, FlowClip)
    sides = []
    for folder in (clip.path, clip.other):
        if not folder.is_dir():
            raise Broken(f"no folder {folder.parent.name}/{folder.name}")
        found = ((_FRAME.fullmatch(one.name), one) for one in folder.iterdir())
        sides.append({int(match[1]): one for match, one in found if match})
    u, v = sides
    if not u and not v:
        raise Broken("the folders have no pictures named frame000001.jpg and so on")
    if odd := sorted(u.keys() ^ v.keys()):
        where = "u" if odd[0] in u else "v"
        raise Broken(f"frame {odd[0]} is in {where} alone ({len(u)} in u, {len(v)} in v)")
    return [(u[number], v[number]) for number in sorted(u)]


def _named(path: Path) -> str:
    """``u/frame000001.jpg``."""
    return f"{path.parent.parent.name}/{path.name}"


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Broken(f"{_named(path)} cannot be opened: no picture") from error


def _grey(path: Path, resize: int) -> np.ndarray:
    """Uint8 [H, W], the shorter side of length `resize`."""
    with _open(path) as picture:
        try:
            grey = picture.convert("L")
        except (OSError, ValueError, SyntaxError) as error:
            raise Broken(f"{_named(path)} cannot be decoded: {error}") from error
    share = resize / min(grey.size)
    if share != 1:
        width, height = (max(1, round(side * share)) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(grey)
