"""Video format: frames are kept at a low rate, and become a few pictures of one size.

Shape suffixes: B batch, T frames kept, K frames of a sample, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import av
import numpy as np
import PIL
import torch
from torch import Tensor

from mmeq.data.media.checks import number, whole
from mmeq.data.media.clip import Blob, Clip
from mmeq.data.media.decode import probe_video, read_frames
from mmeq.data.media.pictures import (
    DRAWS,
    centre_look,
    check_pictures,
    pack,
    random_look,
    see,
    unpack,
)
from mmeq.data.options import one_of
from mmeq.errors import MmeqError

VERSION = 1
"""Of what `VideoFormat.read` gives: to be raised whenever that changes."""


@dataclass(frozen=True)
class VideoFormat:
    """Clips: uint8 [B, frames, 3, size, size].

    Evaluation sees the middle frames of equal stretches of the clip, and of each the centre.
    Training, if it is augmented, sees one random part with 0.5 to 1 of the area (the same in all
    frames), resized and mirrored at random, and with ``sampling=random`` one random frame of each
    stretch (TSN, Wang et al. 2016). A clip of fewer frames repeats some.

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

    kind: ClassVar[str] = "video"

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
        whole("video.most", self.most, 1)
        whole("video.frames", self.frames, 1)
        if self.frames > self.most:
            raise MmeqError(
                f"dataset.video.frames={self.frames}: no more than "
                f"dataset.video.most={self.most} frames are kept; give a larger most"
            )
        one_of("dataset.video.sampling", self.sampling, ["random", "uniform"])
        check_pictures("video", self.resize, self.size, self.augment, self.jpeg)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (K, 3, size, size)."""
        return self.frames, 3, self.size, self.size

    @property
    def augments(self) -> bool:
        """Training sees other parts and frames than evaluation."""
        return self.augment

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

    def view(
        self, blobs: Sequence[Blob | None], training: bool, generator: torch.Generator
    ) -> Tensor:
        """Return the batch uint8 [B, K, 3, size, size], see `Format.view`."""
        out = torch.zeros(len(blobs), *self.shape, dtype=torch.uint8)
        draws: list[list[float]] | None = None
        if training and self.augment:
            drawn = torch.rand(len(blobs), DRAWS + self.frames, generator=generator)
            draws = drawn.tolist()
        for row, blob in enumerate(blobs):
            if blob is not None:
                self._fill(out[row], blob, None if draws is None else draws[row])
        return out

    def _fill(self, out_K3SS: Tensor, blob: Blob, draws: list[float] | None) -> None:
        """Write one sample into its place in the batch."""
        within = [0.5] * self.frames
        if draws is not None and self.sampling == "random":
            within = draws[DRAWS:]
        picked = pick(blob.shape[0], within)
        frames = self._frames(blob, sorted(set(picked)))
        height, width = frames[picked[0]].shape[:2]
        if draws is None:
            look = centre_look(height, width, self.size)
        else:
            look = random_look(height, width, draws[:DRAWS])
        see([frames[k] for k in picked], look, out_K3SS)

    def _frames(self, blob: Blob, numbers: list[int]) -> dict[int, np.ndarray]:
        """Frames by number: uint8 [H, W, 3]."""
        if self.jpeg is None:
            frames_THW3 = blob.data.reshape(blob.shape)
            return {k: frames_THW3[k] for k in numbers}
        ends = np.cumsum(blob.shape)
        return {k: unpack(blob.data[ends[k] - ends[0] : ends[k + 1] - ends[0]]) for k in numbers}


def pick(count: int, within: Sequence[float]) -> list[int]:
    """Choose one frame in each of K equal stretches of a clip.

    Args:
        count: frames of the clip.
        within: K places in [0, 1) within each stretch; 0.5: its middle.

    Examples:
        >>> pick(10, [0.5, 0.5, 0.5])
        [1, 5, 8]
        >>> pick(2, [0.5, 0.5, 0.5])
        [0, 1, 1]
    """
    stretches = len(within)
    return [min(int((k + place) * count / stretches), count - 1) for k, place in enumerate(within)]
