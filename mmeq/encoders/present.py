"""Encodes the samples that have a modality apart, where batch statistics would see the others.

Shape suffixes: B batch, K samples that have the modality, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmeq.device import carried


class PresentRows:
    """Runs encoders so that a sample which lacks the modality changes no other sample's features.

    Inputs of such a sample are zeros. Most encoders treat each sample by itself and take the batch
    as it comes. One with batch statistics (a batch norm in training mode, or without running
    statistics; any part in training mode with a buffer ``running_…``) is given the present samples
    alone: features, gradients and running statistics are those of a batch of these.

    Where no sample has the modality, the encoder is not run and its parameters get no gradient.
    Where one has it, a batch norm that sees one value a channel, whose deviation is none, uses its
    running statistics, as ResNet-18 does here anyway [ours]. ``SyncBatchNorm`` takes the batch as
    it comes: all processes have to be there when it asks for theirs.
    """

    def __init__(self) -> None:
        self._known: dict[nn.Module, tuple[nn.Module, ...]] = {}

    def forget(self) -> None:
        """Look at encoders anew: their parts may have been exchanged."""
        self._known.clear()

    def encode(
        self,
        encoder: nn.Module,
        inputs: Any,  # noqa: ANN401
        present_B: Tensor,
        width: int,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Features [B, D].

        Args:
            encoder: inputs → [B, D].
            inputs: of a batch: a tensor, a sequence of B items (texts), or a mapping of these.
            present_B: bool, on the host: who has the modality.
            width: D.
            device: where inputs and encoder are.
        """
        norms = [part for part in self._parts(encoder) if _mixes(part)]
        if not norms or bool(present_B.all()):
            features_BD: Tensor = encoder(inputs)
            return features_BD
        rows_K = present_B.nonzero().flatten()
        if not len(rows_K):
            return torch.zeros(len(present_B), width, device=device)
        with _one_value(norms if len(rows_K) == 1 else ()):
            some_KD: Tensor = encoder(_rows(inputs, rows_K))
        place_K = carried(rows_K, some_KD.device)
        return some_KD.new_zeros(len(present_B), width).index_copy(0, place_K, some_KD)

    def _parts(self, encoder: nn.Module) -> tuple[nn.Module, ...]:
        """The parts whose mode decides; to walk through a large model takes milliseconds."""
        if encoder not in self._known:
            self._known[encoder] = tuple(filter(_keeps_statistics, encoder.modules()))
        return self._known[encoder]


def _keeps_statistics(part: nn.Module) -> bool:
    if isinstance(part, _BatchNorm):
        return not isinstance(part, nn.SyncBatchNorm)
    return any(key.startswith("running_") for key, _ in part.named_buffers(recurse=False))


def _mixes(part: nn.Module) -> bool:
    return part.training or (isinstance(part, _BatchNorm) and part.running_mean is None)


@contextmanager
def _one_value(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Let batch norms that see one value a channel use their running statistics."""
    turned: list[nn.Module] = []

    def look(norm: nn.Module, args: tuple[Any, ...]) -> None:
        if norm.training and args[0].numel() == args[0].shape[1]:
            norm.training = False
            turned.append(norm)

    able = (
        norm for norm in norms if isinstance(norm, _BatchNorm) and norm.running_mean is not None
    )
    hooks = [norm.register_forward_pre_hook(look) for norm in able]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm in turned:
            norm.training = True


def _rows(inputs: Any, rows_K: Tensor) -> Any:  # noqa: ANN401 - what a column's batch holds
    """The same for some samples of a batch only, by rows on the host."""
    if isinstance(inputs, Tensor):
        return inputs[carried(rows_K, inputs.device)]
    if isinstance(inputs, Mapping):
        return {key: _rows(value, rows_K) for key, value in inputs.items()}
    return [inputs[row] for row in rows_K.tolist()]
