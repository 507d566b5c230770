"""Encoder of texts without a vocabulary: hashed words and character n-grams.

Shape suffixes: B batch, T tokens, D width.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.errors import MmeqError

_WORD = re.compile(r"\w+|[^\w\s]")


class TextEncoder(nn.Module):
    """A hashed bag of words and n-grams (Bojanowski et al. 2017, arXiv 1607.04606): str → [B, D].

    Each word and each of its character n-grams (with word boundaries) is hashed into a table of
    embeddings; the text is their mean, followed by one hidden layer. Nothing to download, no
    vocabulary to fit, and an unseen word still shares n-grams with seen ones.

    Args:
        modality: of kind text.
        dim: D.
        buckets: size of the table; 0 is the padding.
        hidden: width of embeddings and hidden layer.
        ngrams: shortest and longest character n-gram.
        max_tokens: hashed tokens kept of a text, from its beginning.
        dropout: on the mean embedding and the hidden layer.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        buckets: int = 16384,
        hidden: int = 96,
        ngrams: tuple[int, int] = (3, 5),
        max_tokens: int = 1024,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        sizes = {"buckets": (buckets, 2), "hidden": (hidden, 1), "max_tokens": (max_tokens, 1)}
        check_sizes("text", sizes)
        if not 1 <= ngrams[0] <= ngrams[1]:
            raise MmeqError(
                f"backbone.encoders.text.ngrams={list(ngrams)}: give the shortest (1 or more) and "
                "the longest"
            )
        self.buckets, self.max_tokens = buckets, max_tokens
        self.shortest, self.longest = ngrams
        self.table = nn.Embedding(buckets, hidden, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.5)
        with torch.no_grad():
            self.table.weight[0].zero_()
        self.body = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
        )

    def transform(
        self, raw: list[str], training: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Hash texts into ``{"ids": int64 [B, T]}``, zeros after a text's end."""
        ids = [hash_text(text, self.buckets, self.shortest, self.longest) for text in raw]
        longest = max((len(row) for row in ids), default=1)
        length = min(self.max_tokens, max(1, longest))
        out = torch.zeros(len(ids), length, dtype=torch.int64)
        for row, tokens in enumerate(ids):
            kept = torch.tensor(tokens[:length], dtype=torch.int64)
            out[row, : len(kept)] = kept
        return {"ids": out}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Features [B, D]."""
        ids_BT = x["ids"]
        count_B1 = (ids_BT != 0).sum(1, keepdim=True).clamp_min(1)
        return self.body(self.table(ids_BT).sum(1) / count_B1)


@lru_cache(maxsize=65536)
def hash_text(text: str, buckets: int, shortest: int, longest: int) -> tuple[int, ...]:
    """Hash the words and character n-grams of a text into 1..buckets-1, in reading order."""
    out = []
    for word in _WORD.findall(text.lower()):
        bounded = f"<{word}>"
        pieces = [bounded]
        for size in range(shortest, longest + 1):
            pieces += [bounded[k : k + size] for k in range(len(bounded) - size + 1)]
        out += [1 + zlib.crc32(piece.encode()) % (buckets - 1) for piece in pieces]
    return tuple(out)
