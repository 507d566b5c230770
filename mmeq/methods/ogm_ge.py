"""On-the-fly gradient modulation with generalisation enhancement (Peng et al., CVPR 2022).

Shape suffixes: B batch, M modalities, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mmeq.errors import MmeqError, did_you_mean
from mmeq.methods.base import Batch, Loop, Method, coalition_rows
from mmeq.methods.dominance import ratios, scores

Scope = Literal["weights", "convolutions"]


class OgmGe(Method):
    """Slow the encoders of dominant modalities down, and give back the noise that this takes.

    s_m = mean softmax(o_m)[y] of a batch, o_m the modality's own logits; ρ_m = s_m / s_other;
    k_m = 1 − tanh(α ρ_m) where ρ_m > 1, else 1. After the backward of CE(all), encoder m:
    g ← k_m g + N(0, (std(g) + 1e-8)²), std over each tensor [paper: arXiv 2203.15332].
    The noise goes to every encoder, k_m = 1 included, as in the released code.

    M > 2: ρ_m is against the smallest s of the others, so all but the weakest are slowed [ours].

    Departures from the authors' released code, which touches 4-dimensional weights only, so
    nothing but convolutions: `scope` has all weights of two dimensions or more by default, biases
    and norms left alone as there (the paper names all parameters of an encoder). Its noise is
    drawn anew on every device; here it is the same on all ranks.

    Args:
        modalities: names.
        seed: of the run, for the noise.
        alpha: α, how strongly.
        start: first epoch of modulation, from 0.
        end: last epoch of modulation.
        scope: gradients that are changed: ``weights`` of two dimensions or more, or
            ``convolutions``, those of four.
        generalise: add the noise (GE).
    """

    min_modalities = 2

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        alpha: float = 0.3,
        start: int = 0,
        end: int = 50,
        scope: Scope = "weights",
        generalise: bool = True,
    ) -> None:
        super().__init__(modalities, seed)
        most = float("inf")
        self.check(alpha=(alpha, 0, most), start=(start, 0, most), end=(end, start, most))
        if scope not in get_args(Scope):
            known = get_args(Scope)
            raise MmeqError(f"method.scope={scope!r} is unknown{did_you_mean(scope, known)}")
        self.alpha, self.start, self.end = alpha, start, end
        self.scope, self.generalise = scope, generalise
        self.all_1M = coalition_rows([range(len(self.modalities))], len(self.modalities))
        self.kept: list[Tensor] = []

    def adopt(self, encoders: nn.ModuleDict) -> None:
        """Refuse a scope that no encoder has anything of."""
        if not any(self.in_scope(parameter) for parameter in encoders.parameters()):
            raise MmeqError(
                f"method.scope={self.scope}: no encoder has such weights; use method.scope=weights"
            )

    def in_scope(self, parameter: Tensor) -> bool:
        """Whether the gradient of a parameter is changed."""
        return parameter.ndim == 4 if self.scope == "convolutions" else parameter.ndim >= 2

    def on_epoch_start(self, loop: Loop) -> None:
        """Forget the coefficients of the epoch before."""
        self.kept = []

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the fused loss, its gradients modulated."""
        features, label = loop.encode(batch), batch["label"]
        loss = loop.loss(loop.fuse(features, self.all_1M), label)[0]
        if not self.start <= loop.epoch <= self.end:
            loop.update(loss, range(len(self.modalities)))
            return {"joint": loss.detach()}
        with torch.no_grad():
            factor_M = self.factors(*scores(loop, features, loop.alone(features), label))
        self.kept.append(factor_M)
        loop.update(loss, range(len(self.modalities)), edit=lambda: self.modulate(loop, factor_M))
        return {"joint": loss.detach()}

    def factors(self, score_M: Tensor, rival_M: Tensor) -> Tensor:
        """k_m [M] from the scores and the smallest of the others'."""
        ratio_M = ratios(score_M, rival_M)
        return torch.where(ratio_M > 1, 1 - torch.tanh(self.alpha * ratio_M), 1.0)

    def modulate(self, loop: Loop, factor_M: Tensor) -> None:
        """Change the gradients of all encoders in place, alike on all ranks."""
        draw = None
        for m, factor in enumerate(factor_M):
            for parameter in loop.encoder(m).parameters():
                grad = parameter.grad
                if grad is None or not self.in_scope(parameter):
                    continue
                spread = grad.std(correction=min(1, grad.numel() - 1)) + 1e-8
                grad.mul_(factor)
                if self.generalise:
                    if draw is None:  # one stream for all tensors of the batch
                        draw = self.draws(loop, grad.device)
                    noise = torch.empty_like(grad).normal_(generator=draw)
                    grad.add_(noise * spread)

    def describe(self) -> dict[str, Any]:
        """Mean k_m over the epoch's batches."""
        if not self.kept:
            return {}
        mean = torch.stack(self.kept).mean(0).tolist()
        return {"coefficient": dict(zip(self.modalities, mean, strict=True))}
