"""Builds the dataset alone from a configuration, for mains that train nothing."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from mmeq.config.combinations import dry, roots
from mmeq.config.formats import fit_formats
from mmeq.config.instantiate import instantiate
from mmeq.config.paths import groups
from mmeq.config.schema import SUPPLIED
from mmeq.config.validate import missing, plain_tree, target
from mmeq.errors import MmeqError


def dataset_of(cfg: DictConfig) -> Any:  # noqa: ANN401 - what the node names
    """Check and build ``cfg.dataset``; no data are read.

    Args:
        cfg: with ``dataset``, and ``data_root`` and ``prepared`` (texts or null), which the dataset
            is given if it takes them; with ``backbone``, whose encoders may need media in another
            form than the dataset's own.

    Raises:
        MmeqError: no dataset is named, or an option of it is unknown, mistyped, missing or refused;
            lists all that is wrong.
    """
    tree = plain_tree(cfg)
    if tree.get("dataset") in (None, "???"):
        names = ", ".join(groups()["dataset"])
        raise MmeqError(f"dataset is missing: give dataset=<name> (one of: {names})")
    problems = [
        f"{key}={tree[key]!r} does not fit: give the path of a folder"
        for key in ("data_root", "prepared")
        if not isinstance(tree.get(key), str | None)
    ]
    node = tree["dataset"]
    problems += missing(node, "dataset")
    problems += target(node, "dataset", SUPPLIED["dataset"])
    dataset = None
    if not problems:
        dataset = dry(problems, "dataset", lambda: instantiate(node, **roots(tree)))
    if problems:
        unique = list(dict.fromkeys(problems))
        head = [] if len(unique) == 1 else [f"{len(unique)} mistakes in the configuration:"]
        raise MmeqError("\n  - ".join([*head, *unique]))
    backbone = tree.get("backbone")
    if backbone is not None:
        fit_formats(dataset, backbone)
    return dataset
