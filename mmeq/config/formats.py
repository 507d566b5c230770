"""How media are read for a backbone: what its encoders need goes before what the dataset says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmeq.config.signatures import resolve
from mmeq.errors import MmeqError

Tree = dict[str, Any]


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
        MmeqError: the model cannot be found, or needs what its kind of media does not have.
    """
    changed: dict[str, dict[str, Any]] = {}
    for name, format in getattr(dataset, "formats", {}).items():
        node = backbone["encoders"].get(dataset.kinds[name])
        if node is None:
            continue  # said by name elsewhere
        needs = getattr(resolve(node["_target_"]), "needs", None)
        if needs is None:
            continue
        options = {key: value for key, value in node.items() if key != "_target_"}
        wanted = needs(dataset.kinds[name], **options)
        known = vars(format)
        if odd := sorted(set(wanted) - set(known)):
            raise MmeqError(
                f"backbone.encoders.{dataset.kinds[name]} needs {odd[0]}={wanted[odd[0]]} of "
                f"modality {name!r}, which {type(format).__name__} does not have"
            )
        fields = {key: value for key, value in wanted.items() if known[key] != value}
        if fields:
            dataset.formats[name] = replace(format, **fields)
            changed[name] = fields
    return changed
