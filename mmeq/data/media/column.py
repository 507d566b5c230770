"""A column of clips: from the prepared store where they are there, else decoded on the fly.

Shape suffixes: N samples, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmeq.data.media.clip import Absent, Blob, Broken, Clip
from mmeq.data.media.formats import Format
from mmeq.data.media.store import Store
from mmeq.errors import MmeqError


@dataclass(frozen=True)
class MediaColumn:
    """Clips of one modality.

    Attributes:
        clips: N; None where the sample lacks the modality.
        format: how they are decoded and turned into a batch.
        keys: N fingerprints, as the store knows the clips; None as above.
        store: what `mmeq.prepare` has decoded, or None.
        seconds: N lengths; NaN where unknown or no matter. None: all unknown.
    """

    clips: list[Clip | None]
    format: Format
    keys: list[str | None]
    store: Store | None = None
    seconds: list[float] | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.clips)

    def batch(self, rows_B: Tensor) -> Tensor:
        """The batch without augmentation, zeros where absent."""
        return self.view(rows_B, None, False, torch.Generator())

    def view(
        self, rows_B: Tensor, kept_B: Tensor | None, training: bool, generator: torch.Generator
    ) -> Tensor:
        """Return the batch ``[B, *format.shape]``.

        Args:
            rows_B: int64.
            kept_B: bool; what is False is zeros and not decoded. None keeps all.
            training: augment.
            generator: of the augmentation.

        Raises:
            MmeqError: names a file that cannot be decoded.
        """
        kept = [True] * len(rows_B) if kept_B is None else kept_B.tolist()
        blobs = [
            self.blob(row) if here else None
            for row, here in zip(rows_B.tolist(), kept, strict=True)
        ]
        return self.format.view(blobs, training, generator)

    def blob(self, row: int) -> Blob | None:
        """Return a sample's content as it is stored."""
        clip, key = self.clips[row], self.keys[row]
        if clip is None or key is None:
            return None
        entry = None if self.store is None else self.store.find(key)
        if entry is not None:
            assert self.store is not None
            return self.store.blob(entry)
        try:
            return self.format.read(clip)
        except (Absent, Broken) as error:
            raise MmeqError(
                f"{clip.path} cannot be decoded: {error}; run python -m mmeq.prepare with the same "
                "dataset options: it lists all such files, and training goes on without them"
            ) from error

    def finite(self) -> Tensor:
        """Decoded media always are."""
        return torch.ones(len(self), dtype=torch.bool)

    def masked(self, present_N: Tensor) -> MediaColumn:
        """The same without what is absent."""
        kept = present_N.tolist()
        return replace(
            self,
            clips=[c if here else None for c, here in zip(self.clips, kept, strict=True)],
            keys=[k if here else None for k, here in zip(self.keys, kept, strict=True)],
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample in a batch."""
        return self.format.shape

    def take(self, rows: Tensor) -> MediaColumn:
        """These rows alone."""
        kept = rows.tolist()
        return replace(
            self,
            clips=[self.clips[row] for row in kept],
            keys=[self.keys[row] for row in kept],
            seconds=None if self.seconds is None else [self.seconds[row] for row in kept],
        )

    def content(self, row: int) -> bytes:
        """Digest of the decoded content where it was prepared, else the clip's fingerprint."""
        key = self.keys[row]
        if key is None:
            return b""
        entry = None if self.store is None else self.store.find(key)
        return key.encode() if entry is None else entry.digest
