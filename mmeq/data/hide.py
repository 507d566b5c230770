"""A missing pattern that an evaluation puts upon a trained run's data.

Shape suffixes: N samples, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmeq.data.manifest import Manifest
from mmeq.data.missing import draw_kept
from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.missing import rates_by_name


def check_pattern(
    missing: Iterable[str], rate: float | Mapping[str, Any], seed: int, names: Sequence[str]
) -> None:
    """Refuse a pattern that no samples of these modalities could have.

    Args:
        missing: modalities to hide of all samples.
        rate: probability to hide each of the others, or modality → probability.
        seed: of the draws.
        names: modalities of the run.

    Raises:
        MmeqError: names the option and what would be right.
    """
    hidden = [str(name) for name in missing]
    for name in hidden:
        if name not in names:
            raise MmeqError(
                f"missing=[{','.join(hidden)}]: the run has no modality {name!r}"
                + did_you_mean(name, names)
            )
    if set(hidden) == set(names):
        raise MmeqError(f"missing=[{','.join(hidden)}] hides every modality: keep at least one")
    rates_by_name("missing_rate", rate, names)
    if seed < 0:
        raise MmeqError(f"missing_seed={seed}: expected 0 or more")


def kept_by(
    manifest: Manifest,
    missing: Iterable[str] = (),
    rate: float | Mapping[str, Any] = 0.0,
    seed: int = 0,
) -> Tensor:
    """Say what a missing pattern leaves of every sample: bool [N, M].

    Modalities in `missing` go from all samples. Of what is left each is hidden at random, one of
    them at least kept (`mmeq.data.missing.draw_kept`); the draws depend on the seed and the names
    of sample and modality alone, so that any split, batch size and machine sees the same.

    Args:
        manifest: the samples.
        missing: modalities to hide.
        rate: probability to hide each of the others, or modality → probability.
        seed: of the draws.
    """
    names, hidden = manifest.spec.names, set(missing)
    left_NM = manifest.present & torch.tensor([name not in hidden for name in names])
    rate_M = torch.tensor(rates_by_name("missing_rate", rate, names))
    return draw_kept(f"evaluation {seed}", manifest.ids, names, rate_M, left_NM)
