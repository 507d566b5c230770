"""Low-rank adapters in a model (peft): put in, found again, and switched.

LoRA (Hu et al. 2021, arXiv 2106.09685): W x + (alpha / rank) · B A x, with W frozen, A random and
B zero at the start, so that a new adapter changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from mmeq.errors import MmeqError, did_you_mean

LINEARS = ("Linear", "Conv1D", "Linear4bit", "Linear8bitLt")
"""Classes of linear layers; Conv1D is GPT-2's name for one."""
DEFAULTS = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": "all"}
"""Options of `adapt` that a configuration may set."""


def lora_options(given: Mapping[str, Any] | None, option: str) -> dict[str, Any]:
    """Return all options of adapters, those that are not given as in `DEFAULTS`.

    Raises:
        MmeqError: for one that there is not.
    """
    for key in given or {}:
        if key not in DEFAULTS:
            raise MmeqError(f"there is no option {option}.{key}" + did_you_mean(key, DEFAULTS))
    return {**DEFAULTS, **(given or {})}


def adapt(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: str | Sequence[str] = "all",
    name: str = "default",
    option: str = "backbone.lora",
) -> nn.Module:
    """Freeze a model and put trainable adapters into its linear layers, in place.

    The model stays of its class; its state dict gains ``….lora_A.<name>.weight`` and
    ``….lora_B.<name>.weight``, and an adapted layer's own weights move to ``….base_layer.…``. So a
    checkpoint fits a model that was built and adapted with the same options. Adapters are kept in
    fp32 whatever the model's type. Called again with another `name`, it adds a second adapter
    beside the first; `activate` says which of them answers.

    Args:
        model: loaded.
        rank: of A and B.
        alpha: the adapter's output is multiplied by alpha / rank.
        dropout: before A.
        targets: which layers: all linear ones, or the last parts of their names (q_proj, v_proj).
            A model without linear layers takes its ungrouped convolutions in their place; attention
            that torch fuses (nn.MultiheadAttention) is adapted as a whole.
        name: of the adapter: letters, digits, _ and -.
        option: how errors name these options.

    Returns:
        The same model. Only the new parameters require gradients, and adapters put in before.

    Raises:
        MmeqError: for peft that is not installed, a rank below 1, targets that the model lacks.
    """
    peft = _peft()
    if rank < 1:
        raise MmeqError(f"{option}.rank={rank}: give 1 or more")
    if not 0 <= dropout < 1:
        raise MmeqError(f"{option}.dropout={dropout}: give 0 or more and less than 1")
    found = _layers(model)
    chosen = found if targets == "all" else _named(found, targets, option)
    if not chosen:
        raise MmeqError(
            f"{option}.targets={targets!r}: {type(model).__name__} has no layer that LoRA can "
            "adapt; give tune=frozen, head or full"
        )
    earlier = {key for key, parameter in model.named_parameters() if is_adapter(key)}
    moving = {key for key in earlier if model.get_parameter(key).requires_grad}
    if dropout and any(_is(one, nn.MultiheadAttention) for one in model.modules()):
        raise MmeqError(f"{option}.dropout={dropout}: fused attention takes none; give 0")
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, bias="none", target_modules=chosen
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        peft.inject_adapter_in_model(config, model, adapter_name=name)
    for key, parameter in model.named_parameters():
        fresh = is_adapter(key) and key not in earlier
        parameter.requires_grad_(fresh or key in moving)
        if fresh:
            parameter.data = parameter.data.float()
    return model


def is_adapter(key: str, name: str | None = None) -> bool:
    """Whether a parameter's name is one of an adapter, or of the adapter of this name.

    Examples:
        >>> is_adapter("layers.0.q_proj.lora_A.audio.weight", "audio")
        True
        >>> is_adapter("layers.0.q_proj.base_layer.weight")
        False
    """
    parts = key.split(".")
    places = [k for k, part in enumerate(parts) if part.startswith("lora_")]
    return bool(places) and (name is None or name in parts[places[0] + 1 :])


def adapter_parameters(model: nn.Module, name: str = "default") -> dict[str, nn.Parameter]:
    """Return the parameters of one adapter by their names in the model."""
    return {key: value for key, value in model.named_parameters() if is_adapter(key, name)}


def activate(model: nn.Module, *names: str) -> None:
    """Let these adapters answer and no other; with no name, the model answers as it was.

    Unlike peft's own call, it leaves alone which parameters require gradients: optimizer groups
    and distributed wrappers rely on that.
    """
    layer_class = import_module("peft.tuners.tuners_utils").BaseTunerLayer
    for module in model.modules():
        if isinstance(module, layer_class):
            module._active_adapter = list(names)
            module._disable_adapters = not names


def changes(model: nn.Module) -> Iterator[Tensor]:
    """What the active adapters add to the weights of each adapted layer: (alpha / rank) · B A."""
    for module in model.modules():
        delta = getattr(module, "get_delta_weight", None)
        if delta is not None:
            for name in module.active_adapters:
                yield delta(name)


def _peft() -> Any:  # noqa: ANN401 - a module of an extra
    try:
        return import_module("peft")
    except ImportError as error:
        raise MmeqError(
            "tune=lora needs the package 'peft': pip install 'mmeq[pretrained]', or 'mmeq[llm]'"
        ) from error


def _layers(model: nn.Module) -> list[str]:
    """Names of the layers that `targets` chooses from, as they were before any adapter."""
    fused = [name for name, one in model.named_modules() if _is(one, nn.MultiheadAttention)]
    linear, convolutions = list[str](), list[str]()
    for name, module in model.named_modules():
        # what lies in an adapted layer is not a layer of the model
        name, _, rest = name.partition(".base_layer")
        if rest or any(name.startswith(one + ".") for one in fused) or "lora_" in name:
            continue
        module = getattr(module, "base_layer", module)
        if type(module).__name__ in LINEARS:
            linear.append(name)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            convolutions.append(name)
    return linear + fused or convolutions


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    return isinstance(getattr(module, "base_layer", module), kind)


def _named(found: list[str], targets: str | Sequence[str], option: str) -> list[str]:
    wanted = [targets] if isinstance(targets, str) else list(targets)
    chosen = list[str]()
    for one in wanted:
        here = [name for name in found if name == one or name.endswith("." + one)]
        if not here:
            ends = {name.rpartition(".")[2] for name in found}
            raise MmeqError(
                f"{option}.targets: the model has no layer {one!r}"
                + did_you_mean(one, ["all", *ends])
            )
        chosen += here
    return list(dict.fromkeys(chosen))
