"""How media are read for a backbone: what its encoders need goes before what the dataset says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmeq.config.signatures import resolve
from mmeq.errors import MmeqError


def fit_formats(dataset: Any, backbone: Mapping[str, Any]) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    """Set the fields of a dataset's media formats that the encoders ask for, in place.

    An encoder class may have ``needs(kind, **options) -> dict``: fields of the format that its
    model was trained with, such as the sampling rate or the size of pictures.

    Args:
        dataset: built, not read; one without media is left as it is.
        backbone: its section of the configuration.

    Returns:
        Modality → fields that were changed, with the new values.

    Raises:
        MmeqError: models cannot be found, or need what their kind of media does not have; lists
            all that is wrong.
    """
    changed: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for name, format in getattr(dataset, "formats", {}).items():
        node = backbone["encoders"].get(dataset.kinds[name])
        if node is None:
            continue  # said by name elsewhere
        try:
            fields = _asked(name, dataset.kinds[name], format, node)
        except MmeqError as error:
            problems.append(str(error))
            continue
        if fields:
            dataset.formats[name] = replace(format, **fields)
            changed[name] = fields
    if problems:
        unique = list(dict.fromkeys(problems))
        head = [] if len(unique) == 1 else [f"{len(unique)} encoders cannot be had:"]
        raise MmeqError("\n  - ".join([*head, *unique]))
    return changed


def _asked(name: str, kind: str, format: Any, node: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Fields of a modality's format that its encoder wants otherwise than they are."""
    needs = getattr(resolve(node["_target_"]), "needs", None)
    if needs is None:
        return {}
    options = {key: value for key, value in node.items() if key != "_target_"}
    wanted, known = needs(kind, **options), vars(format)
    if odd := sorted(set(wanted) - set(known)):
        raise MmeqError(
            f"backbone.encoders.{kind} needs {odd[0]}={wanted[odd[0]]} of modality {name!r}, which "
            f"{type(format).__name__} does not have"
        )
    return {key: value for key, value in wanted.items() if known[key] != value}
