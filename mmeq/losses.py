"""Means of named losses over an epoch, kept on the device until the epoch ends."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class LossMeter:
    """Sample-weighted means of losses, and the first one that was not finite.

    Nothing is copied to the host until `summary` is called, so that a step never
    waits for the device. NaN stays in the mean: it is not skipped.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start an epoch."""
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._bad: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], float] = {}
        self._batch = 0

    def add(self, losses: dict[str, Tensor], samples: float) -> None:
        """Take in one batch's losses, detached scalars, in the order in which they arose.

        Args:
            losses: of this rank; their mean over ranks is what counts.
            samples: of the batch, the mean over ranks.
        """
        names = tuple(losses)
        if names:
            each = torch.stack([loss.detach().float() for loss in losses.values()])
            bad = torch.where(torch.isfinite(each), torch.inf, float(self._batch))
            if names in self._sums:
                self._sums[names] = torch.add(self._sums[names], each, alpha=samples)
                self._bad[names] = torch.minimum(self._bad[names], bad)
            else:
                self._sums[names], self._bad[names] = each * samples, bad
            self._counts[names] = self._counts.get(names, 0) + samples
        self._batch += 1

    def summary(self) -> tuple[dict[str, float], tuple[str, int] | None]:
        """Return the means over all ranks' samples, and the first bad loss of any rank.

        The bad loss is given as its name and batch, or None. A collective: call it on every rank.
        """
        if not self._sums:
            return {}, None
        found: dict[str, tuple[float, float]] = {}
        for group, sums in self._sums.items():
            for name, total in zip(group, sums.double().tolist(), strict=True):
                before = found.get(name, (0.0, 0.0))
                found[name] = before[0] + total, before[1] + self._counts[group]
        names = sorted(found)
        table = [[found[name] for name in names]]
        bad = [self._first_bad()]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, (table[0], bad[0]))
            table, bad = [part for part, _ in gathered], [part for _, part in gathered]
        means = {
            name: sum(part[k][0] for part in table) / sum(part[k][1] for part in table)
            for k, name in enumerate(names)
        }
        first = [entry for entry in bad if entry is not None]
        if not first:
            return means, None
        batch, _, name = min(first)
        return means, (name, int(batch))

    def _first_bad(self) -> tuple[float, int, str] | None:
        """Batch, place in the batch and name of this rank's first bad loss."""
        return min(
            (
                (batch, place, name)
                for group, bad in self._bad.items()
                for place, (name, batch) in enumerate(zip(group, bad.tolist(), strict=True))
                if batch != float("inf")
            ),
            default=None,
        )
