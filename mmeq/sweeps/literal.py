"""Values as Hydra's grammar writes them."""

from __future__ import annotations

from typing import Any


def literal(value: Any) -> str:  # noqa: ANN401 - any YAML value
    r"""Return a value as the right side of an override.

    Args:
        value: None, a truth value, a number, a text, or lists and mappings of such.

    Examples:
        >>> literal([None, True, 3e-4, "a b", {"rate": 1}])
        "[null,true,0.0003,'a b',{rate:1}]"
        >>> print(literal("it's"), literal("a\\"))
        'it\'s' 'a\\'
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(one)}' for key, one in value.items())}}}"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    # a backslash is itself, but before a quote, and at the end
    parts = text.split("'")
    doubled = [part + "\\" * (len(part) - len(part.rstrip("\\"))) for part in parts]
    return "'" + "\\'".join(doubled) + "'"
