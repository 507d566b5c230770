"""Encoders by a small transformer from scratch: texts of hashed words, sequences of vectors.

Shape suffixes: B batch, T tokens or time, P pieces of a word, F input features, W width of the
transformer, D width of the features.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.encoders.text import hash_text
from mmeq.errors import MmeqError

_WORD = re.compile(r"\w+|[^\w\s]")
LONGEST = 24
"""Letters of a word that are hashed: more are an address or an accident."""


class Transformer(nn.Module):
    """Tokens [B, T, W] with lengths → [B, D].

    Sinusoidal positions, encoder layers (layer norm first, GELU), the mean over the tokens of a
    sample, layer norm, a linear layer. Tokens beyond a sample's length are neither attended to nor
    averaged, so that its features do not depend on how far its batch is padded. A sample of no
    token counts as one of zeros.

    Args:
        kind: of the modality, for names of options.
        dim: D.
        width: W.
        layers: of self-attention and feed-forward network.
        heads: of the attention; width is a multiple of them.
        feedforward: width of the feed-forward networks.
        dropout: of tokens, attention and layers.

    Raises:
        MmeqError: for options that make no network.
    """

    def __init__(
        self,
        kind: str,
        dim: int,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "layers": layers, "heads": heads, "feedforward": feedforward}
        check_sizes(kind, {option: (value, 1) for option, value in sizes.items()})
        option = f"backbone.encoders.{kind}"
        if width % heads or width % 2:
            raise MmeqError(f"{option}.width={width}: give an even multiple of heads={heads}")
        if not 0 <= dropout < 1:
            raise MmeqError(f"{option}.dropout={dropout}: give 0 or more and less than 1")
        layer = nn.TransformerEncoderLayer(
            width, heads, feedforward, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        for parameter in self.layers.parameters():  # the copies of a layer start alike otherwise
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def pooled(self, tokens_BTW: Tensor, length_B: Tensor) -> Tensor:
        """Features [B, D]; what stands beyond the lengths does not count."""
        count = tokens_BTW.shape[1]
        mask_BT = torch.arange(count, device=length_B.device) < length_B.clamp_min(1)[:, None]
        tokens_BTW = tokens_BTW.masked_fill(~mask_BT[:, :, None], 0.0)
        tokens_BTW = self.dropout(tokens_BTW + positions(count, tokens_BTW))
        out_BTW = self.layers(tokens_BTW, src_key_padding_mask=~mask_BT)
        out_BTW = out_BTW.masked_fill(~mask_BT[:, :, None], 0.0)
        return self.project(out_BTW.sum(1) / mask_BT.sum(1, keepdim=True))


class TextTransformer(Transformer):
    """A transformer over the words of a text: str → [B, D].

    Words and punctuation are the tokens (`hash_text` lowers their case). A token is the layer norm
    of the mean of its pieces' embeddings: the word itself and its character n-grams, with word
    boundaries, hashed into one table (Bojanowski et al. 2017, arXiv 1607.04606). So there is
    nothing to download and no vocabulary to fit, order counts, an unseen or misspelt word still
    shares n-grams with seen ones, and two words that collide in one piece differ in the others. The
    hash (CRC-32) is the same on every machine. Bytes as tokens would need neither table nor hash,
    but several times the tokens, and the data to learn spelling from.

    Args:
        modality: of kind text.
        dim: D.
        buckets: rows of the table; 0 is the padding.
        ngrams: shortest and longest character n-gram.
        max_tokens: words kept of a text, from its beginning.
        width: W.
        layers: of self-attention and feed-forward network.
        heads: of the attention; width is a multiple of them.
        feedforward: width of the feed-forward networks.
        dropout: of tokens, attention and layers.

    Raises:
        MmeqError: for options that make no network.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        buckets: int = 32768,
        ngrams: tuple[int, int] = (3, 5),
        max_tokens: int = 256,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        feedforward: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__("text", dim, width, layers, heads, feedforward, dropout)
        check_sizes("text", {"buckets": (buckets, 2), "max_tokens": (max_tokens, 1)})
        if not 1 <= ngrams[0] <= ngrams[1]:
            raise MmeqError(
                f"backbone.encoders.text.ngrams={list(ngrams)}: give the shortest (1 or more) and "
                "the longest"
            )
        self.buckets, self.ngrams, self.max_tokens = buckets, tuple(ngrams), max_tokens
        self.table = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)
        nn.init.normal_(self.table.weight)
        with torch.no_grad():
            self.table.weight[0].zero_()
        self.norm = nn.LayerNorm(width)

    def transform(
        self, raw: list[str], training: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Hash texts into ``{"ids": int64 [B, T, P]}``, zeros after a word's and a text's end."""
        texts = [
            [
                hash_text(word[:LONGEST], self.buckets, *self.ngrams)
                for word in _WORD.findall(text)[: self.max_tokens]
            ]
            for text in raw
        ]
        longest = max((len(words) for words in texts), default=0)
        most = max((len(pieces) for words in texts for pieces in words), default=0)
        ids_BTP = torch.zeros(len(texts), max(1, longest), max(1, most), dtype=torch.int64)
        for row, words in enumerate(texts):
            for place, pieces in enumerate(words):
                ids_BTP[row, place, : len(pieces)] = torch.tensor(pieces)
        return {"ids": ids_BTP}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Features [B, D]."""
        ids_BTP = x["ids"]
        tokens_BTW = self.table(ids_BTP.flatten(0, 1)).unflatten(0, ids_BTP.shape[:2])
        return self.pooled(self.norm(tokens_BTW), (ids_BTP[:, :, 0] != 0).sum(1))


class SequenceTransformer(Transformer):
    """A transformer over steps of feature vectors: [B, T, F] with lengths → [B, D].

    The recipe of CMU-MOSEI and UR-FUNNY [second-hand: MultiBench's `Transformer` (a convolution of
    width 1, 5 layers, 5 heads, feed-forward 2048) and BalanceBenchmark's (two linear layers to
    1024, 2 layers, 4 heads, feed-forward 512)]: a linear layer over each step, encoder layers.
    Departures [ours]: the released code of both knows neither positions nor padding and keeps one
    step's output (MultiBench the last, which is padding in a short sample; BalanceBenchmark the
    first); here steps have positions, padding is masked, and the mean is kept.

    Args:
        modality: its shape is (T, F).
        dim: D.
        width: W.
        layers: of self-attention and feed-forward network.
        heads: of the attention; width is a multiple of them.
        feedforward: width of the feed-forward networks.
        dropout: of tokens, attention and layers.

    Raises:
        MmeqError: for options that make no network.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        feedforward: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__("sequence", dim, width, layers, heads, feedforward, dropout)
        self.embed = nn.Linear(modality.shape[-1], width)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Features [B, D] of ``{"values": [B, T, F], "length": int [B]}``."""
        return self.pooled(self.embed(x["values"]), x["length"])


def positions(count: int, like: Tensor) -> Tensor:
    """Return sinusoidal positions [T, W] (Vaswani et al. 2017), for any T.

    Args:
        count: T.
        like: its last axis gives W, even; its type and device are taken.
    """
    half = like.shape[-1] // 2
    rate = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000.0) / half))
    angle = torch.arange(count, device=like.device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1).to(like.dtype)
