"""The body of a language model: found, loaded, lent to several encoders, run and pooled.

Shape suffixes: B batch, T tokens, E width of the model's embeddings and hidden states.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmeq.encoders.fetch import PACKAGES, model_folder
from mmeq.encoders.loading import extra, offline, quiet
from mmeq.errors import MmeqError, did_you_mean

Pooling = Literal["mean", "last"]
Dtype = Literal["auto", "float32", "bfloat16"]
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class Body:
    """A loaded language model without its output layer.

    Attributes:
        model: transformers model, frozen, in eval mode.
        tokenizer: of transformers.
        digest: of weights and configuration: tells one model from another.
        width: E.
        scale: root mean square of the embeddings of words.
    """

    model: Any
    tokenizer: Any
    digest: str
    width: int
    scale: float

    def lend(self) -> Any:  # noqa: ANN401 - a transformers model
        """Return the model as modules of their own over the same parameters.

        So adapters, modes and checkpointing of one borrower are nothing to another, and the
        weights are in memory once.
        """
        memo = {id(parameter): parameter for parameter in self.model.parameters()}
        return copy.deepcopy(self.model, memo)


def load_body(model: str, dtype: torch.dtype, bits: int | None, option: str) -> Body:
    """Load a language model and its tokenizer from a folder, a package or the hub.

    Args:
        model: see `find`.
        dtype: of the weights.
        bits: 4 or 8 quantises them with bitsandbytes; None does not.
        option: how errors name `model`.

    Raises:
        MmeqError: when the model is not there, its files are damaged, or lack any weight.
    """
    transformers = extra("transformers", "llm")
    folder = find(model, option)
    more: dict[str, Any] = {} if bits is None else quantised(transformers, bits, dtype)
    try:
        with quiet():
            loaded, info = transformers.AutoModel.from_pretrained(
                folder, dtype=dtype, local_files_only=True, output_loading_info=True, **more
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file makes many kinds
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise MmeqError(
            f"{option}={model}: {folder} holds no language model that transformers can load: "
            f"{why[0]}"
        ) from error
    lacking = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if lacking:
        raise MmeqError(
            f"{option}={model}: the weights in {folder} lack or misfit {len(lacking)} tensors of "
            f"{type(loaded).__name__}, such as {lacking[0]}: bring the folder anew"
        )
    if loaded.get_input_embeddings() is None or loaded.config.is_encoder_decoder:
        raise MmeqError(
            f"{option}={model}: {type(loaded).__name__} is no causal language model; give one, as "
            + " or ".join(PACKAGES)
        )
    loaded.requires_grad_(False).eval()
    if not causal(loaded):
        raise MmeqError(
            f"{option}={model}: in {type(loaded).__name__} a token sees those after it, so it is "
            f"no causal language model: give one, as {' or '.join(PACKAGES)}, or take "
            "backbone=pretrained"
        )
    table = loaded.get_input_embeddings().weight
    return Body(
        loaded,
        tokenizer,
        digest_of(folder),
        table.shape[-1],
        float(table.float().square().mean().sqrt()),
    )


@torch.no_grad()
def causal(model: Any) -> bool:  # noqa: ANN401 - a transformers model
    """Whether no token of a model's input changes what it makes of those before."""
    ids_BT = torch.tensor(
        [[1, 1, 1, 1], [1, 1, 1, 0]], device=model.get_input_embeddings().weight.device
    )
    one_TE, other_TE = model(input_ids=ids_BT, use_cache=False).last_hidden_state.float()
    return bool((one_TE - other_TE)[:-1].abs().max() < 0.01 * one_TE.abs().mean())


