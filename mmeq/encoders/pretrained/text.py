"""Pretrained bodies for text: a transformers model behind its own tokenizer.

Shape suffixes: B batch, T tokens, H width of the body's features.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from mmeq.encoders.loading import Source, extra, fetch
from mmeq.encoders.pretrained.body import Body
from mmeq.encoders.pretrained.libraries import load_transformers
from mmeq.errors import MmeqError

LONGEST = 512
"""Tokens, where neither model nor tokenizer knows a limit."""
FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model",
         "sentencepiece.bpe.model", "vocab.bpe", "tekken.json")  # fmt: skip
"""One of which every tokenizer has; transformers make an empty one without a word if none is."""
CONTRASTIVE = ("clip", "siglip", "align", "blip")
"""Model types whose pooled token is what they were trained on."""


class Tokens:
    """Texts → ``{"input_ids", "attention_mask", …}`` int64 [B, T], by the model's tokenizer.

    Args:
        tokenizer: of transformers.
        most: tokens kept of a text, from its beginning.
        whole: pad to `most` instead of to the batch's longest, as pooled last tokens need.
    """

    def __init__(self, tokenizer: Any, most: int, whole: bool) -> None:  # noqa: ANN401
        self.tokenizer, self.most, self.whole = tokenizer, most, whole

    def __call__(
        self, raw: list[str], training: bool, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Tokenize; the same in training."""
        found = self.tokenizer(
            list(raw), truncation=True, max_length=self.most, return_tensors="pt",
            padding="max_length" if self.whole else "longest", return_attention_mask=True,
        )  # fmt: skip
        found = {key: value.to(torch.int64) for key, value in found.items()}
        if found["input_ids"].shape[1] == 0:  # empty texts, and no special tokens
            pad = self.tokenizer.pad_token_id
            found["input_ids"] = torch.full((len(raw), 1), pad, dtype=torch.int64)
            found = {"input_ids": found["input_ids"]}
            found["attention_mask"] = torch.zeros_like(found["input_ids"])
        return found


class TextBody(Body):
    """Texts → features [B, H].

    pooling=auto is what sentence-transformers wrote beside the model, else the pooled token of
    contrastive models (CLIP), else the mean over a text's tokens.

    Args:
        source: of the model.
        pooling: auto, mean, cls (first token) or pooler (the model's own).
        max_tokens: kept of a text; None: what the model takes.
    """

    def __init__(self, source: Source, pooling: str, max_tokens: int | None) -> None:
        tokenizer = load_tokenizer(source)
        super().__init__(source, *load_transformers(source))
        config: Any = self.model.config
        known = config.model_type.startswith(CONTRASTIVE)
        self.choose(pooling, _written(source) or ("pooler" if known else "mean"))
        limit = _limit(source, tokenizer, config)
        if max_tokens is not None and not 1 <= max_tokens <= limit:
            raise self.refuse("max_tokens", max_tokens, f"1 to {limit}")
        size = self.model.get_input_embeddings().num_embeddings
        if len(tokenizer) > size:
            raise source.refuse(f"its tokenizer knows {len(tokenizer)} tokens, the model {size}")
        most = max_tokens or limit
        self.prepare = Tokens(tokenizer, most, whole=self.pooling == "pooler")
        backend = getattr(tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        mark = hashlib.blake2b(words.encode(), digest_size=16).hexdigest()
        self.facts |= {"max_tokens": most, "tokenizer": mark}

    def example(self) -> dict[str, Tensor]:
        """Tokens of one word."""
        assert self.prepare is not None
        return self.prepare(["mmeq"], False, torch.Generator())

    def call(self, inputs: dict[str, Tensor]) -> Any:  # noqa: ANN401
        """Return the model's output; a text without tokens is judged by its first padding."""
        mask_BT = inputs["attention_mask"].clone()
        mask_BT[:, 0] |= (mask_BT.sum(1) == 0).to(mask_BT.dtype)
        return self.model(**{**inputs, "attention_mask": mask_BT})

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Features [B, H]."""
        return self.pool(self.call(inputs), inputs["attention_mask"])


def load_tokenizer(source: Source) -> Any:  # noqa: ANN401 - of transformers
    """Load a model's tokenizer, padding on the right.

    Raises:
        MmeqError: when there is none.
    """
    transformers = extra("transformers")
    tokenizer = fetch(source, transformers.AutoTokenizer.from_pretrained)
    own = [name for name in type(tokenizer).vocab_files_names.values() if name]
    if not any(_file(source, name) for name in dict.fromkeys([*FILES, *own])):
        raise source.refuse("it has no tokenizer files (tokenizer.json, vocab.txt, …)")
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise source.refuse("its tokenizer has no token to pad with")
    return tokenizer


def _file(source: Source, name: str) -> str | None:
    """Path of a file of the model, in its folder or in the cache; None where there is none."""
    if source.folder is not None:
        path = source.folder / name
        return str(path) if path.is_file() else None
    found = extra("huggingface_hub").try_to_load_from_cache(source.name, name)
    return found if isinstance(found, str) else None


def _read(source: Source, name: str) -> dict[str, Any]:
    path = _file(source, name)
    if path is None:
        return {}
    with open(path, encoding="utf-8") as stream:  # noqa: PTH123 - a str of the cache
        try:
            return dict(json.load(stream))
        except ValueError as error:
            raise MmeqError(f"{source.option}: {name} is damaged: {error}") from error


def _written(source: Source) -> str | None:
    """Pooling that sentence-transformers wrote down."""
    found = _read(source, "1_Pooling/config.json")
    for mode, pooling in {"mean_tokens": "mean", "cls_token": "cls"}.items():
        if found.get(f"pooling_mode_{mode}"):
            return pooling
    return None


def _limit(source: Source, tokenizer: Any, config: Any) -> int:  # noqa: ANN401
    """Tokens that a model takes."""
    places = getattr(config, "max_position_embeddings", None)
    if places and config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        places -= 2  # their positions begin after the padding's
    written = _read(source, "sentence_bert_config.json").get("max_seq_length")
    known = [one for one in (places, written, tokenizer.model_max_length) if one and one < 10**6]
    return min([*known, *([] if known else [LONGEST])])
