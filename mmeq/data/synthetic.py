"""Dataset synthetic: generated vectors with known shared, unique and synergy information.

Shape suffixes: N samples, M modalities, C classes, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmeq.data.columns import VectorColumn
from mmeq.data.manifest import Manifest
from mmeq.data.options import choose, complete_manifest
from mmeq.data.spec import Modality
from mmeq.data.split import Split
from mmeq.errors import MmeqError


@dataclass(frozen=True)
class Model:
    """The generative model: all that an oracle needs (see `Synthetic` for the formulas).

    Attributes:
        shared: ρ_s.
        unique: ρ_u of each modality [M].
        synergy: ρ_x.
        snr: of each modality [M].
        codes: orthonormal directions float64 [M, 3, C, F]: shared, unique, synergy.
    """

    shared: float
    unique: np.ndarray
    synergy: float
    snr: np.ndarray
    codes: np.ndarray


class Synthetic:
    """Vectors m0, m1, … about a class y, balanced over C classes **[ours]**.

    Three hidden codes, all in {0..C-1}; "noisy(y, ρ)" is y with probability ρ, else uniform:

    - shared: s = noisy(y, ρ_s), the same in every modality;
    - unique: u_m = noisy(y, ρ_u[m]), drawn for each modality on its own;
    - synergy: t = noisy(y, ρ_x); r_1..r_{M-1} uniform, r_M = t - Σ_{m<M} r_m mod C. So any M-1 of
      the r_m are independent of y, all M of them give t (for C=2 this is the XOR).

    Modality m shows them in orthonormal directions a under unit noise:

        x_m = snr_m · (a_m[s] + b_m[u_m] + c_m[r_m]) + ε,  ε ~ N(0, I_F).

    With one snr and one ρ_u for all modalities they are exchangeable: every Shapley value of an
    ideal model is equal, the data are balanced. A smaller snr_m or ρ_u[m] makes m the weak one.
    `mmeq.data.oracle.posterior` gives the exact class probabilities of every coalition.

    Args:
        sources: M, 2 to 24; the modalities are m0 … m{M-1}.
        samples: N.
        classes: C, 2 or more.
        features: F of each modality, at least 3 C.
        snr: one number for all modalities, or M numbers; 0 is pure noise.
        shared: ρ_s, 0 (nothing) to 1 (the class itself).
        unique: ρ_u, one number or M numbers, 0 to 1.
        synergy: ρ_x, 0 to 1; needs all M modalities to be seen.
        data_seed: of the generator; independent of the split.
        modalities: a subset of m0 … m{M-1}, in any order; None takes all.
        split_seed: another seed, another split.
        fractions: of train, validation and test.
        train_size: so many training samples, stratified; None keeps all.
    """

    def __init__(
        self,
        sources: int = 3,
        samples: int = 2000,
        classes: int = 4,
        features: int = 16,
        snr: float | Sequence[float] = 3.0,
        shared: float = 0.3,
        unique: float | Sequence[float] = 0.4,
        synergy: float = 0.3,
        data_seed: int = 0,
        modalities: Sequence[str] | None = None,
        split_seed: int = 0,
        fractions: Sequence[float] = (0.6, 0.2, 0.2),
        train_size: int | None = None,
    ) -> None:
        _within("sources", sources, 2, 24)
        _within("classes", classes, 2, 1000)
        _within("samples", samples, 3 * classes, 10**7)
        _within("features", features, 3 * classes, 10**5)
        _within("data_seed", data_seed, 0, 2**63 - 1)
        _within("shared", shared, 0, 1)
        _within("synergy", synergy, 0, 1)
        self.sources, self.samples, self.classes = sources, samples, classes
        self.features, self.shared, self.synergy = features, float(shared), float(synergy)
        self.snr = _each("snr", snr, sources, 0, 1e6)
        self.unique = _each("unique", unique, sources, 0, 1)
        self.data_seed = data_seed
        names = [f"m{m}" for m in range(sources)]
        self.modalities = choose("synthetic", modalities, names)
        self.split = Split(split_seed, tuple(fractions), train_size)

    def model(self) -> Model:
        """Return the generative model of this seed."""
        random = np.random.default_rng([self.data_seed, 0])
        shape = (self.sources, self.features, 3 * self.classes)
        basis = np.linalg.qr(random.standard_normal(shape))[0].transpose(0, 2, 1)
        codes = basis.reshape(self.sources, 3, self.classes, self.features)
        return Model(self.shared, self.unique, self.synergy, self.snr, codes)

    def generate(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw labels int64 [N] and values float32 [M, N, F]."""
        random = np.random.default_rng([self.data_seed, 1])
        model, (count, c) = self.model(), (self.samples, self.classes)
        labels_N = random.permutation(np.arange(count) % c)

        def noisy(reliability: float) -> np.ndarray:
            shown = random.random(count) < reliability
            return np.where(shown, labels_N, random.integers(c, size=count))

        shared_N, target_N = noisy(model.shared), noisy(model.synergy)
        parts_MN = random.integers(c, size=(self.sources, count))
        parts_MN[-1] = (target_N - parts_MN[:-1].sum(0)) % c
        values_MNF = np.empty((self.sources, count, self.features), dtype=np.float32)
        for m, (codes, snr) in enumerate(zip(model.codes, model.snr, strict=True)):
            signal = codes[0, shared_N] + codes[1, noisy(model.unique[m])] + codes[2, parts_MN[m]]
            values_MNF[m] = snr * signal + random.standard_normal(signal.shape)
        return labels_N, values_MNF

    def load(self) -> Manifest:
        """Generate the data."""
        labels, values = self.generate()
        rows = [int(name[1:]) for name in self.modalities]
        return complete_manifest(
            "synthetic",
            [f"class{label}" for label in range(self.classes)],
            [Modality(name, "vector", (self.features,)) for name in self.modalities],
            {f"m{m}": VectorColumn(torch.from_numpy(values[m])) for m in rows},
            [f"synthetic-{row:06d}" for row in range(self.samples)],
            labels,
            self.split,
        )


def _within(option: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside its range; NaN too."""
    if not low <= value <= high:
        raise MmeqError(f"{option}={value}: expected {low} to {high}")


def _each(
    option: str, value: float | Sequence[float], count: int, low: float, high: float
) -> np.ndarray:
    """One number a modality, from one for all or a list."""
    if isinstance(value, int | float):
        values = [float(value)] * count
    else:
        values = [float(number) for number in value]
    if len(values) != count:
        raise MmeqError(
            f"{option}={values}: {len(values)} numbers for sources={count}; give one number for "
            "all modalities, or one each"
        )
    for number in values:
        _within(option, number, low, high)
    return np.array(values)
