"""The one error that a user is meant to see, and the nearest valid name for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MANY = 24
"""More names than this are not all listed in an error."""


class MmeqError(ValueError):
    """A mistake in what the user gave: says what, which value, and what would be right.

    The mains print its message without a traceback and leave with exit status 2.
    """


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest option, or list them all when none is near.

    Examples:
        >>> did_you_mean("memori", ["memory", "concat"])
        "; did you mean 'memory'? (one of: concat, memory)"
        >>> did_you_mean("zzz", ["memory", "concat"])
        ' (one of: concat, memory)'
    """
    known = sorted(str(option) for option in options)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if len(known) > MANY:
        closest = difflib.get_close_matches(str(name), known, n=5, cutoff=0.0)
        return f"{hint} (nearest of {len(known)}: {', '.join(closest)})"
    return f"{hint} (one of: {', '.join(known)})" if known else hint
