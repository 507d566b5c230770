"""What a step of alternating training is judged by.

Shape suffixes: M modalities, S coalitions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from mmeq.game.report import GameReport
from mmeq.game.values import utility
from mmeq.methods.base import coalition_rows

Supervise = Literal["final", "sequential", "unimodal", "prefixes"]


@lru_cache(maxsize=256)
def targets(
    supervise: Supervise, weight: float, order: tuple[int, ...], place: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Coalitions [S, M], on the CPU, and their weights [S], on the device; made once."""
    count = len(order)
    prefixes = [order[: k + 1] for k in range(count)]
    if supervise == "final":
        sets, weights = [order], [1.0]
    elif supervise == "sequential":
        sets, weights = [prefixes[place]], [1.0]
    elif supervise == "unimodal":
        sets, weights = [order, (order[place],)], [1.0, weight]
    else:
        sets = prefixes[place:]
        weights = [1 / len(sets)] * len(sets)
    return coalition_rows(sets, count), torch.tensor(weights, device=device)


def capacity_share(report: GameReport) -> list[float]:
    """Return a_m / max a, a_m = max(v({m}) − v(∅), 0): what each modality tells alone, [M].

    Ones where no modality tells anything alone.
    """
    nothing = utility(report.values[report.value][0], report.higher_is_better)
    above_M = (report.alone - nothing).nan_to_num(0.0).clamp_min(0.0)
    most = float(above_M.max())
    return [1.0] * len(above_M) if most == 0 else (above_M / most).tolist()
