"""Diagnosing and re-learning: encoders go part of the way back to their first weights.

Shape suffixes: N samples, B batch, M modalities, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmeq.methods.base import Batch, Loop, Method, coalition_rows, there, trained

INF = float("inf")
PARTS = ("train", "validation")
RESTARTS = 3
"""Of K-means, of which the tightest clustering counts."""


class DAndR(Method):
    """Joint training; now and then each encoder re-learns, the more the worse it generalises.

    P_m: purity of C K-means clusters of modality m's features, each scaled to [0, 1] by its least
    and largest value: Σ over clusters of the samples of the commonest label / N.
    After 20, 40 and 60 epochs: gap_m = |P_m^train − P_m^validation|, w_m = tanh(λ gap_m),
    θ_m ← w_m θ_m^init + (1 − w_m) θ_m. Buffers, fusion and the optimizer's moments stay.

    Source: 2407.09705, ECCV 2024.

    M > 2: as published, each modality by itself.

    The released code diagnoses after 21, 41 and 61 epochs, here after 20, 40 and 60 [paper]; it
    seeds K-means with 0, here 3 starts, the best of which counts, are drawn by (seed, epoch).
    Samples that lack m are left out of P_m [ours]; where nobody of a part has m, w_m = 0.

    Args:
        modalities: names.
        seed: of the run, for the starts of K-means.
        every: epochs between two diagnoses.
        times: most of them.
        strength: λ.
        classes: C.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        seed: int = 0,
        every: int = 20,
        times: int = 3,
        strength: float = 3.0,
        *,
        classes: int,
    ) -> None:
        super().__init__(modalities, seed)
        self.check(every=(every, 1, INF), times=(times, 0, INF), strength=(strength, 0, INF))
        self.every, self.times, self.strength, self.classes = every, times, strength, classes
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)
        self.found: dict[str, dict[str, float]] = {}

    def adopt(self, encoders: nn.ModuleDict) -> None:
        """Keep the first weights, one flat buffer a modality."""
        for m, name in enumerate(self.modalities):
            flat = [p.detach().flatten().float() for p in trained(encoders[name])]
            self.register_buffer(f"first_{m}", torch.cat([torch.zeros(0), *flat]))

    @torch.no_grad()
    def on_epoch_start(self, loop: Loop) -> None:
        """Diagnose and re-learn, when it is time."""
        self.found = {}
        number, rest = divmod(loop.epoch, self.every)
        if rest or not 1 <= number <= self.times:
            return
        purity_PM = torch.stack([self._purities(loop, part) for part in PARTS])
        purity_PM = loop.mean(purity_PM.to(loop.log_prior))
        weight_M = torch.tanh(self.strength * (purity_PM[0] - purity_PM[1]).abs()).nan_to_num(0)
        for m, weight in enumerate(weight_M):
            _towards(self.get_buffer(f"first_{m}"), loop.encoder(m), weight)
        rows = zip((*PARTS, "weight"), [*purity_PM.tolist(), weight_M.tolist()], strict=True)
        self.found = {n: dict(zip(self.modalities, row, strict=True)) for n, row in rows}

    def _purities(self, loop: Loop, part: str) -> Tensor:
        """P_m of a part of the data: [M]; NaN where nobody has the modality."""
        rows: list[list[Tensor]] = [[] for _ in self.modalities]
        labels: list[list[Tensor]] = [[] for _ in self.modalities]
        for batch, features in loop.sweep(part):
            there_BM = there(features, self.all_1M)[0]
            for m, row_BD in enumerate(features.rows):
                rows[m].append(row_BD[there_BM[:, m]].float().cpu())
                labels[m].append(batch["label"][there_BM[:, m]].cpu())
        start = (self.seed * 1_000_003 + loop.epoch) % 2**32
        return torch.tensor(
            [
                purity(torch.cat(row), torch.cat(label), self.classes, start)
                for row, label in zip(rows, labels, strict=True)
            ]
        )

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step on the joint loss."""
        logits_1BC = loop.fuse(loop.encode(batch), self.all_1M)
        loss = loop.loss(logits_1BC, batch["label"])[0]
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss.detach()}

    def describe(self) -> dict[str, Any]:
        """Purities and weights w of the diagnosis before this epoch, if there was one."""
        return dict(self.found)


def purity(feature_ND: Tensor, label_N: Tensor, clusters: int, start: int) -> float:
    """Share of samples whose label is the commonest of their K-means cluster; NaN of no sample.

    Args:
        feature_ND: real, [N, D]; scaled to [0, 1] by column before clustering.
        label_N: int64 [N].
        clusters: how many, at most N of them.
        start: seed of the clustering.
    """
    from sklearn.cluster import KMeans

    count = len(label_N)
    if not count:
        return float("nan")
    least_D, most_D = feature_ND.aminmax(dim=0)
    scaled_ND = (feature_ND - least_D) / (most_D - least_D).clamp_min(1e-12)
    means = KMeans(min(clusters, count), n_init=RESTARTS, random_state=start)
    cluster_N = torch.from_numpy(means.fit_predict(scaled_ND.numpy())).long()
    classes = int(label_N.max()) + 1
    table = torch.bincount(cluster_N * classes + label_N, minlength=clusters * classes)
    return float(table.view(clusters, classes).max(1).values.sum()) / count


def _towards(first: Tensor, encoder: nn.Module, weight: Tensor) -> None:
    """Move an encoder's parameters by this share of the way to their first values."""
    parameters = trained(encoder)
    parts = torch.split(first, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.lerp_(part.view_as(parameter).to(parameter), weight.to(parameter))
