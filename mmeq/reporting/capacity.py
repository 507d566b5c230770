"""EDM against capacity, where runs of each modality alone are at hand."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mmeq.reporting.runs import Replicate, Run

SIGNS = {"accuracy": 1.0, "macro_f1": 1.0, "nll": -1.0}
"""Metrics of a game whose value for a run of one modality is in its results; nll: less is more."""


class Capacities:
    """What models of one modality reach, by modality and (seed, split_seed).

    False where there is no such run.

    Args:
        runs: all runs of one table, those of one modality among them.

    Attributes:
        remarks: why a modality was left out.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.alone: dict[tuple[str, Replicate], list[Run]] = {}
        for run in runs:
            if run.alone is not None:
                self.alone.setdefault((run.alone, run.replicate), []).append(run)
        several = sorted({name for (name, _), found in self.alone.items() if len(found) > 1})
        self.remarks = [
            f"EDM against capacity is left out: there are several rows of {name} alone."
            for name in several
        ]
        self._skipped = bool(several)

    def __bool__(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.alone) and not self._skipped

    def edm(self, run: Run) -> float | None:
        """EDM against capacity of a fused run (`mmeq.game.edm_capacity`), in percent.

        The capacity of a modality is the value above that of the empty coalition, in the metric of
        the game, which the model trained on it alone with the same seeds reaches on the test part.

        Args:
            run: of several modalities.

        Returns:
            None where it is undefined or a modality has no such run.
        """
        sign, phi = SIGNS.get(run.game), [run.phi[name] for name in run.modalities]
        found = [self.alone.get((name, run.replicate)) for name in run.modalities]
        if sign is None or run.empty is None or None in phi:
            return None
        reached = [runs[0].numbers[run.game] if runs else None for runs in found]
        if None in reached:
            return None
        import torch

        from mmeq.game import edm_capacity

        capacity = torch.tensor([sign * ((r or 0.0) - run.empty) for r in reached])
        value = edm_capacity(torch.tensor(phi), capacity, warn=False).item()
        return None if math.isnan(value) else value
