"""What every fusion answers: logits of any coalition of modalities, from features encoded once.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmeq.errors import MmeqError
from mmeq.fusions.moments import RunningMoments
from mmeq.fusions.orders import Orders

Absence = Literal["mean", "zero", "token"]


class Fusion(nn.Module, ABC):
    """Base of all fusions: features of M modalities → logits of S coalitions.

    A subclass writes `fuse`, which sees non-empty coalitions of complete samples only. This class
    adds what holds for all of them:

    - the empty coalition answers the best constant predictor, the log of the training classes'
      frequencies [ours]: a network fed with zeros is no empty coalition;
    - a sample that lacks modalities (``present``) gets, for each coalition S, exactly the logits
      of S ∩ present: absent is skipped, not imputed twice.

    Args:
        modalities: M.
        dim: D, the common width of the encoders.
        classes: C.
        prior: [C] class frequencies of the training part.
    """

    def __init__(self, modalities: int, dim: int, classes: int, prior: Tensor) -> None:
        super().__init__()
        self.modalities, self.dim, self.classes = modalities, dim, classes
        self.log_prior_C: Tensor
        self.register_buffer("log_prior_C", prior.float().clamp_min(1e-12).log())

    @abstractmethod
    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C] of non-empty coalitions of samples that have every modality."""

    def observe(self, features: Sequence[Tensor], present_BM: Tensor | None) -> None:
        """Update running statistics from one training batch; called once a batch, before `fuse`."""

    def forward(
        self,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        orders: Orders | None = None,
        present_BM: Tensor | None = None,
    ) -> Tensor:
        """Return logits [S, B, C], one row a coalition.

        Args:
            features: M tensors [B, D], each with its graph or detached.
            coalitions_SM: bool [S, M], on the CPU: it is structure, not data.
            orders: the orders to average over, where the fusion has one; default 0..M-1.
            present_BM: bool [B, M], or None when no sample lacks anything.
        """
        if orders is None:
            orders = (tuple(range(self.modalities)),)
        if present_BM is None:
            return self._complete(features, coalitions_SM, orders)
        patterns, inverse_B = torch.unique(present_BM, dim=0, return_inverse=True)
        rows, parts = [], []
        for number, pattern_M in enumerate(patterns.cpu()):
            row = (inverse_B == number).nonzero().squeeze(1)
            rows.append(row)
            part = [feature[row] for feature in features]
            parts.append(self._complete(part, coalitions_SM & pattern_M, orders))
        return torch.cat(parts, dim=1)[:, torch.cat(rows).argsort()]

    def _complete(
        self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders
    ) -> Tensor:
        """Answer empty coalitions by the prior and leave the others to `fuse`."""
        filled_S = coalitions_SM.any(dim=1)
        if bool(filled_S.all()):
            return self.fuse(features, coalitions_SM, orders)
        batch = features[0].shape[0]
        prior = self.log_prior_C.expand(1, batch, self.classes)
        if not bool(filled_S.any()):
            return prior.expand(len(filled_S), -1, -1)
        logits = torch.cat([prior, self.fuse(features, coalitions_SM[filled_S], orders)])
        # row 0 is the prior; the k-th non-empty coalition is row k
        return logits[(filled_S.cumsum(0) * filled_S).to(logits.device)]


class FillingFusion(Fusion):
    """Base of fusions that cannot skip a modality: an absent one is replaced by a constant.

    Args:
        absence: ``mean`` the running mean feature of the modality over training batches,
            ``zero`` zeros, ``token`` a learned vector (useful when absence occurs in training).
    """

    def __init__(
        self, modalities: int, dim: int, classes: int, prior: Tensor, absence: Absence = "mean"
    ) -> None:
        super().__init__(modalities, dim, classes, prior)
        if absence not in ("mean", "zero", "token"):
            raise MmeqError(f"fusion.absence={absence!r}: use mean, zero or token")
        self.absence = absence
        if absence == "mean":
            self.moments = RunningMoments(modalities, dim, cross=False)
        if absence == "token":
            self.token_MD = nn.Parameter(torch.zeros(modalities, dim))

    def observe(self, features: Sequence[Tensor], present_BM: Tensor | None) -> None:
        """Update the mean features."""
        if self.absence == "mean":
            self.moments.update(features, present_BM)

    def filler(self) -> Tensor:
        """What stands for an absent modality: [M, D]."""
        if self.absence == "mean":
            return self.moments.mean_MD
        if self.absence == "token":
            return self.token_MD
        return self.log_prior_C.new_zeros(self.modalities, self.dim)

    def fill(self, features: Sequence[Tensor], coalitions_SM: Tensor) -> Tensor:
        """Features [S, M, B, D] with absent modalities replaced."""
        features_MBD = torch.stack(tuple(features))
        present = coalitions_SM.to(features_MBD.device)[:, :, None, None]
        return torch.where(present, features_MBD, self.filler()[:, None, :].to(features_MBD.dtype))


def per_modality(weight_MCD: Tensor, features: Sequence[Tensor]) -> Tensor:
    """Apply modality m's own linear map to its features: M × [B, D] → [M, B, C]."""
    return torch.stack([f @ w.T for f, w in zip(features, weight_MCD, strict=True)])


def linear_init(modalities: int, classes: int, dim: int, fan_in: int) -> nn.Parameter:
    """A weight [M, C, D] initialised like ``nn.Linear(fan_in, C)``."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(modalities, classes, dim).uniform_(-bound, bound))
