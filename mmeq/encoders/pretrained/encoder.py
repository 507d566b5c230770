"""The pretrained encoder: a model of transformers, timm or torchvision, pooled and projected.

Shape suffixes: B batch, H width of the body's features, D common width.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmeq.data.spec import Modality
from mmeq.encoders.checks import check_sizes
from mmeq.encoders.frozen import tensors_digest
from mmeq.encoders.lent import Lent
from mmeq.encoders.loading import resolve
from mmeq.encoders.lora import adapt, is_adapter, lora_options
from mmeq.encoders.pretrained.audio import AudioBody, format_of
from mmeq.encoders.pretrained.body import Body, Pooling
from mmeq.encoders.pretrained.image import ImageBody, look_of
from mmeq.encoders.pretrained.text import TextBody
from mmeq.errors import MmeqError, did_you_mean

KINDS = ("text", "image", "video", "audio")
TUNES = ("frozen", "head", "lora", "full")
VERSION = 1
"""Of the features of a frozen body: to be raised whenever they change."""


class PretrainedEncoder(Lent):
    """Raw text, images, frames or sound → [B, D], by a pretrained body and a trained head.

    tune says what training moves:

    - frozen: layer norm and a linear projection H → D; the body's features can be kept;
    - head: layer norm and an MLP with one hidden layer H → hidden → D; the body as in frozen;
    - lora: low-rank adapters in the body, and the projection;
    - full: the body and the projection.

    A frozen body stays in eval mode, without gradient. Batch norms of the body keep their
    statistics under every tune, so that a sample's features never depend on its batch. What is
    frozen of it is left out of a state dict, see `mmeq.encoders.lent`.

    Args:
        modality: of kind text, image, video or audio (as waveform).
        dim: D.
        model: a local folder, ``package://module/folder`` inside an installed package, a hub id, or
            an architecture of timm or torchvision; for audio also dvector.
        library: auto, transformers, timm or torchvision.
        weights: file (a path or ``package://…``) for an architecture of timm or torchvision, or
            for dvector; None: the library's own.
        pooling: of a transformers model: auto (what it was trained with), mean over tokens, cls
            (the first), pooler (its own).
        tune: frozen, head, lora or full.
        hidden: width of the head's hidden layer; for tune=head.
        dropout: before the linear layers of the head.
        lora: options of the adapters: rank, alpha, dropout, targets, see `mmeq.encoders.lora`.
        checkpointing: save memory in training for a second forward; for lora and full.
        max_tokens: of a text; None: what the model takes.
        size: of images, pixels; None: the model's own.
        seconds: of sound; None: the model's own, or the data's where it takes any.

    Raises:
        MmeqError: for a model that cannot be had or lacks weights (random ones never take their
            place), and for options or data that do not fit it.
    """

    def __init__(
        self,
        modality: Modality,
        dim: int,
        model: str,
        library: str = "auto",
        weights: str | None = None,
        pooling: Pooling = "auto",
        tune: Literal["frozen", "head", "lora", "full"] = "frozen",
        hidden: int = 512,
        dropout: float = 0.1,
        lora: dict[str, Any] | None = None,
        checkpointing: bool = False,
        max_tokens: int | None = None,
        size: int | None = None,
        seconds: float | None = None,
    ) -> None:
        super().__init__()
        kind, prefix = modality.kind, f"backbone.encoders.{modality.kind}"
        _check(kind, tune, hidden, {"max_tokens": max_tokens, "size": size, "seconds": seconds})
        trained = tune in ("lora", "full")
        if checkpointing and not trained:
            raise MmeqError(
                f"{prefix}.checkpointing=true: a body with tune={tune} has no gradients; "
                "give false, or tune=lora or full"
            )
        options = lora_options(lora, f"{prefix}.lora")
        source = resolve(kind, model, library, weights)
        if kind == "text":
            self.body: Body = TextBody(source, pooling, max_tokens)
        elif kind == "audio":
            self.body = AudioBody(source, modality, pooling)
        else:
            self.body = ImageBody(source, modality, pooling, size)
        self.tune, self.kind = tune, kind
        width = self.body.settle(tune == "full")
        if tune != "full":
            self.body.requires_grad_(False)
        self.digest = tensors_digest(self._lent().items())
        if tune == "lora":
            adapt(self.body.model, **options, option=f"{prefix}.lora")
            self._leave_out_unused()
        if checkpointing:
            self._checkpoint(prefix)
        layers: list[nn.Module] = [nn.LayerNorm(width), nn.Dropout(dropout)]
        if tune == "head":
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(hidden if tune == "head" else width, dim))
        self.transform = self.body.prepare
        self.train(self.training)

    @classmethod
    def needs(
        cls,
        kind: str,
        model: str,
        library: str = "auto",
        weights: str | None = None,
        size: int | None = None,
        seconds: float | None = None,
        **_: Any,  # noqa: ANN401 - the other options
    ) -> dict[str, Any]:
        """Return the fields that the modality's format must have; loads no weights.

        Args:
            kind: of the modality.
            model: see the class.
            library: see the class.
            weights: see the class.
            size: see the class.
            seconds: see the class.

        Raises:
            MmeqError: for a model whose preprocessing is not to be found.
        """
        if kind == "audio":
            return format_of(resolve(kind, model, library, weights), seconds)
        if kind in ("image", "video"):
            look = look_of(resolve(kind, model, library, weights), size)
            return {"size": look.size, "resize": look.resize}
        return {}

    @property
    def frozen(self) -> bool:
        """Whether the body is not trained, so that its features can be kept."""
        return self.tune in ("frozen", "head")

    def features(self, x: Any) -> Tensor:  # noqa: ANN401 - a tensor or a dict of them
        """Features float32 [B, H] of the body; without gradient when it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features: Tensor = self.body(x)
            return features.float()

    def forward(self, x: Any) -> Tensor:  # noqa: ANN401 - a tensor or a dict of them
        """Features [B, D] of transformed inputs, or of ``{"features": [B, H]}`` kept before."""
        kept = x.get("features") if isinstance(x, dict) else None
        features = self.features(x) if kept is None else kept
        out: Tensor = self.head(features.to(next(self.head.parameters()).dtype))
        return out

    def cache_key(self) -> dict[str, Any] | None:
        """Return, plain, all that decides a frozen body's features beside the raw sample.

        None when the body is trained.
        """
        if not self.frozen:
            return None
        config = getattr(self.body.model, "config", None)
        facts = config.to_dict() if config is not None else {}
        for name in ("_name_or_path", "transformers_version"):
            facts.pop(name, None)
        text = json.dumps([facts, str(self.body.model)], sort_keys=True, default=str)
        return {
            "encoder": "pretrained", "version": VERSION, "digest": self.digest,
            "network": hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
            "model": type(self.body.model).__name__, **self.body.facts,
        }  # fmt: skip

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Set the mode; a frozen body and all of a body's batch norms stay in eval mode."""
        super().train(mode)
        for module in self.body.modules():
            norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if self.frozen or norm:
                module.training = False
        return self

    def _leave_out_unused(self) -> None:
        """Freeze adapters in layers that the features do not depend on."""
        named = {key: value for key, value in self.body.model.named_parameters() if is_adapter(key)}
        self.body.eval()
        with torch.enable_grad():
            total = self.body(self.body.example()).sum()
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
        for value, grad in zip(named.values(), found, strict=True):
            value.requires_grad_(grad is not None)

    def _checkpoint(self, prefix: str) -> None:
        model: Any = self.body.model
        if getattr(model, "supports_gradient_checkpointing", False):
            if hasattr(model.config, "use_cache"):
                model.config.use_cache = False  # else transformers says that it turns it off
            call = getattr(model, "activation_checkpointing_enable", None)
            call = call or model.gradient_checkpointing_enable  # its name before transformers 6
            call({"use_reentrant": False})
        elif hasattr(model, "set_grad_checkpointing"):
            model.set_grad_checkpointing(True)
        else:
            raise MmeqError(
                f"{prefix}.checkpointing=true: {type(model).__name__} cannot; give false"
            )


def _check(kind: str, tune: str, hidden: int, options: dict[str, Any]) -> None:
    """Refuse what no model could make right."""
    prefix = f"backbone.encoders.{kind}"
    if kind not in KINDS:
        raise MmeqError(
            f"{prefix}: pretrained encoders are for {', '.join(KINDS)}; "
            f"take mmeq.encoders.{kind} for it"
        )
    if tune not in TUNES:
        raise MmeqError(f"{prefix}.tune={tune!r}" + did_you_mean(tune, TUNES))
    check_sizes(kind, {"hidden": (hidden, 1)})
    takers = {"max_tokens": ("text",), "size": ("image", "video"), "seconds": ("audio",)}
    for option, value in options.items():
        if value is not None and kind not in takers[option]:
            raise MmeqError(
                f"{prefix}.{option}={value}: is for {' and '.join(takers[option])}; leave it out"
            )
