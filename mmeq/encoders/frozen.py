"""Frozen encoders: what tells their weights from others, and how their bodies run over samples.

Shape suffixes: B batch, H width of the features.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def encoded(
    encoder: Any,  # noqa: ANN401 - a frozen encoder
    loader: Iterable[tuple[list[int], Any]],
    device: torch.device,
    precision: str,
) -> Generator[tuple[list[int], np.ndarray], None, None]:
    """Run a frozen body over samples; the encoder is as it was when all is done.

    Args:
        encoder: has ``features(inputs) -> [B, H]``.
        loader: gives (rows, inputs).
        device: where to run what is on the CPU.
        precision: 32-true or bf16-mixed, as the run computes.

    Yields:
        Rows, and their features float32 [B, H].
    """
    home = next((t.device for t in [*encoder.parameters(), *encoder.buffers()]), device)
    away = device if home.type == "cpu" else home  # quantised weights stay where they are
    modes = {part: part.training for part in encoder.modules()}
    half = torch.autocast(away.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    try:
        encoder.eval()
        if away != home:
            encoder.to(away)
        for rows, inputs in loader:
            with torch.no_grad(), half:
                values_BH: Tensor = encoder.features(_moved(inputs, away))
            if values_BH.ndim != 2 or len(values_BH) != len(rows):
                raise RuntimeError(
                    f"{type(encoder).__name__}.features gave {tuple(values_BH.shape)} for "
                    f"{len(rows)} samples, expected [B, H]"
                )
            yield rows, values_BH.float().cpu().numpy()
    finally:
        if away != home:
            encoder.to(home)
        for part, training in modes.items():
            part.training = training


def weights_digest(encoder: nn.Module, hashes: dict[int, bytes] | None = None) -> str:
    """Return a digest of all that is frozen in an encoder: names, types, shapes, values.

    Frozen are parameters without gradient, and the buffers of modules that train no parameter of
    their own (the running statistics of a frozen norm, not those of the head's).
    """
    frozen: list[tuple[str, Tensor]] = []
    for prefix, part in encoder.named_modules():
        own = list(part.named_parameters(prefix, recurse=False))
        frozen += [(name, tensor) for name, tensor in own if not tensor.requires_grad]
        if not any(tensor.requires_grad for _, tensor in own):
            frozen += part.named_buffers(prefix, recurse=False)
    return tensors_digest(frozen, hashes)


def tensors_digest(
    named: Iterable[tuple[str, Tensor]], hashes: dict[int, bytes] | None = None
) -> str:
    """Return a digest of tensors: their names, types, shapes and values, in this order.

    Args:
        named: each with its name.
        hashes: of tensors by identity that were met before and are alive and unchanged; added to.
    """
    known, found = {} if hashes is None else hashes, list(named)
    new = {id(tensor): tensor for _, tensor in found if id(tensor) not in known}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing frees the interpreter
        known.update(zip(new, pool.map(_tensor_digest, new.values()), strict=True))
    whole = hashlib.blake2b(digest_size=16)
    for name, tensor in found:
        whole.update(name.encode() + b"\0" + known[id(tensor)])
    return whole.hexdigest()


def _tensor_digest(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{plain.dtype}{tuple(plain.shape)}".encode(), digest_size=16)
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def _moved(inputs: Any, device: torch.device) -> Any:  # noqa: ANN401 - what transforms give
    """Inputs on a device: tensors, mappings of them; texts stay as they are."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    if isinstance(inputs, Mapping):
        return {key: _moved(value, device) for key, value in inputs.items()}
    return inputs
