"""Does a plain value fit a type hint, and which arguments does a target take?"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union

from mmeq.config.schema import ALLOWED
from mmeq.errors import MmeqError, did_you_mean

Hint = Any
PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "text"}

SIMPLE = (*PLAIN, list, dict, tuple, type(None))


def fits(value: Any, hint: Hint) -> bool:  # noqa: ANN401 - any YAML value
    """Say whether a value of YAML (None, bool, int, float, str, list, dict) fits a type hint.

    Examples:
        >>> fits(1, float), fits(1.5, int), fits(True, int), fits([1], list[int] | None)
        (True, False, False, True)
        >>> fits("lstm", Literal["residual", "lstm"]), fits("gru", Literal["residual", "lstm"])
        (True, False)
    """
    origin: Any = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if hint is None or hint is type(None):
        return value is None
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str)
    container = origin or hint
    if not isinstance(container, type):
        return True  # a type variable, a name that could not be resolved
    if isinstance(value, dict):
        return issubclass(dict, container)
    if isinstance(value, list):
        return _list_fits(value, container, parts)
    return isinstance(value, container) and not isinstance(value, str)


def _list_fits(value: list[Any], container: type, parts: tuple[Hint, ...]) -> bool:
    if not (issubclass(list, container) or issubclass(tuple, container)):
        return False
    if issubclass(container, tuple) and parts and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(fits, value, parts))
    return not parts or all(fits(item, parts[0]) for item in value)


def describe(hint: Hint) -> str:
    """Say in words what fits a hint.

    Examples:
        >>> describe(float | None), describe(Literal["a", "b"]), describe(list[int])
        ('a number or null', "one of 'a', 'b'", 'a list of whole numbers')
    """
    origin: Any = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin in (Union, types.UnionType):
        plain = [part for part in parts if not inspect.isclass(part) or part in SIMPLE]
        shown = [describe(part) for part in plain or parts]  # YAML can give no Tensor
        return " or ".join(dict.fromkeys(shown))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts)) if len(parts) > 1 else repr(parts[0])
    if hint is None or hint is type(None):
        return "null"
    if hint in PLAIN:
        return PLAIN[hint]
    container = origin or hint
    if isinstance(container, type) and issubclass(dict, container):
        return "a mapping"
    if isinstance(container, type) and (issubclass(list, container) or container is tuple):
        inner = {int: " of whole numbers", float: " of numbers", str: " of texts"}
        if container is tuple and parts and parts[-1] is not Ellipsis:
            return f"a list of {len(parts)}"
        return "a list" + (inner.get(parts[0], "") if parts else "")
    return getattr(container, "__name__", str(container))


@dataclass(frozen=True)
class Argument:
    """One argument of a target: its hint, and whether it must be given."""

    hint: Hint
    required: bool


@dataclass(frozen=True)
class Signature:
    """What a target takes; ``open`` when it swallows any keyword."""

    arguments: Mapping[str, Argument]
    open: bool


def resolve(name: str) -> Callable[..., Any]:
    """Return the class or function of a dotted name.

    Raises:
        MmeqError: when the name is not allowed, or leads nowhere; names the nearest.
    """
    if not name.startswith(ALLOWED):
        raise MmeqError(
            f"{name!r} is not allowed; a target starts with one of: {', '.join(ALLOWED)}"
        )
    module_name, _, attribute = name.rpartition(".")
    try:
        module: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise MmeqError(f"{name!r} needs the package {error.name!r}") from error
        raise MmeqError(f"{name!r}: there is no module {error.name!r}") from error
    target = getattr(module, attribute, None)
    if not callable(target):
        public = [key for key, item in vars(module).items() if inspect.isclass(item)]
        raise MmeqError(f"{module_name!r} has no {attribute!r}" + did_you_mean(attribute, public))
    return typing.cast("Callable[..., Any]", target)


def signature(target: Callable[..., Any]) -> Signature:
    """Return what a class or function takes.

    Where a class passes ``**kwargs`` on, the arguments of its bases are taken in too.
    """
    if not inspect.isclass(target):
        return _read(target, skip_first=False)
    arguments: dict[str, Argument] = {}
    for base in target.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        found = _read(vars(base)["__init__"], skip_first=True)
        arguments = {**found.arguments, **arguments}
        if not found.open:
            return Signature(arguments, open=False)
    return Signature(arguments, open=bool(arguments))


def _read(function: Callable[..., Any], *, skip_first: bool) -> Signature:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        hints = {}  # a name that exists for type checkers only
    arguments, open_ = {}, False
    for place, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ = True
        elif parameter.kind is not parameter.VAR_POSITIONAL and not (skip_first and place == 0):
            arguments[name] = Argument(
                hint=hints.get(name, Any), required=parameter.default is parameter.empty
            )
    return Signature(arguments, open_)
