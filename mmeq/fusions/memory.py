"""The cross-modal memory: correlation alignment and an LSTM-like gate, chained along an order.

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions, K orders, P prefixes of
one depth, Q pairs (before, added), E prefixes at which a coalition ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmeq.collective import add_over_ranks, whole_batch
from mmeq.errors import MmeqError
from mmeq.fusions.base import Fusion, linear_init, mixed
from mmeq.fusions.moments import RunningMoments
from mmeq.fusions.orders import Orders
from mmeq.fusions.tree import Rows, Tree, Walk, coalition_tree, take

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
    - ``cell=lstm``: c ← f⊙c + i⊙tanh(G a), h = o⊙tanh(c), from h = tanh(h_{π_1});
    - ``cell=ungated``: f = i = o = 1 in the residual cell, what the gates are worth.

    Readout [ours]: logits(S) = γ W·(mean of h over the orders of S) + Σ_{m∈S} W_m h_m + b, the W_m
    from the first weights of concat; ``readout=memory``: W·(mean of h) + b. An absent modality is
    skipped. Adam moves every weight equally far, however little it matters, so γ < 1 is how much
    slower the memory learns than the evidence: few samples of additive evidence are not lost on it.

    All prefixes of one depth are one batch (`mmeq.fusions.tree`), as are all pairs (i, j): what
    depends on them alone is computed once a pair, so a cell costs one product of [B, D] with
    [D, 3D].

    Args:
        modalities: M.
        dim: D.
        classes: C.
        prior: [C] class frequencies of the training part.
        cell: ``residual``, ``lstm`` or ``ungated``.
        align: levels of the alignment.
        keep: add the aligned features to the modality's own instead of replacing them.
        readout: ``both`` memory and unimodal evidence, or ``memory`` alone.
        gain: γ > 0, of the memory beside the evidence.
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
        cell: Literal["residual", "lstm", "ungated"] = "residual",
        align: Align = "feature",
        keep: bool = True,
        readout: Literal["both", "memory"] = "both",
        inherit: bool = False,
        threshold: float = 0.5,
        gain: float = 1.0,
    ) -> None:
        super().__init__(modalities, dim, classes, prior)
        for option, value, known in (
            ("cell", cell, ("residual", "lstm", "ungated")),
            ("align", align, ("none", "feature", "sample", "both")),
            ("readout", readout, ("both", "memory")),
        ):
            if value not in known:
                raise MmeqError(f"fusion.{option}={value!r}: use {', '.join(known)}")
        if not 0 <= threshold < 1:  # at 1 a sample would not even mix with itself
            raise MmeqError(f"fusion.threshold={threshold}: give a cosine from 0 to below 1")
        if not 0 < gain < math.inf:
            raise MmeqError(f"fusion.gain={gain}: give a number above 0")
        self.cell, self.align, self.keep = cell, align, keep
        self.inherit, self.threshold = inherit, threshold
        self.gate_state = nn.Linear(dim, 3 * dim)
        self.gate_input = nn.Linear(dim, 3 * dim, bias=False)
        self.candidate = nn.Linear(dim, dim)
        nn.init.ones_(self.gate_state.bias[:dim])
        self.readout_memory = nn.Linear(dim, classes)
        self.evidence_MCD = (
            linear_init(modalities, classes, dim, modalities * dim) if readout == "both" else None
        )
        self.gain = gain if readout == "both" else 1.0
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
        tree = coalition_tree(coalitions_SM, orders, features[0].device)
        return self.run(Memory._mean, *self._inputs(features, tree))

    def fuse_each(
        self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders
    ) -> Tensor:
        """Logits [K, S, B, C] under each order, from the same one walk as `fuse`."""
        tree = coalition_tree(coalitions_SM, orders, features[0].device)
        return self.run(Memory._each, *self._inputs(features, tree))

    def _inputs(self, features: Sequence[Tensor], tree: Tree) -> tuple[Tensor, Tensor | None, Walk]:
        """What the walk is computed from: features, correlations of its pairs, and its plan."""
        corr_QDD = None
        if tree.pairs and self.align in ("feature", "both"):
            corr_QDD = self.moments.correlations(tree.pairs)
        return torch.stack(tuple(features)), corr_QDD, tree.walk

    def _mean(self, x_MBD: Tensor, corr_QDD: Tensor | None, walk: Walk) -> Tensor:
        """Logits [S, B, C]: the mean over orders, after the readout, which is linear."""
        logits_EBC = self._read(self._walk(x_MBD, corr_QDD, walk))
        if walk.mean_SE is None:
            logits_SBC = logits_EBC[walk.end_KS[0]]
        else:
            logits_SBC = mixed(walk.mean_SE, logits_EBC)
        return self._with_evidence(logits_SBC, x_MBD, walk)

    def _each(self, x_MBD: Tensor, corr_QDD: Tensor | None, walk: Walk) -> Tensor:
        """Logits [K, S, B, C]."""
        logits_EBC = self._read(self._walk(x_MBD, corr_QDD, walk))
        return self._with_evidence(logits_EBC[walk.end_KS], x_MBD, walk)

    def _read(self, h_EBD: Tensor) -> Tensor:
        """γ W h + b: [E, B, C]."""
        return F.linear(h_EBD, self.gain * self.readout_memory.weight, self.readout_memory.bias)

    def _with_evidence(self, logits: Tensor, x_MBD: Tensor, walk: Walk) -> Tensor:
        """Add the additive unimodal evidence to [..., S, B, C]."""
        if self.evidence_MCD is None:
            return logits
        evidence_MBC = torch.bmm(x_MBD, self.evidence_MCD.mT)
        return logits + mixed(walk.present_SM, evidence_MBC)

    def _walk(self, x_MBD: Tensor, corr_QDD: Tensor | None, walk: Walk) -> Tensor:
        """The outputs [E, B, D] of the prefixes at which a coalition ends, depth by depth."""
        inputs = self._cell_inputs(x_MBD, corr_QDD, walk) if len(walk.levels) > 1 else ()
        if walk.widths is not None:  # the gradients of parts meet in one copy, those of slices add
            inputs = [each.split(walk.widths) for each in inputs]
        state, out = x_MBD.index_select(0, walk.first_P), None
        if self.inherit:
            first = self.gate_input(state), self._admit(state)
            before = self.initial_D.expand_as(state)
            state, out = self._step(before, self.gate_state(before), *first)
        outputs = [self._output(state, out, walk.levels[0].end_E)]
        for depth, level in enumerate(walk.levels[1:]):
            gates, admitted = (
                take(each, level.step_P) if walk.widths is None else each[depth] for each in inputs
            )
            inner = take(state, level.inner_R)
            turned = take(self.gate_state(inner), level.parent_P)
            state, out = self._step(take(inner, level.parent_P), turned, gates, admitted)
            outputs.append(self._output(state, out, level.end_E))
        if self.inherit and self.training and len(walk.levels) == self.modalities:
            self._remember(state)
        return torch.cat([output for output in outputs if output is not None])

    def _step(
        self, state_PBD: Tensor, turned_PBX: Tensor, gates_PBX: Tensor, admitted_PBD: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """One cell for all prefixes of a depth: new state and output gate, [P, B, D] each.

        The terms of the gates are those of the state, [P, B, 3D], and of what is added.
        """
        if self.cell == "ungated":
            return state_PBD + admitted_PBD, None
        gates = (turned_PBX + gates_PBX).sigmoid_()
        forget, admit, out = gates.chunk(3, dim=-1)
        return torch.addcmul(forget * state_PBD, admit, admitted_PBD), out

    def _output(self, state_PBD: Tensor, out_PBD: Tensor | None, end_E: Rows) -> Tensor | None:
        """What a depth gives to the readout, where coalitions end: [E, B, D]."""
        if end_E == slice(0, 0):
            return None
        state_EBD = take(state_PBD, end_E)
        squashed = state_EBD if self.cell != "lstm" else torch.tanh(state_EBD)
        return squashed if out_PBD is None else take(out_PBD, end_E) * squashed

    def _admit(self, a_PBD: Tensor) -> Tensor:
        """What the input gate lets in."""
        candidate = self.candidate(a_PBD)
        return torch.tanh(candidate) if self.cell == "lstm" else a_PBD + candidate

    def _cell_inputs(
        self, x_MBD: Tensor, corr_QDD: Tensor | None, walk: Walk
    ) -> tuple[Tensor, Tensor]:
        """What depends on (before, added) alone: gate terms [Q, B, 3D], candidates [Q, B, D]."""
        a_QBD = self._aligned(x_MBD, corr_QDD, walk)
        return self.gate_input(a_QBD), self._admit(a_QBD)

    def _aligned(self, x_MBD: Tensor, corr_QDD: Tensor | None, walk: Walk) -> Tensor:
        """Features of the added modalities, aligned to those before them: [Q, B, D]."""
        own_QBD = x_MBD.index_select(0, walk.added_Q)
        if self.align == "none":
            return own_QBD
        mean_M1D, std_M1D = self.moments.mean_MD[:, None], self.moments.std_MD[:, None]
        z_MBD, aligned_QBD = (x_MBD - mean_M1D) / std_M1D, own_QBD
        if corr_QDD is not None:
            turned_QBD = torch.bmm(z_MBD.index_select(0, walk.added_Q), corr_QDD.to(z_MBD.dtype))
            aligned_QBD = F.rms_norm(turned_QBD, (self.dim,), eps=1e-6)
            aligned_QBD = aligned_QBD * std_M1D[walk.before_Q] + mean_M1D[walk.before_Q]
        if self.align in ("sample", "both") and self.training:
            z_QBD = F.normalize(z_MBD.detach(), dim=-1)[walk.before_Q]
            cosine = torch.bmm(z_QBD, z_QBD.mT)
            mix = F.normalize(cosine * (cosine > self.threshold), p=1, dim=-1)
            aligned_QBD = torch.bmm(mix.to(aligned_QBD.dtype), aligned_QBD)
        return own_QBD + aligned_QBD if self.keep else aligned_QBD

    @torch.no_grad()
    def _remember(self, state_PBD: Tensor) -> None:
        """Add the final states to what the next `settle` moves the initial state towards.

        Summed here and shared between ranks there: how often a rank fuses depends on its gaps.
        """
        flat = state_PBD.detach().float().flatten(0, 1)
        self.final_D.add_(torch.cat([flat.sum(0), flat.new_full((1,), len(flat))]))
