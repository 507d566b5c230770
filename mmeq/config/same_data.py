"""Whether the data are those that a run was trained on: checkpoints tell a hash of each part.

A table that grew may be cut anew, and samples that were trained on would then be tested.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmeq.config import runs, whole
from mmeq.config.hold import child_rank
from mmeq.errors import MmeqError

if TYPE_CHECKING:
    from mmeq.model import MultimodalModel

LEARNT = ("train", "validation")
"""Parts that weights were trained on or chosen by."""


def changed_parts(module: MultimodalModel, checkpoint: Mapping[str, Any]) -> list[str]:
    """Return the parts that have other samples or labels now; none of an older checkpoint."""
    kept, now = checkpoint.get("mmeq_samples"), module.samples
    if kept is None or now is None:
        return []
    return [part for part in now if kept[part] != now[part]]


def check_resumed(module: MultimodalModel, folder: Path) -> None:
    """Refuse to go on with a run over other samples, before anything in its folder changes.

    Args:
        module: built on the data as they are.
        folder: of the resumed run.

    Raises:
        MmeqError: names the parts that have changed.
    """
    import torch

    if child_rank():  # the first rank has looked
        return
    places = (folder / "checkpoints" / name for name in (runs.LAST, runs.BEFORE))
    path = next((one for one in places if one.is_file() and whole.damage(one) is None), None)
    if path is None:  # it begins anew
        return
    told = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if odd := changed_parts(module, told):
        raise MmeqError(
            f"resume={folder}: the data have changed since the run began (other samples or labels "
            f"in {', '.join(odd)}), so it may test what it was trained on: put the data back as "
            "they were, or begin another run"
        )


def check_looked_at(
    module: MultimodalModel, checkpoint: Mapping[str, Any], path: Path, *, wanted: bool
) -> None:
    """Refuse to measure weights on parts that may hold what they were trained on or chosen by.

    Other samples in the test part alone are a warning, and so is every change where other data are
    asked for.

    Args:
        module: built on the data as they are.
        checkpoint: what was loaded.
        path: its file.
        wanted: an option names other data than the run's.

    Raises:
        MmeqError: names the parts that have changed.
    """
    odd = changed_parts(module, checkpoint)
    what = (
        f"checkpoint={path}: the data have changed since the training (other samples or labels in "
        f"{', '.join(odd)})"
    )
    if set(odd) & set(LEARNT) and not wanted:
        raise MmeqError(
            f"{what}, so what it was trained on may be evaluated: put the data back as they were, "
            "or say by data_root= that these are other data"
        )
    if odd:
        warnings.warn(f"{what}: its own results were made on others", stacklevel=2)
