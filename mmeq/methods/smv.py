"""Sample-level modality valuation: more of the samples of which a modality tells little.

Shape suffixes: N rows of the manifest, B batch, M modalities, C classes, S coalitions that are
trained, V = 2^M all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeq.errors import MmeqError, did_you_mean
from mmeq.game.coalitions import all_coalitions
from mmeq.game.shapley import shapley_values
from mmeq.methods.base import Batch, Loop, Method, coalition_rows, over, there

INF = float("inf")
Level = Literal["sample", "modality"]


class Smv(Method):
    """Joint training, and copies of samples that show one modality of low contribution alone.

    v_i(S) = |S| if sample i is predicted right from S, else 0; φ_im: its Shapley values.
    Before each epoch after `warmup`, copies of i that show m alone: n_im = 3 where φ_im < −0.1,
    else 2 below 0.4, 1 below 0.9, 0 above. With two modalities φ is −0.5, 0, 0.5, 1 or 1.5.
    L = (Σ_i CE_all(i) + Σ_im n_im CE_{m}(i)) / (B + Σ_im n_im).
    level=modality: n_im = ⅔ α max(0, φ̄_other − φ̄_m), φ̄ the mean over a share of the samples.

    Source: 2309.06255, CVPR 2024; ⅔ and the numbers of copies as in its code [second-hand].

    M > 2 [ours]: the same numbers, since φ sums to M where all is right: the fair share stays 1;
    φ̄_other is the mean of the others. A sample that lacks modalities plays v over those it has.

    The released code makes a longer data set of the copies and shuffles it. Here [ours] a copy is a
    term in its sample's batch, fused from features that are there already: in expectation the
    same, without a second encoding; an epoch keeps its number of steps. It zeroes what a copy
    lacks, here the fusion decides (``fusion.absence=zero``); it values augmented samples, here
    they are not.

    Args:
        modalities: names.
        seed: of the run.
        level: ``sample`` values each by itself, ``modality`` the mean over samples.
        warmup: epochs of joint training alone.
        share: of the training part that φ̄ is the mean of.
        alpha: α.
    """

    min_modalities, max_modalities = 2, 8

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        level: Level = "sample",
        warmup: int = 5,
        share: float = 0.2,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(modalities, seed)
        known = get_args(Level)
        if level not in known:
            raise MmeqError(f"method.level={level!r} is unknown{did_you_mean(level, known)}")
        self.check(warmup=(warmup, 0, INF), share=(share, 1e-6, 1), alpha=(alpha, 0, INF))
        self.level, self.warmup, self.share, self.alpha = level, warmup, share, alpha
        count = len(self.modalities)
        self.all_SM = coalition_rows([range(count), *([m] for m in range(count))], count)
        self.copies_NM: Tensor | None = None  # made anew before each epoch; [1, M]: of every row
        self.found: dict[str, dict[str, float]] = {}

    def on_epoch_start(self, loop: Loop) -> None:
        """Value the modalities on training data, and count the copies."""
        self.copies_NM, self.found = None, {}
        if loop.epoch < self.warmup:
            return
        batches = self._valued(loop, 1.0 if self.level == "sample" else self.share)
        index_N, phi_NM, there_NM = map(torch.cat, zip(*batches, strict=True))
        mean_M = (phi_NM * there_NM).sum(0) / there_NM.sum(0).clamp_min(1)
        mean_M = loop.mean(mean_M.to(loop.log_prior))
        if self.level == "sample":
            each_NM = copies(phi_NM) * there_NM
            rate_M = each_NM.double().mean(0)
            by_row_NM = each_NM.new_zeros(int(index_N.max()) + 1, len(self.modalities))
            by_row_NM[index_N] = each_NM
            self.copies_NM = by_row_NM.to(mean_M.device)
        else:
            other_M = (mean_M.sum() - mean_M) / (len(mean_M) - 1)
            rate_M = 2 / 3 * self.alpha * (other_M - mean_M).clamp_min(0)
            self.copies_NM = rate_M[None]
        rows = zip(("contribution", "copies"), (mean_M, rate_M), strict=True)
        self.found = {n: dict(zip(self.modalities, r.tolist(), strict=True)) for n, r in rows}

    @torch.no_grad()
    def _valued(self, loop: Loop, share: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows [B], their Shapley values [B, M] and who has what [B, M], on the CPU."""
        every_VM = all_coalitions(len(self.modalities))
        for batch, features in loop.sweep("train", share):
            guess_VB = loop.fuse(features, every_VM, loop.inference_orders).argmax(-1)
            there_VBM = there(features, every_VM)
            value_VB = there_VBM.sum(-1) * (guess_VB == batch["label"])
            yield batch["index"].cpu(), shapley_values(value_VB.T.cpu()), there_VBM[-1].cpu()

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the samples and their copies."""
        features, label_B = loop.encode(batch), batch["label"]
        modalities = range(len(self.modalities))
        if self.copies_NM is None:
            loss = loop.loss(loop.fuse(features, self.all_SM[:1]), label_B)[0]
            loop.update(loss, modalities)
            return {"joint": loss.detach()}
        logits_SBC = loop.fuse(features, self.all_SM).float()
        label_SB = label_B.expand(logits_SBC.shape[:2])
        each = F.cross_entropy(logits_SBC.flatten(0, 1), label_SB.flatten(), reduction="none")
        each_SB = each.view_as(label_SB)
        rows_NM = self.copies_NM
        copies_BM = rows_NM[batch["index"]] if self.level == "sample" else rows_NM
        weight_MB = (copies_BM * there(features, self.all_SM[:1])[0]).T.float()
        again, number = (weight_MB * each_SB[1:]).sum(), weight_MB.sum()
        samples = loop.mean(number + len(label_B))  # a copy weighs alike on all ranks
        loop.update((each_SB[0].sum() + again) / samples, modalities)
        resampled = over(each_SB[1:].detach().flatten(), weight_MB.flatten())
        return {"joint": each_SB[0].detach().mean() * features.share, "resampled": resampled}

    def describe(self) -> dict[str, Any]:
        """Mean contribution and copies a sample of each modality, in the epoch."""
        return dict(self.found)


def copies(phi: Tensor) -> Tensor:
    """Copies that show a modality alone, by its Shapley value φ: int8.

    Examples:
        >>> copies(torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5])).tolist()
        [3, 2, 1, 0, 0]
    """
    return torch.stack([phi < limit for limit in (-0.1, 0.4, 0.9)]).sum(0).to(torch.int8)
