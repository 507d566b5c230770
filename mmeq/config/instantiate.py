"""Builds what a node of the configuration describes; the only door to ``_target_``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mmeq.config.signatures import resolve, signature


def instantiate(node: Mapping[str, Any], **supplied: Any) -> Any:  # noqa: ANN401 - what it names
    """Call the ``_target_`` of a node with its options.

    Args:
        node: plain mapping with ``_target_`` (its name starts with an allowed package) and the
            options of that class or function; a nested node is built first.
        supplied: arguments that mmeq gives; those that the target does not take are left out.

    Raises:
        MmeqError: for a target that is not allowed or does not exist.
    """
    target = resolve(node["_target_"])
    return target(**arguments(node, supplied))


def prepared(node: Mapping[str, Any]) -> partial[Any]:
    """Return the target with its options bound, to be called once the rest is known."""
    return partial(resolve(node["_target_"]), **arguments(node, {}))


def optimizer(node: Mapping[str, Any]) -> partial[Any]:
    """`prepared`, for an optimizer: with the fused kernel where every device has one.

    One kernel a parameter group instead of a dozen a parameter. ``+optim.optimizer.fused=false``
    or ``foreach=…`` choose otherwise.
    """
    made = prepared(node)
    able = made.func.__name__ in ("Adam", "AdamW", "SGD")  # Adagrad's is the CPU's alone
    able = able and made.func.__module__.startswith("torch.optim.")
    if able and not made.keywords.keys() & {"fused", "foreach", "differentiable"}:
        return partial(made, fused=True)
    return made


def arguments(node: Mapping[str, Any], supplied: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a node: what is supplied, and its own options."""
    takes = signature(resolve(node["_target_"]))
    given = {k: v for k, v in supplied.items() if takes.open or k in takes.arguments}
    for key, value in node.items():
        if key != "_target_":
            given[key] = _built(value)
    return given


def _built(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(value, Mapping):
        if "_target_" in value:
            return instantiate(value)
        return {key: _built(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_built(item) for item in value]
    return value
