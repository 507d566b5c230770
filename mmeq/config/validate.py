"""Finds every mistake in a configuration before data are read or a model is built."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmeq.config.schema import ELSEWHERE, SECTIONS, SUPPLIED, Root
from mmeq.config.signatures import describe, fits, resolve, signature
from mmeq.errors import MmeqError, did_you_mean

Tree = dict[str, Any]
SPECIAL = {"_target_"}


def validate(cfg: DictConfig | Tree, *, begun: bool = False) -> None:
    """Check a configuration: names, types, missing keys, impossible combinations.

    Args:
        cfg: as composed from ``conf/train.yaml`` and the overrides.
        begun: it is that of a run folder; what changed nothing then is no mistake now.

    Raises:
        MmeqError: lists everything that is wrong, each with what would be right.
    """
    tree = plain_tree(cfg)
    problems = [*missing(tree), *typed(tree, Root, "")]
    for section, schema in SECTIONS.items():
        if isinstance(tree.get(section), dict):
            problems += typed(tree[section], schema, f"{section}.")
    for path, node, place in nodes(tree):
        problems += target(node, path, SUPPLIED[place])
    if not problems:  # combinations presume that each option is right by itself
        from mmeq.config.combinations import combinations

        problems += combinations(tree, begun=begun)
    if problems:
        unique = list(dict.fromkeys(problems))
        if len(unique) == 1:
            raise MmeqError(unique[0])
        head = f"{len(unique)} mistakes in the configuration:"
        raise MmeqError("\n  - ".join([head, *unique]))


def plain_tree(cfg: DictConfig | Tree) -> Tree:
    """Return the configuration as plain dicts and lists with all references resolved."""
    if not isinstance(cfg, DictConfig):
        return cfg
    try:
        tree = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise MmeqError(f"{error.full_key or 'the configuration'}: {first}") from error
    return loggers_named(typing.cast("Tree", tree))


def loggers_named(tree: Tree) -> Tree:
    """Return the configuration with its loggers by name; older run folders have one, without.

    Examples:
        >>> loggers_named({"logger": {"_target_": "mmeq.loggers.csv_logger", "name": "csv"}})
        {'logger': {'csv': {'_target_': 'mmeq.loggers.csv_logger', 'name': 'csv'}}}
    """
    node = _at(tree, "logger")
    if "_target_" not in node:
        return tree
    name = str(node["_target_"]).rpartition(".")[2].removesuffix("_logger")
    return {**tree, "logger": {name: node}}


def missing(tree: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - any YAML value
    """Name the options that have no default and were not given."""
    if tree == "???":
        yield f"{path} has no default: give {path}=…"
    items = tree.items() if isinstance(tree, dict) else ()
    for key, value in items:
        yield from missing(value, f"{path}.{key}" if path else str(key))


def typed(tree: Tree, schema: type, prefix: str) -> Iterator[str]:
    """Compare a section with the fields of its dataclass."""
    hints = typing.get_type_hints(schema)
    for key, value in tree.items():
        if key in hints:
            yield from mistyped(value, hints[key], f"{prefix}{key}")
        elif f"{prefix}{key}" in ELSEWHERE:
            yield f"{prefix}{key}={value!r} is not an option here: {ELSEWHERE[f'{prefix}{key}']}"
        else:
            yield f"there is no option {prefix}{key}" + did_you_mean(key, hints)
    for field in dataclasses.fields(schema):
        has_default = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if field.name not in tree and not has_default:
            yield f"{prefix}{field.name} is missing: give {describe(hints[field.name])}"


def nodes(tree: Tree) -> Iterator[tuple[str, Any, str]]:
    """Yield every place where something is built: its path, its node and the kind of place."""
    for group in ("dataset", "fusion", "method"):
        if group in tree:
            yield group, tree[group], group
    for path, place, mapping in (
        ("backbone.encoders", "backbone.encoders", _at(tree, "backbone", "encoders")),
        ("callbacks", "callbacks", _at(tree, "callbacks")),
        ("logger", "logger", _at(tree, "logger")),
    ):
        for name, node in mapping.items():
            if node is not None or place == "backbone.encoders":  # null switches off the others
                yield f"{path}.{name}", node, place
    if "optim" in tree:
        optim = _at(tree, "optim")
        yield "optim.optimizer", optim.get("optimizer"), "optim.optimizer"
        if optim.get("scheduler") is not None:
            yield "optim.scheduler", optim["scheduler"], "optim.scheduler"
    if _at(tree, "value"):
        yield "value", tree["value"], "value"


def _at(tree: Tree, *keys: str) -> Tree:
    node: Any = tree
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def target(node: Any, path: str, supplied: frozenset[str]) -> Iterator[str]:  # noqa: ANN401
    """Compare the keys and values of a node with the signature of its ``_target_``."""
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        keys = sorted(node) if isinstance(node, dict) else node
        yield f"{path} names no _target_ to build (it has: {keys})"
        return
    try:
        takes = signature(resolve(node["_target_"]))
    except MmeqError as error:
        yield f"{path}._target_: {error}"
        return
    options = set(takes.arguments) - supplied
    for key, value in node.items():
        if key in SPECIAL:
            continue
        if key in supplied:
            yield f"{path}.{key} is no option: mmeq sets it itself"
        elif key in takes.arguments:
            if isinstance(value, dict) and "_target_" in value:
                yield from target(value, f"{path}.{key}", frozenset())
            else:
                yield from mistyped(value, takes.arguments[key].hint, f"{path}.{key}")
        elif not takes.open:
            none = f" ({node['_target_']} takes no option)"
            yield f"there is no option {path}.{key}" + (did_you_mean(key, options) or none)
    for name in sorted(options - set(node)):
        if takes.arguments[name].required:
            yield f"{path}.{name} is missing: give {describe(takes.arguments[name].hint)}"


def mistyped(value: Any, hint: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any YAML value
    """Say so when a value does not fit its hint; a missing one is reported elsewhere."""
    if isinstance(value, float) and math.isnan(value):
        yield f"{path}=nan does not fit: give a number"
        return
    if value == "???" or fits(value, hint):
        return
    near = ""
    choices = [part for part in typing.get_args(hint) if isinstance(part, str)]
    if typing.get_origin(hint) is typing.Literal and isinstance(value, str):
        near = did_you_mean(value, choices).split(" (one of")[0]
    extra = ""
    if path == "trainer.precision" and "16" in str(value):
        near = ""
        extra = " (fp16's loss scaler breaks under several steps a batch: take bf16-mixed)"
    if path == "monitor" and str(value).startswith("test"):
        extra = " (a model is never chosen by its test part)"
    yield f"{path}={value!r} does not fit: give {describe(hint)}{near}{extra}"
