"""Video format: frames are kept at a low rate, and become a few pictures of one size.

Shape suffixes: B batch, T frames kept, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import av
import numpy as np
import PIL

from mmeq.data.media.checks import number
from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.decode import probe_video, read_frames
from mmeq.data.media.moving import MovingFormat
from mmeq.data.media.pictures import pack, unpack
from mmeq.data.options import one_of

VERSION = 1
"""Of what `VideoFormat.read` gives: to be raised whenever that changes."""


@dataclass(frozen=True)
class VideoFormat(MovingFormat):
    """Clips: uint8 [B, frames, 3, size, size]; what is seen of them: see `MovingFormat`.

    Args:
        fps: frames a second that are kept.
        most: at most so many frames of a clip are kept.
        frames: of a sample.
        resize: shorter side in pixels, as kept.
        size: height and width in the batch.
        sampling: which frames training sees: random, or uniform as evaluation does.
        augment: false: training sees what evaluation sees, the same frames included.
        jpeg: quality (1 to 100) at which kept frames are compressed; None keeps them as they are.

    Raises:
        MmeqError: names an option that makes no sense, its value, and what would be right.
    """

    channels: ClassVar[int] = 3

    fps: float = 1.0
    most: int = 10
    frames: int = 3
    resize: int = 256
    size: int = 224
    sampling: Literal["random", "uniform"] = "random"
    augment: bool = True
    jpeg: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        number("video.fps", self.fps)
        one_of("dataset.video.sampling", self.sampling, ["random", "uniform"])
        self.check("video", "frames")

    @property
    def random_frames(self) -> bool:
        """Augmented training sees random frames, not the middle ones."""
        return self.sampling == "random"

    def stored(self) -> dict[str, Any]:
        """Return what `read` depends on beside the file."""
        majors = {name: av.library_versions[name][0] for name in ("libavcodec", "libswscale")}
        return {
            "kind": self.kind, "version": VERSION, "fps": float(self.fps), "most": self.most,
            "resize": self.resize, "jpeg": self.jpeg, **majors,
            "pillow": int(PIL.__version__.split(".")[0]),
        }  # fmt: skip

    def probe(self, clip: Clip) -> float | None:
        """Return the seconds of a clip without decoding it, see `Format.probe`."""
        return probe_video(clip)

    def read(self, clip: Clip) -> Blob:
        """Decode: frames uint8 [T, H, W, 3], shape the same.

        As JPEGs: one after the other, shape (T, length of the first, …, length of the last).
        """
        frames_THW3 = read_frames(clip, self.fps, self.most, self.resize)
        if self.jpeg is None:
            return Blob(np.ascontiguousarray(frames_THW3).reshape(-1), frames_THW3.shape)
        packed = [pack(frame, self.jpeg) for frame in frames_THW3]
        lengths = [len(one) for one in packed]
        return Blob(np.frombuffer(b"".join(packed), np.uint8), (len(packed), *lengths))

    def unpacked(self, blob: Blob, numbers: list[int]) -> dict[int, np.ndarray]:
        """Frames by number: uint8 [H, W, 3]."""
        if self.jpeg is None:
            frames_THW3 = blob.data.reshape(blob.shape)
            return {k: frames_THW3[k] for k in numbers}
        ends = np.cumsum(blob.shape)
        return {k: unpack(blob.data[ends[k] - ends[0] : ends[k + 1] - ends[0]]) for k in numbers}
