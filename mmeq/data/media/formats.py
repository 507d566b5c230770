"""Formats by kind: what of a file is kept, and how a batch is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from mmeq.data.media.clip import Blob, Clip


class Format(Protocol):
    """How clips of one kind become tensors, in two steps.

    `read` decodes a file into what is kept of it (a waveform, frames): slow, without randomness,
    and therefore what `mmeq.prepare` stores. `view` makes the batch of it: crop, spectrogram,
    augmentation. Training from prepared data and on the fly run the same two steps.
    """

    kind: ClassVar[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample in a batch."""

    @property
    def augments(self) -> bool:
        """`view` changes what it is given in training, so that an encoder need not."""

    def stored(self) -> dict[str, Any]:
        """Return, in plain types, all that `read`'s result depends on beside the file."""

    def probe(self, clip: Clip) -> float | None:
        """Look into the file without decoding it; return its seconds (None: not a matter of time).

        Raises:
            Absent: the file has no such track.
            Broken: it cannot be opened, or has no content.
        """

    def read(self, clip: Clip) -> Blob:
        """Decode.

        Raises:
            Absent: the file has no such track.
            Broken: it cannot be decoded.
        """

    def view(
        self, blobs: Sequence[Blob | None], training: bool, generator: torch.Generator
    ) -> Tensor:
        """Return the batch ``[B, *shape]`` (zeros for None); augmented only in training."""
