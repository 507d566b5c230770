"""Modality dropout: joint training on random subsets of what each sample has.

Shape suffixes: B batch, M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmeq.device import carried, on_host
from mmeq.methods.base import Batch, Loop, Method, coalition_rows, uniform


class ModalityDropout(Method):
    """Joint training whose fusion misses modalities at random.

    For each sample of a training batch u_m ~ U(0, 1); modality m is dropped if u_m < p, except that
    of the present modalities the one with the largest u_m stays. L = CE(what is left), by the
    fusion, which skips or fills a dropped modality as it does an absent one at test time.

    Source: ModDrop (arXiv 1501.00102) and much practice since. The rule that one modality stays is
    common, drawing the one by u is ours, as is p = 0.2.

    M > 2: the same.

    Unlike the data option ``modality_dropout=``, which hides inputs from everything: that one goes
    with any method and gives encoders, batch norms and the fusion's mean features nothing of a
    dropped modality. Here encoders see every input, and what they and the fusion keep running
    statistics of is all there is; only the fusion's answer and the gradients miss the dropped ones.

    Args:
        modalities: names.
        seed: of the run.
        rate: p, the same for each modality; 1 keeps one modality of each sample.
    """

    partial_updates = True  # a batch may drop a modality of all of its samples
    min_modalities = 2
    shares = True

    def __init__(self, modalities: Sequence[str], seed: int = 0, rate: float = 0.2) -> None:
        super().__init__(modalities, seed)
        self.check(rate=(rate, 0.0, 1.0))
        self.rate = rate
        count = len(self.modalities)
        self.all_1M = coalition_rows([range(count)], count)

    def train_batch(self, loop: Loop, batch: Batch) -> dict[str, Tensor]:
        """One step of everything on what is left."""
        features = loop.encode(batch)
        draw_BM = uniform(features, self.draws(loop), len(self.modalities))  # on the host
        present_BM = torch.ones_like(draw_BM, dtype=torch.bool)
        if features.present_BM is not None:
            present_BM = on_host(features.present_BM)
        left_BM = kept(present_BM, self.rate, draw_BM)
        left = replace(features, present_BM=carried(left_BM, features.rows[0].device))
        loss = loop.loss(loop.fuse(left, self.all_1M), batch["label"])[0]
        loop.update(loss, range(len(self.modalities)))
        return {"joint": loss.detach()}


def kept(present_BM: Tensor, rate: float, draw_BM: Tensor) -> Tensor:
    """What is left of what is there: bool [B, M]; at least one of each sample that has any.

    Args:
        present_BM: what is there.
        rate: below which a draw drops.
        draw_BM: u, from 0 to 1.
    """
    largest_B1 = draw_BM.masked_fill(~present_BM, -1.0).amax(1, keepdim=True)
    return present_BM & ((draw_BM >= rate) | (draw_BM == largest_B1))
