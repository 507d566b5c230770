"""What the pretrained bodies of all kinds have in common: pooling, width, and weights that count.

Shape suffixes: B batch, T tokens, H width of the body's features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmeq.encoders.loading import Source
from mmeq.errors import MmeqError

Pooling = Literal["auto", "mean", "cls", "pooler"]
POOLINGS = ("auto", "mean", "cls", "pooler")
HEADS = ("pooler", "head", "vision_model.head")
"""Where transformers models keep the weights of their own pooling."""


class Body(nn.Module):
    """A loaded model: inputs → features [B, H]. A kind's file says how.

    Attributes:
        model: of the library; the module that adapters go into.
        source: where it came from.
        pooling: resolved; "model" where the library pools by itself.
        missing: tensors that the weights lacked, by name; None for one that is no parameter.
        given: what an example is, for errors.
        facts: plain, all that decides the features beside the weights and the raw sample.
        prepare: raw → inputs, in the data workers; None: raw is the input. It holds no weights,
            so that it can be sent to a process.
    """

    model: nn.Module
    prepare: Callable[[Any, bool, torch.Generator], Any] | None = None

    def __init__(
        self, source: Source, model: nn.Module, missing: Mapping[str, Tensor | None] | None = None
    ) -> None:
        super().__init__()
        self.model, self.source = model, source
        self.missing = dict(missing or {})
        self.pooling = "model"
        self.given = f"{source.kind} as it is"
        self.facts: dict[str, Any] = {}

    def example(self) -> Any:  # noqa: ANN401 - a tensor or a dict of them
        """Return inputs of one sample."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.model.parameters()).dtype

    def choose(self, pooling: str, best: str | None = None) -> None:
        """Set the pooling; auto is `best`, or what the model was trained with, as far as known."""
        if pooling not in POOLINGS:
            raise self.refuse("pooling", pooling, f"one of {', '.join(POOLINGS)}")
        names = [name for name, _ in self.model.named_parameters()]
        own = any(key.startswith(HEADS) for key in self.missing)
        if pooling == "auto" and best is not None:
            self.pooling = best
        elif pooling == "auto" and self._pools() and not own:
            self.pooling = "pooler"
        elif pooling == "auto":
            first = any(name.endswith(("cls_token", "class_embedding")) for name in names)
            self.pooling = "cls" if first else "mean"
        else:
            self.pooling = pooling
        self.facts["pooling"] = self.pooling

    def pool(self, found: Any, mask_BT: Tensor | None = None) -> Tensor:  # noqa: ANN401
        """Return features [B, H] of what a transformers model gives."""
        if self.pooling == "pooler":
            pooled = getattr(found, "pooler_output", None)
            if pooled is None:
                raise self.refuse("pooling", "pooler", "mean or cls: the model has no pooler")
            return pooled.flatten(1)
        tokens = found.last_hidden_state
        if tokens.ndim > 3:  # a convolutional network's [B, H, height, width]
            tokens = tokens.flatten(2).transpose(1, 2)
        if self.pooling == "cls":
            return tokens[:, 0]
        if mask_BT is None:
            return tokens.mean(1)
        mask_BT1 = mask_BT[:, :, None].to(tokens.dtype)
        return (tokens * mask_BT1).sum(1) / mask_BT1.sum(1).clamp_min(1)

    def settle(self, trained: bool) -> int:
        """Try the body on an example: refuse random weights, freeze what is of no use; return H.

        Parameters that the features do not depend on (a pooler that is not asked) get no gradient,
        which distributed training would wait for.

        Raises:
            MmeqError: when the features depend on tensors that the weights lacked, or the model
                does not take the inputs.
        """
        training = self.training
        self.eval()
        named = dict(self.model.named_parameters())
        lost = {key: value for key, value in self.missing.items() if isinstance(value, Tensor)}
        look = {**named, **{f"missing {key}": value for key, value in lost.items()}}
        graph = trained or bool(lost)
        with torch.set_grad_enabled(graph):
            features = self.attempt(self)
        if features.ndim != 2:
            raise self.source.refuse(f"its features have the shape {tuple(features.shape)}")
        if graph:
            for value in look.values():
                value.requires_grad_(True)
            with torch.enable_grad():
                total = self(self.example()).sum()
            found = torch.autograd.grad(total, list(look.values()), allow_unused=True)
            unused = {key for key, grad in zip(look, found, strict=True) if grad is None}
            self._refuse_random([key for key in lost if f"missing {key}" not in unused])
            for key, value in named.items():
                value.requires_grad_(trained and key not in unused)
        self._refuse_random(
            [k for k, v in self.missing.items() if v is None and "num_batches" not in k]
        )
        self.train(training)
        return features.shape[1]

    def refuse(self, option: str, value: object, right: str) -> MmeqError:
        """Return the error of an option of this encoder."""
        return MmeqError(f"backbone.encoders.{self.source.kind}.{option}={value}: give {right}")

    def _refuse_random(self, keys: list[str]) -> None:
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (", …" if len(keys) > 3 else "")
            raise self.source.refuse(
                f"the weights lack {len(keys)} tensors that its features need ({shown}), and "
                f"random ones will not do; another pooling than {self.pooling} may do without them"
            )

    def _pools(self) -> bool:
        """Whether the model gives pooled features of its own."""
        with torch.no_grad():
            found = self.attempt(self.call)
        return getattr(found, "pooler_output", None) is not None

    def attempt(self, call: Callable[[Any], Any]) -> Any:  # noqa: ANN401
        """Call with an example.

        Raises:
            MmeqError: when the model does not take it.
        """
        try:
            return call(self.example())
        except MmeqError:
            raise
        except Exception as error:  # whatever the model raises
            reason = " ".join(str(error).split())
            raise MmeqError(
                f"{self.source.option}: the model does not take {self.given} ({reason})"
            ) from error

    def call(self, inputs: Any) -> Any:  # noqa: ANN401 - a transformers output
        """Return what the model itself gives."""
        raise NotImplementedError
