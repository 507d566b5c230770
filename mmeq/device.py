"""What a step decides by lies on the host, so that it never waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_copies = WeakTensorKeyDictionary()
"""Tensor of a device → its copy on the host, and the tensor's version when that was taken."""


def carried(host: Tensor, device: torch.device) -> Tensor:
    """The same on a device, without waiting for what that has to do; the host's copy is kept.

    Args:
        host: a tensor on the host that nobody changes any more.
        device: where to.
    """
    moved = host.to(device, non_blocking=True)
    remember(moved, host)
    return moved


def remember(tensor: Tensor, host: Tensor) -> None:
    """Say what `on_host` shall give for a tensor, for as long as that lives and is not changed."""
    if tensor is not host:
        _copies[tensor] = host, _version(tensor)


def on_host(tensor: Tensor) -> Tensor:
    """The same on the host: the copy that was kept; else one is made, which waits for the device.

    Examples:
        >>> here = torch.tensor([True, False])
        >>> on_host(here) is here
        True
    """
    host, version = _copies.get(tensor, (None, 0))
    return tensor.cpu() if host is None or version != _version(tensor) else host


def _version(tensor: Tensor) -> int:
    """How often it was changed in place; of tensors of inference mode torch does not count it."""
    return 0 if tensor.is_inference() else int(tensor._version)
