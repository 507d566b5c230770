"""Sum fusion: one linear head a modality, their logits added."""

from __future__ import annotations

from mmeq.fusions.concat import Concat


class Sum(Concat):
    """Sum of unimodal heads: o = Σ_m W_m h_m + b, an absent h_m replaced (see `absence`).

    The same functions as concat; the heads start at the scale of a layer of their own
    (fan-in D instead of M·D), which is what the field's sum fusions do.
    """

    def fan_in(self) -> int:
        """Inputs of one output unit, for the initial scale: one modality's features."""
        return self.dim
