"""What every fusion answers: logits of any coalition of modalities, from features encoded once.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions, K orders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from mmeq.device import carried, on_host
from mmeq.errors import MmeqError, did_you_mean
from mmeq.fusions.moments import RunningMoments
from mmeq.fusions.orders import Orders
from mmeq.fusions.tree import present_on

Absence = Literal["mean", "zero", "token", "input"]


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

    Attributes:
        ordered: logits depend on the order in which modalities enter.
        compiled: `run` compiles.
    """

    ordered: ClassVar[bool] = False
    compiled = False

    def __init__(self, modalities: int, dim: int, classes: int, prior: Tensor) -> None:
        super().__init__()
        self.modalities, self.dim, self.classes = modalities, dim, classes
        self.log_prior_C: Tensor
        self.register_buffer("log_prior_C", prior.float().clamp_min(1e-12).log())

    wants_zero_input = False

    @abstractmethod
    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C] of non-empty coalitions of samples that have every modality."""

    def run(self, part: Callable[..., Tensor], *tensors: Any) -> Tensor:  # noqa: ANN401 - its own
        """Call a function of this class on tensors: as it is, or compiled where that was asked for.

        For parts whose computation depends on the shapes of tensors alone, not on coalitions or
        orders, so that each is compiled a few times at most. Fusions that are a product or two have
        nothing to gain.
        """
        return (_compiled(part) if self.compiled else part)(self, *tensors)

    def fuse_each(
        self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders
    ) -> Tensor:
        """Like `fuse`, each order by itself: [K, S, B, C]; equal ones where there is no order."""
        logits_SBC = self.fuse(features, coalitions_SM, orders)
        return logits_SBC.expand(len(orders), *logits_SBC.shape)

    def observe(self, features: Sequence[Tensor], present_BM: Tensor | None) -> None:
        """Update running statistics from one training batch; called once a batch, before `fuse`."""

    def settle(self) -> None:
        """Finish what the next `observe` would; called on all ranks when an epoch's training ends.

        A rank alone must hold nothing then, since checkpoints keep what the first rank holds.
        """

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
            present_BM: bool [B, M], or None when no sample lacks anything. Read on the host: one
                of a batch, or from `mmeq.device.carried`, is read without waiting for the device.
        """
        if orders is None:
            orders = (tuple(range(self.modalities)),)
        return self._by_pattern(False, features, coalitions_SM, orders, present_BM)

    def per_order(
        self,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        orders: Orders,
        present_BM: Tensor | None = None,
    ) -> Tensor:
        """Return the logits under each order by itself, [K, S, B, C], from one walk.

        Their mean over K is what `forward` returns for the same orders, since readouts are linear.
        Arguments as of `forward`.
        """
        return self._by_pattern(True, features, coalitions_SM, orders, present_BM)

    def alone(self, features: Sequence[Tensor], present_BM: Tensor | None = None) -> Tensor:
        """Each modality's own logits [M, B, C]: what {m} answers.

        A fusion whose logits are a sum over modalities gives its terms instead, the bias shared
        equally, so that they add up to the fused logits. Without the modality: the prior.
        """
        own_MBC = self.terms(features)
        if own_MBC is None:
            identity_MM = torch.eye(self.modalities, dtype=torch.bool)
            return self(features, identity_MM, None, present_BM)
        if present_BM is None:
            return own_MBC
        return torch.where(present_BM.T[..., None], own_MBC, self.log_prior_C.to(own_MBC))

    def terms(self, features: Sequence[Tensor]) -> Tensor | None:
        """The additive terms of the fused logits, [M, B, C]; None where they do not add."""
        return None

    def _by_pattern(
        self,
        each: bool,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        orders: Orders,
        present_BM: Tensor | None,
    ) -> Tensor:
        """Answer samples that lack the same modalities together: [..., S, B, C].

        `each`: every order by itself, an axis in front.
        """
        if present_BM is None:
            return self._complete(each, features, coalitions_SM, orders)
        patterns, inverse_B, sizes = torch.unique(
            on_host(present_BM), dim=0, return_inverse=True, return_counts=True
        )
        sorted_B = inverse_B.argsort(stable=True)
        rows_B, back_B = carried(torch.stack([sorted_B, sorted_B.argsort()]), features[0].device)
        parts = []
        for pattern_M, row in zip(patterns, rows_B.split(sizes.tolist()), strict=True):
            part = [feature.index_select(0, row) for feature in features]
            parts.append(self._complete(each, part, coalitions_SM & pattern_M, orders))
        return torch.cat(parts, dim=-2).index_select(-2, back_B)

    def _complete(
        self, each: bool, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders
    ) -> Tensor:
        """Answer empty coalitions by the prior and leave the others to `fuse` or `fuse_each`."""
        fuse = self.fuse_each if each else self.fuse
        filled_S = coalitions_SM.any(dim=1)
        if bool(filled_S.all()):
            return fuse(features, coalitions_SM, orders)
        batch = features[0].shape[0]
        orders_K = (len(orders),) if each else ()
        prior = self.log_prior_C.expand(*orders_K, 1, batch, self.classes)
        if not bool(filled_S.any()):
            return prior.expand(*orders_K, len(filled_S), -1, -1)
        logits = torch.cat([prior, fuse(features, coalitions_SM[filled_S], orders)], dim=-3)
        # row 0 is the prior; the k-th non-empty coalition is row k
        return logits[..., carried(filled_S.cumsum(0) * filled_S, logits.device), :, :]


