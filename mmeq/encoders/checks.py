"""What the options of encoders have in common: sizes that are too small make no network."""

from __future__ import annotations

from collections.abc import Mapping

from mmeq.errors import MmeqError


def check_sizes(kind: str, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse sizes that no layer can have.

    Args:
        kind: of the encoder's modality, for the name of the option.
        sizes: option → (value, least).

    Raises:
        MmeqError: names the option, its value and the least.

    Examples:
        >>> check_sizes("vector", {"hidden": (128, 1), "layers": (0, 0)})
    """
    for option, (value, least) in sizes.items():
        if value < least:
            raise MmeqError(f"backbone.encoders.{kind}.{option}={value}: give {least} or more")
