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
        self._names: tuple[str, ...] = ()
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}
        self._bad: dict[str, Tensor] = {}
        self._batch = 0

    def add(self, losses: dict[str, Tensor], samples: float) -> None:
        """Take in one batch's losses, detached scalars, in the order in which they arose.

        Args:
            losses: of this rank; their mean over ranks is what counts.
            samples: of the batch, the mean over ranks.
        """
        for name, loss in losses.items():
            value = loss.detach().float()
            bad = torch.where(torch.isfinite(value), torch.inf, float(self._batch))
            if name in self._sums:
                self._sums[name] = self._sums[name] + value * samples
                self._bad[name] = torch.minimum(self._bad[name], bad)
            else:
                self._sums[name], self._bad[name] = value * samples, bad
            self._counts[name] = self._counts.get(name, 0) + samples
        # later names of a batch come after earlier ones: the first bad loss is the cause
        self._names = tuple(losses) + tuple(n for n in self._sums if n not in losses)
        self._batch += 1

    def summary(self) -> tuple[dict[str, float], tuple[str, int] | None]:
        """Return the means over all ranks' samples, and the first bad loss of any rank.

        The bad loss is given as its name and batch, or None. A collective: call it on every rank.
        """
        if not self._sums:
            return {}, None
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name].double() for name in names]).tolist()
        table = [[(s, self._counts[name]) for s, name in zip(sums, names, strict=True)]]
        bad = [self._first_bad()]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, (table[0], bad[0]))
            table, bad = [part for part, _ in gathered], [part for _, part in gathered]
        means = {
            name: sum(part[k][0] for part in table) / sum(part[k][1] for part in table)
            for k, name in enumerate(names)
        }
        found = [entry for entry in bad if entry is not None]
        if not found:
            return means, None
        batch, _, name = min(found)
        return means, (name, int(batch))

    def _first_bad(self) -> tuple[float, int, str] | None:
        """Batch, place in the batch and name of this rank's first bad loss."""
        return min(
            (
                (batch, place, name)
                for place, name in enumerate(self._names)
                if (batch := float(self._bad[name])) != float("inf")
            ),
            default=None,
        )