class FillingFusion(Fusion):
    """Base of fusions that cannot skip a modality: an absent one is replaced by a constant.

    Args:
        absence: ``mean`` the running mean feature of the modality over training batches,
            ``zero`` zeros, ``token`` a learned vector (useful when absence occurs in training),
            ``input`` what the modality's encoder makes of an input of zeros.
    """

    def __init__(
        self, modalities: int, dim: int, classes: int, prior: Tensor, absence: Absence = "mean"
    ) -> None:
        super().__init__(modalities, dim, classes, prior)
        if absence not in get_args(Absence):
            raise MmeqError(
                f"fusion.absence={absence!r} is unknown{did_you_mean(absence, get_args(Absence))}"
            )
        self.absence = absence
        if absence == "mean":
            self.moments = RunningMoments(modalities, dim, cross=False)
        if absence == "token":
            self.token_MD = nn.Parameter(torch.zeros(modalities, dim))
        self.zero_input_MD: Tensor | None = None

    def observe(self, features: Sequence[Tensor], present_BM: Tensor | None) -> None:
        """Update the mean features."""
        if self.absence == "mean":
            self.moments.update(features, present_BM)

    @property
    def wants_zero_input(self) -> bool:
        """The loop shall encode an input of zeros with each encoder: `see_zero_input`."""
        return self.absence == "input"

    def see_zero_input(self, features_MD: Tensor) -> None:
        """Take what the encoders make of zeros now; it changes with every step of theirs."""
        self.zero_input_MD = features_MD

    def filler(self) -> Tensor:
        """What stands for an absent modality: [M, D]."""
        if self.absence == "mean":
            return self.moments.mean_MD
        if self.absence == "token":
            return self.token_MD
        if self.absence == "input":
            if self.zero_input_MD is None:
                raise RuntimeError("absence=input: the loop has not encoded an input of zeros")
            return self.zero_input_MD
        return self.log_prior_C.new_zeros(self.modalities, self.dim)

    def fill(self, features: Sequence[Tensor], coalitions_SM: Tensor) -> Tensor:
        """Features [S, M, B, D] with absent modalities replaced."""
        features_MBD = torch.stack(tuple(features))
        present = present_on(coalitions_SM, features_MBD.device).bool()[:, :, None, None]
        return torch.where(present, features_MBD, self.filler()[:, None, :].to(features_MBD.dtype))


@lru_cache
def _compiled(part: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(part)


def per_modality(weight_MCD: Tensor, features: Sequence[Tensor]) -> Tensor:
    """Apply modality m's own linear map to its features: M × [B, D] → [M, B, C]."""
    return torch.bmm(torch.stack(tuple(features)), weight_MCD.mT)


def mixed(weight_SE: Tensor, terms_EBC: Tensor) -> Tensor:
    """Weighted sums of terms, one a coalition, as one product: [S, E], [E, B, C] → [S, B, C]."""
    mixed_SX = weight_SE.to(terms_EBC) @ terms_EBC.flatten(1)
    return mixed_SX.unflatten(1, terms_EBC.shape[1:])


def linear_init(modalities: int, classes: int, dim: int, fan_in: int) -> nn.Parameter:
    """A weight [M, C, D] initialised like ``nn.Linear(fan_in, C)``."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(modalities, classes, dim).uniform_(-bound, bound))