def find(model: str, option: str) -> Path:
    """Return the folder of a model; a hub id is taken from the hub's cache, or downloaded.

    Args:
        model: a folder, a package of `mmeq.encoders.fetch.PACKAGES`, or ``owner/name`` on the hub.
        option: how errors name it.

    Raises:
        MmeqError: when there is no such model; says which folder or package would serve.
    """
    path = Path(model).expanduser()
    if model in PACKAGES:
        return model_folder(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise MmeqError(f"{option}={model}: the folder has no config.json, so it is no model")
        return path
    serve = f"give a local folder of a model, or the package {' or '.join(PACKAGES)} (make llm)"
    parts = model.split("/")
    if path.is_absolute() or model.startswith((".", "~")) or len(parts) != 2 or not all(parts):
        raise MmeqError(
            f"{option}={model}: there is no such folder{did_you_mean(model, PACKAGES)}; {serve}"
        )
    for weights in WEIGHTS:
        found = _download(model, weights, f"{option}={model}", serve)
        if any(found.glob(weights)):
            return found
    raise MmeqError(f"{option}={model}: the hub has no weights of it as {' or '.join(WEIGHTS)}")


def _download(model: str, weights: str, given: str, serve: str) -> Path:
    """Take the files of a model from the hub's cache if its weights are there, else download."""
    hub = extra("huggingface_hub", "llm")
    files = ["*.json", "*.txt", "*.model", "*.jinja", weights]
    take = partial(hub.snapshot_download, model, allow_patterns=files)
    try:
        with quiet():
            kept = Path(take(local_files_only=True))
        if any(kept.glob(weights)):
            return kept
    except Exception as error:  # not there: the hub's library has its own kinds
        if offline():
            raise MmeqError(
                f"{given}: not in the hub's cache, and the hub is out of reach; {serve}"
            ) from error
    if offline():
        return kept
    try:
        return Path(take())
    except Exception as error:  # no such model, refused, a full disk
        raise MmeqError(f"{given}: the hub does not give it: {error}; {serve}") from error


def digest_of(folder: Path) -> str:
    """Hash a model's configuration, tokenizer and weights, by content."""
    digest = hashlib.blake2b(digest_size=16)
    files = {
        p for pattern in ("*.json", "*.model", "*.txt", *WEIGHTS) for p in folder.glob(pattern)
    }
    for path in sorted(files, key=lambda one: one.name):
        digest.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def quantised(transformers: Any, bits: int, dtype: torch.dtype) -> dict[str, Any]:  # noqa: ANN401
    """Options of loading in 4 or 8 bits, on this process's GPU."""
    try:
        import_module("bitsandbytes")
    except ImportError as error:
        raise MmeqError(
            f"bits={bits} needs the package 'bitsandbytes': pip install 'mmeq[quantised]', or "
            "give bits=null"
        ) from error
    if not torch.cuda.is_available():
        raise MmeqError(f"bits={bits} needs a CUDA GPU, and there is none here: give bits=null")
    config = (
        {"load_in_8bit": True}
        if bits == 8
        else {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    )
    device = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device()))
    return {
        "quantization_config": transformers.BitsAndBytesConfig(**config),
        "device_map": {"": device},
    }


def chosen_dtype(dtype: Dtype, tune: str) -> torch.dtype:
    """``auto``: bfloat16 on a GPU that has it, for weights that are not trained; else float32."""
    if dtype == "auto":
        fit = tune != "full" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fit else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def run(model: Any, mask_BT: Tensor | None, **inputs: Tensor) -> Tensor:  # noqa: ANN401
    """Hidden states [B, T, E] after the last layer; padding, on either side, is not seen.

    Args:
        model: as `Body.lend` gives it.
        mask_BT: true where there is a token; None: everywhere.
        **inputs: ``input_ids`` int64 [B, T] or ``inputs_embeds`` [B, T, E].
    """
    if mask_BT is not None:
        inputs["attention_mask"] = mask_BT.long()
        inputs["position_ids"] = (mask_BT.long().cumsum(1) - 1).clamp_min(0)
    return model(use_cache=False, **inputs).last_hidden_state


def pool(hidden_BTE: Tensor, mask_BT: Tensor | None, pooling: Pooling) -> Tensor:
    """The mean over tokens, or the last token: float32 [B, E].

    Examples:
        >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> pool(hidden, torch.tensor([[True, True, False]]), "last")
        tensor([[3.]])
        >>> pool(hidden, torch.tensor([[False, True, True]]), "mean")
        tensor([[6.]])
    """
    hidden_BTE = hidden_BTE.float()
    if mask_BT is None:
        return hidden_BTE.mean(1) if pooling == "mean" else hidden_BTE[:, -1]
    if pooling == "mean":
        return (hidden_BTE * mask_BT[:, :, None]).sum(1) / mask_BT.sum(1, keepdim=True).clamp_min(1)
    last_B = (mask_BT * torch.arange(mask_BT.shape[1], device=mask_BT.device)).argmax(1)
    return hidden_BTE[torch.arange(len(last_B), device=last_B.device), last_B]


def recompute(model: Any, option: str) -> None:  # noqa: ANN401 - a transformers model
    """Keep a layer's input alone and compute the layer again in the backward pass, in place.

    A layer belongs to one borrower of the body, so it recomputes with the adapters it ran with.
    Weights that a step has moved between the two would make wrong gradients: that raises.

    Raises:
        MmeqError: for a model whose layers transformers does not mark.
    """
    marked = import_module("transformers.modeling_layers").GradientCheckpointingLayer
    layers = [module for module in model.modules() if isinstance(module, marked)]
    if not layers:
        raise MmeqError(
            f"{option}=true: {type(model).__name__} has no layers to recompute; give false"
        )
    for layer in layers:
        layer.forward = partial(_recomputed, layer)


def _recomputed(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - its own
    forward = partial(type(layer).forward, layer)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    guard = partial(_contexts, trained)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=guard, **kwargs)


def _contexts(
    trained: Sequence[nn.Parameter],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _unmoved(trained, [parameter._version for parameter in trained])


@contextmanager
def _unmoved(trained: Sequence[nn.Parameter], versions: list[int]) -> Iterator[None]:
    if [parameter._version for parameter in trained] != versions:
        raise RuntimeError(
            "a step has moved weights that this backward pass needs as they were: encode the "
            "modality again after each step, or give each modality a body of its own "
            "(separate=true)"
        )
    yield
