"""What the options of formats have in common: numbers that make sense, refused by name."""

from __future__ import annotations

import math

from mmeq.errors import MmeqError


def whole(option: str, value: object, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number within limits.

    Args:
        option: its name, after ``dataset.``.
        value: of the option.
        least: allowed.
        most: allowed; None: no limit.

    Raises:
        MmeqError: names option, value and limits.

    Examples:
        >>> whole("video.frames", 3, 1)
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):  # type: ignore[operator]
        limits = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise MmeqError(f"dataset.{option}={value}: give a whole number {limits}")


def number(option: str, value: object, above: float | None = 0.0) -> None:
    """Refuse what is no finite number above a limit.

    Args:
        option: its name, after ``dataset.``.
        value: of the option.
        above: the number must be greater; None: any.

    Raises:
        MmeqError: names option, value and limit.

    Examples:
        >>> number("audio.seconds", 10.24)
    """
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or (above is not None and value <= above):  # type: ignore[operator]
        limit = "" if above is None else f" above {above:g}"
        raise MmeqError(f"dataset.{option}={value}: give a number{limit}")


def flag(option: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        MmeqError: names option and value.

    Examples:
        >>> flag("video.augment", True)
    """
    if not isinstance(value, bool):
        raise MmeqError(f"dataset.{option}={value}: give true or false")
