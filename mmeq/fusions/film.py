"""FiLM fusion: one modality scales and shifts the other (Perez et al. 2018, arXiv 1709.07871).

Shape suffixes: B batch, M modalities, D width, C classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmeq.fusions.base import Absence, FillingFusion
from mmeq.fusions.orders import Orders


class Film(FillingFusion):
    """Feature-wise linear modulation: [γ, β] = W_f h_a, o = W_o(γ ⊙ h_b + β) + b.

    M > 2 [ours]: chained in the dataset's order, s ← γ_j(s) ⊙ h_j + β_j(s) from s = h_1, so that
    M = 2 is the published form. γ starts around 1, so that training starts from h_M. An absent
    feature is replaced (see `absence`).
    """

    def __init__(
        self, modalities: int, dim: int, classes: int, prior: Tensor, absence: Absence = "mean"
    ) -> None:
        super().__init__(modalities, dim, classes, prior, absence)
        self.films = nn.ModuleList(nn.Linear(dim, 2 * dim) for _ in range(modalities - 1))
        for film in self.films:
            nn.init.ones_(film.bias[:dim])
        self.readout = nn.Linear(dim, classes)

    def fuse(self, features: Sequence[Tensor], coalitions_SM: Tensor, orders: Orders) -> Tensor:
        """Logits [S, B, C]."""
        return self.run(Film._chain, self.fill(features, coalitions_SM))

    def _chain(self, filled_SMBD: Tensor) -> Tensor:
        first, *others = filled_SMBD.unbind(1)
        state = first
        for film, feature in zip(self.films, others, strict=True):
            scale, shift = film(state).chunk(2, dim=-1)
            state = scale * feature + shift
        return self.readout(state)
