"""Dataset emoji: 1,906 emoji as image and English name, their Unicode group as class."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmeq.data import store
from mmeq.data.columns import Column, ImageColumn, TextColumn
from mmeq.data.manifest import Manifest
from mmeq.data.options import choose, complete_manifest
from mmeq.data.spec import Modality
from mmeq.data.split import Split
from mmeq.errors import MmeqError

MODALITIES = ("image", "text")
STORED = 64


class Emoji:
    """Raw media: Noto images on white, and names such as "cat with tears of joy".

    Emoji of one subgroup whose names end in the same word (clock faces, man/woman variants) are
    near duplicates and stay in one part: a split that ignores it flatters.

    Args:
        modalities: any subset of image, text, in any order; None takes both.
        size: height and width of the images, 8 to 64.
        grouped: False cuts without regard to groups, with a warning about what leaks.
        split_seed: another seed, another split.
        fractions: of train, validation and test.
        train_size: so many training samples, stratified; None keeps all.
    """

    def __init__(
        self,
        modalities: Sequence[str] | None = None,
        size: int = 48,
        grouped: bool = True,
        split_seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.2, 0.2),
        train_size: int | None = None,
    ) -> None:
        self.modalities = choose("emoji", modalities, MODALITIES)
        if not 8 <= size <= STORED:
            raise MmeqError(f"size={size}: expected 8 to {STORED}, the size of the bundled images")
        self.size, self.grouped = size, grouped
        self.split = Split(split_seed, tuple(fractions), train_size)

    def load(self) -> Manifest:
        """Read the bundled file and decode its images once."""
        arrays = store.read("emoji")
        columns: dict[str, Column] = {}
        modalities = []
        for name in self.modalities:
            if name == "image":
                files = store.unpack_blobs(arrays["images"], arrays["offsets"])
                columns[name] = ImageColumn(_decode(files, self.size))
                modalities.append(Modality(name, "image", (3, self.size, self.size)))
            else:
                columns[name] = TextColumn(store.unpack_texts(arrays["texts"]))
                modalities.append(Modality(name, "text"))
        return complete_manifest(
            "emoji",
            store.unpack_texts(arrays["classes"]),
            modalities,
            columns,
            store.unpack_texts(arrays["ids"]),
            arrays["labels"],
            self.split,
            groups=store.unpack_texts(arrays["groups"]),
            grouped=self.grouped,
        )


def _decode(files: Sequence[bytes], size: int) -> Tensor:
    """Uint8 [N, 3, size, size] of encoded RGB images."""
    out = np.empty((len(files), size, size, 3), dtype=np.uint8)
    for row, data in enumerate(files):
        with Image.open(io.BytesIO(data)) as image:
            rgb = image.convert("RGB")
        out[row] = (
            rgb if rgb.size == (size, size) else rgb.resize((size, size), Image.Resampling.BOX)
        )
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()
