"""Weights of ResNet-18 from torchvision's name or a local file, fitted to the channels at hand."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

from mmeq.errors import MmeqError

SUFFIXES = (".pth", ".pt")
FIRST = "conv1.weight"
COUNTER = "num_batches_tracked"
PATIENCE = 10.0
"""Seconds that a server may be silent."""


def load_resnet18(body: nn.Module, weights: str, option: str) -> None:
    """Load weights into a ResNet-18 whose ``fc`` has no parameters.

    A first convolution for C channels in place of 3 gets the mean of the three at each of its
    channels, times 3 / C: a grey picture then gives the same whatever the channels. (The mean is
    that of temporal segment networks [second-hand]; the factor, which a batch norm in training
    would undo and one in evaluation does not, is [ours]. MMPareto's code draws the first
    convolution of flow at random.)

    Args:
        body: to be loaded.
        weights: ``imagenet`` (torchvision's IMAGENET1K_V1: from the torch hub's cache, otherwise
            downloaded unless ``HF_HUB_OFFLINE`` is set), a state dict's file, or a folder that
            holds one named ``resnet18*.pth`` or ``.pt``.
        option: its name, for errors.

    Raises:
        MmeqError: when they are not there, cannot be had or read, or are those of another network.
            Nothing is left at random.
    """
    path = _imagenet(option) if weights == "imagenet" else _local(weights, option)
    state = _state(path, f"{option}={weights}")
    wanted = body.state_dict()
    # files of before batch norms counted, too, are whole
    state |= {key: value for key, value in wanted.items() if COUNTER in key and key not in state}
    first = state.get(FIRST)
    channels = wanted[FIRST].shape[1]
    if first is not None and first.ndim == 4 and first.shape[1] == 3 != channels:
        state[FIRST] = first.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (3 / channels)
    for key, value in wanted.items():
        found = tuple(state[key].shape) if key in state else "missing"
        if found != tuple(value.shape):
            raise MmeqError(
                f"{option}={weights}: {path.name} is no ResNet-18: {key} is {found}, expected "
                f"{tuple(value.shape)}"
            )
    if odd := sorted(state.keys() - wanted.keys()):
        raise MmeqError(f"{option}={weights}: {path.name} is no ResNet-18: it has {odd[0]} too")
    body.load_state_dict(state)


def _local(weights: str, option: str) -> Path:
    """Return the file of a local path."""
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise MmeqError(
            f"{option}={weights}: no such file or folder; give imagenet, null (from scratch), a "
            "state dict (.pth), or a folder that holds resnet18*.pth"
        )
    found = sorted(one for one in path.glob("resnet18*") if one.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise MmeqError(
            f"{option}={weights}: expected one file resnet18*.pth in that folder, found {names}; "
            "give the file itself"
        )
    return found[0]


def _imagenet(option: str) -> Path:
    """Return the file of torchvision's weights, downloaded if need be."""
    url = ResNet18_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        why = "HF_HUB_OFFLINE is set" if offline else fetch(url, path)
        if why:
            raise MmeqError(
                f"{option}=imagenet: {path} is not there and cannot be fetched ({why}); put "
                f"torchvision's {path.name} into that folder, or give {option}=<its path>, or "
                f"{option}=null to train from scratch"
            )
    wanted = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if wanted and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(wanted[1]):
        raise MmeqError(f"{option}=imagenet: {path} is damaged (its SHA-256 differs): delete it")
    return path


def fetch(url: str, path: Path) -> str:
    """Download a file whole or not at all; return why it failed, or nothing."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:  # URLError, HTTPError and timeouts are among these
        return str(error)
    finally:
        socket.setdefaulttimeout(before)
    return ""


def _state(path: Path, given: str) -> dict[str, Tensor]:
    """Read a state dict without its classifier, free of what training scripts wrap it in."""
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        said = str(error).strip().splitlines()
        raise MmeqError(
            f"{given}: {path.name} cannot be read as a state dict "
            f"({said[0] if said else type(error).__name__})"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    tensors = isinstance(state, Mapping) and all(isinstance(one, Tensor) for one in state.values())
    if not tensors:
        raise MmeqError(f"{given}: {path.name} holds no state dict (name → tensor)")
    plain = {str(key).removeprefix("module."): value for key, value in state.items()}
    return {key: value for key, value in plain.items() if not key.startswith("fc.")}
