"""The cross-modal memory: correlation alignment and an LSTM-like gate, chained along an order.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions, K orders, P prefixes or
pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.collective import add_over_ranks, whole_batch
from mmeq.errors import MmeqError
from mmeq.fusions.base import Fusion, linear_init, per_modality
from mmeq.fusions.moments import RunningMoments
from mmeq.fusions.orders import Orders
from mmeq.fusions.tree import Level, Tree, coalition_tree

Align = Literal["none", "feature", "sample", "both"]


class Memory(Fusion):
    """Cross-modal memory with additive unimodal evidence.

    Alignment of modality j to the one before it, i [paper: a correlation matrix aligns the
    stronger modality's features to the weaker one's space, at feature and at sample level;
    formulas ours]. Z are features standardised by running statistics, C_ij = Z_jᵀZ_i/B their
    running correlation:

    - feature level: X̂_j = σ_i ⊙ rms(Z_j C_ij) + μ_i, each row scaled to mean square 1 so that its
      size does not grow with D, then put into i's space;
    - sample level: X̂_j ← R X̂_j, R = cosines between the batch's rows of Z_i, those below
      `threshold` dropped, rows summing to 1; in training only. The batch is that of all ranks.

    a = h_j + X̂_j (``keep=true``) or X̂_j (``keep=false``); ``align=none``: a = h_j.

    Cell [paper: an LSTM-like unit, whose forget gate scales the weak modality's features, input
    gate admits the aligned strong ones, output gate controls the result; equations ours]. From
    c = h = h_{π_1}, for each next modality of the order:

    - f, i, o = σ(W[c; a] + b), b_f = 1;
    - ``cell=residual``: c ← f⊙c + i⊙(a + G a), h = o⊙c;
    - ``cell=lstm``: c ← f⊙c + i⊙tanh(G a), h = o⊙tanh(c), from h = tanh(h_{π_1}).

    Readout [ours]: logits(S) = W·(mean of h over the orders of S) + Σ_{m∈S} W_m h_m + b;
    ``readout=memory`` leaves the sum away. An absent modality is skipped.

    All prefixes of one depth are one batch (`mmeq.fusions.tree`), and what depends on (i, j)
    alone is computed once a pair, so a cell costs one product of [B, D] with [D, 3D].

    Args:
        modalities: M.
        dim: D.
        classes: C.
        prior: [C] class frequencies of the training part.
        cell: ``residual`` or ``lstm``.
        align: levels of the alignment.
        keep: add the aligned features to the modality's own instead of replacing them.
        readout: ``both`` memory and unimodal evidence, or ``memory`` alone.
        inherit: the first modality enters through the cell too, from an initial state c_0, the
            running mean of the final states over all training samples (never per class, which
            would leak labels) [second-hand].
        threshold: of the cosines at sample level.
    """

    ordered: ClassVar[bool] = True

    def __init__(
        self,
        modalities: int,
        dim: int,
        classes: int,
        prior: Tensor,
        cell: Literal["residual", "lstm"] = "residual",
        align: Align = "feature",
        keep: bool = True,
        readout: Literal["both", "memory"] = "both",
        inherit: bool = False,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(modalities, dim, classes, prior)
        for option, value, known in (
            ("cell", cell, ("residual", "lstm")),
            ("align", align, ("none", "feature", "sample", "both")),
            ("readout", readout, ("both", "memory")),
        ):
            if value not in known:
                raise MmeqError(f"fusion.{option}={value!r}: use {', '.join(known)}")
        if not 0 <= threshold < 1:  # at 1 a sample would not even mix with itself
            raise MmeqError(f"fusion.threshold={threshold}: give a cosine from 0 to below 1")
        self.cell, self.align, self.keep = cell, align, keep
        self.inherit, self.threshold = inherit, threshold
        self.gate_state = nn.Linear(dim, 3 * dim)
        self.gate_input = nn.Linear(dim, 3 * dim, bias=False)
        self.candidate = nn.Linear(dim, dim)
        nn.init.ones_(self.gate_state.bias[:dim])
        self.readout_memory = nn.Linear(dim, classes)
        self.evidence_MCD = (
            linear_init(modalities, classes, dim, dim) if readout == "both" else None
        )
        if align != "none":
            self.moments = RunningMoments(modalities, dim)
        if inherit:
            self.initial_D: Tensor
            self.final_D: Tensor
            self.register_buffer("initial_D", torch.zeros(dim))
            self.register_buffer("final_D", torch.zeros(dim + 1))

    def observe(self, features: Sequence[Tensor], present_BM: Tensor | None) -> None:
        """Update the statistics of the alignment, and the initial state."""
        if self.align != "none":
            self.moments.update(features, present_BM)
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Move the initial state by the final states of the last batch, those of all ranks."""
        if self.inherit:
            add_over_ranks([self.final_D])
            total_D, count = self.final_D[:-1], self.final_D[-1]
            moved_D = torch.lerp(self.initial_D, total_D / count.clamp_min(1.0), 0.01)
            self.initial_D.copy_(torch.where(count > 0, moved_D, self.initial_D))
            self.final_D.zero_()

    def forward(
        self,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        orders: Orders | None = None,
        present_BM: Tensor | None = None,
    ) -> Tensor:
        """Logits [S, B, C]; where samples are mixed, those of all ranks are fused on each."""
        if not (self.training and self.align in ("sample", "both")):
            return super().forward(features, coalitions_SM, orders, present_BM)
        rows, present_NM, own = whole_batch(features, present_BM)
        return super().forward(rows, coalitions_SM, orders, present_NM)[:, own]

    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C]."""
        logits = self.readout_memory(self.represent(features, coalitions_SM, orders))
        return self._with_evidence(logits, features, coalitions_SM)

    def fuse_each(
        self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders
    ) -> Tensor:
        """Logits [K, S, B, C] under each order, from the same one walk as `fuse`.

        The readout is applied once a prefix: orders that begin alike share its answer.
        """
        tree = coalition_tree(coalitions_SM, orders, features[0].device)
        outputs = (output for _, output in self._walk(features, tree))
        logits_PBC = torch.cat([self.readout_memory(output) for output in outputs])
        return self._with_evidence(logits_PBC[tree.end_KS], features, coalitions_SM)

    def _with_evidence(
        self, logits: Tensor, features: Sequence[Tensor], coalitions_SM: Tensor
    ) -> Tensor:
        """Add the additive unimodal evidence to [..., S, B, C]."""
        if self.evidence_MCD is None:
            return logits
        evidence_MBC = per_modality(self.evidence_MCD, features)
        present_SM = coalitions_SM.to(evidence_MBC)
        return logits + torch.einsum("sm,mbc->sbc", present_SM, evidence_MBC)

    def represent(
        self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders
    ) -> Tensor:
        """The memory's output for each coalition, the mean over its orders: [S, B, D]."""
        total: Tensor | None = None
        tree = coalition_tree(coalitions_SM, orders, features[0].device)
        for level, output in self._walk(features, tree):
            part = torch.einsum("sp,pbd->sbd", level.mean_SP.to(output), output)
            total = part if total is None else total + part
        return total

    def _walk(self, features: Sequence[Tensor], tree: Tree) -> Iterator[tuple[Level, Tensor]]:
        """The outputs [P, B, D] of all prefixes, depth by depth."""
        inputs = self._cell_inputs(features, tree) if tree.pairs else None
        state = None
        for level in tree.levels:
            if state is None:
                state, output = self._start([features[m] for m in level.last])
            else:
                state, output = self._step(state[level.parent_P], inputs, level.step_P)
            yield level, output
        if self.inherit and self.training and len(tree.levels) == self.modalities:
            self._remember(state)

    def _start(self, first: list[Tensor]) -> tuple[Tensor, Tensor]:
        """State and output of the prefixes of length one: [P, B, D] each."""
        h_PBD = torch.stack(first)
        if self.inherit:
            inputs = (self.gate_input(h_PBD), self._admit(h_PBD))
            return self._step(self.initial_D.expand_as(h_PBD), inputs, slice(None))
        return h_PBD, h_PBD if self.cell == "residual" else torch.tanh(h_PBD)

    def _step(
        self, state_PBD: Tensor, inputs: tuple[Tensor, Tensor], step_P: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        """One cell for all prefixes of a depth: new state and output, [P, B, D] each."""
        gates = torch.sigmoid(self.gate_state(state_PBD) + inputs[0][step_P])
        forget, admit, out = gates.chunk(3, dim=-1)
        state_PBD = forget * state_PBD + admit * inputs[1][step_P]
        return state_PBD, out * (state_PBD if self.cell == "residual" else torch.tanh(state_PBD))

    def _admit(self, a_PBD: Tensor) -> Tensor:
        """What the input gate lets in."""
        candidate = self.candidate(a_PBD)
        return a_PBD + candidate if self.cell == "residual" else torch.tanh(candidate)

    def _cell_inputs(self, features: Sequence[Tensor], tree: Tree) -> tuple[Tensor, Tensor]:
        """What depends on (before, added) alone: gate terms [P, B, 3D], candidates [P, B, D]."""
        a_PBD = torch.stack([self._aligned(features, i, j) for i, j in tree.pairs])
        return self.gate_input(a_PBD), self._admit(a_PBD)

    def _aligned(self, features: Sequence[Tensor], i: int, j: int) -> Tensor:
        """Features of j, aligned to i: [B, D]."""
        own = features[j]
        if self.align == "none":
            return own
        mean, std = self.moments.mean_MD, self.moments.std_MD
        aligned = own
        if self.align in ("feature", "both"):
            z = (own - mean[j]) / std[j]
            aligned = F.rms_norm(
                z @ self.moments.corr_MMDD[i, j].to(z.dtype), (self.dim,), eps=1e-6
            )
            aligned = aligned * std[i] + mean[i]
        if self.align in ("sample", "both") and self.training:
            z = F.normalize((features[i].detach() - mean[i]) / std[i], dim=-1)
            cosine = z @ z.T
            mix = F.normalize(cosine * (cosine > self.threshold), p=1, dim=-1)
            aligned = mix.to(aligned.dtype) @ aligned
        return own + aligned if self.keep else aligned

    @torch.no_grad()
    def _remember(self, state_PBD: Tensor) -> None:
        """Add the final states to what the next `settle` moves the initial state towards.

        Summed here and shared between ranks there: how often a rank fuses depends on its gaps.
        """
        flat = state_PBD.detach().float().flatten(0, 1)
        self.final_D.add_(torch.cat([flat.sum(0), flat.new_full((1,), len(flat))]))
