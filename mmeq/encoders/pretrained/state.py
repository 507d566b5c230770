"""Weights as state dicts: read from a file and fitted into a module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmeq.errors import MmeqError

NESTED = ("model_state", "state_dict", "model")
"""Where training scripts put the weights in what they save beside them, in the order looked at."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the weights of a safetensors or PyTorch file, without running code of it.

    Raises:
        MmeqError: for a file that is not there, is damaged, or holds no weights.
    """
    if not path.is_file():
        raise MmeqError(f"weights {path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library has its own for a torn file
        raise MmeqError(f"weights {path}: cannot be read, perhaps half-written: {error}") from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    state = {k: v for k, v in found.items() if isinstance(v, Tensor)} if found else {}
    if not state:
        raise MmeqError(f"weights {path}: holds no tensors by name")
    return state


def fit(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Put weights into a module: by name, else by order.

    By order means: as many tensors, each of the same shape and with the same last name (weight,
    running_mean, …) as its counterpart: the same network whose parts another library calls
    otherwise. More tensors than the module has are left out only when all names fit.

    Args:
        module: of the architecture that the weights belong to.
        state: the weights.
        what: how errors name them.

    Raises:
        MmeqError: when they do not fit; never are some of the module's tensors left as they were.
    """
    wanted = module.state_dict()
    if set(wanted) <= set(state):
        chosen = {key: state[key] for key in wanted}
    elif len(wanted) == len(state) and not set(wanted) & set(state):
        chosen = dict(zip(wanted, state.values(), strict=True))
        for (key, value), other in zip(chosen.items(), state, strict=True):
            ends = key.rpartition(".")[2], other.rpartition(".")[2]
            if value.shape != wanted[key].shape or ends[0] != ends[1]:
                raise MmeqError(
                    f"{what}: {other} {tuple(value.shape)} stands where "
                    f"{key} {tuple(wanted[key].shape)} is wanted; the weights are of another model"
                )
    else:
        lacking = [key for key in wanted if key not in state]
        raise MmeqError(
            f"{what}: lacks {len(lacking)} of the model's {len(wanted)} tensors "
            f"({', '.join(lacking[:3])}{', …' if len(lacking) > 3 else ''}); "
            "the file is incomplete or of another model"
        )
    wrong = [key for key, value in chosen.items() if value.shape != wanted[key].shape]
    if wrong:
        key = wrong[0]
        raise MmeqError(
            f"{what}: {key} is {tuple(chosen[key].shape)}, the model's {tuple(wanted[key].shape)}"
        )
    module.load_state_dict(chosen)
