"""The exact class probabilities of synthetic data: what an ideal model could reach.

Shape suffixes: N samples, M modalities, C classes, F features, S coalitions. Index letters in
einsum: n sample, y class, s shared code, u unique code, r synergy code.
"""

from __future__ import annotations

import numpy as np

from mmeq.data.synthetic import Model


def posterior(model: Model, values_MNF: np.ndarray, coalition_M: np.ndarray) -> np.ndarray:
    """Return P(y | x_m, m in the coalition) by Bayes' rule, the hidden codes summed out **[ours]**.

    P(y | x) ∝ Σ_s P(s|y) Σ_t P(t|y) [⊛_m g_m(s, y, ·)](t), with
    g_m(s, y, r) = Σ_u P(u|y) p(x_m | s, u, r), ⊛ the cyclic convolution over r. An absent
    modality's g is 1, which makes t uniform: synergy takes all of them.

    Args:
        model: the generative model.
        values_MNF: all modalities.
        coalition_M: bool, which of them are seen.

    Returns:
        Probabilities float64 [N, C].
    """
    count, c = values_MNF.shape[1], model.codes.shape[2]
    total_nsyt = np.zeros((count, c, c, c))
    total_nsyt[..., 0] = 1  # the neutral element of the convolution
    shift = (np.arange(c)[:, None] - np.arange(c)[None, :]) % c  # [t, r] → t - r
    for m in range(len(values_MNF)):
        if coalition_M[m]:
            seen_nsyr = _likelihood(model, values_MNF[m].astype(np.float64), m)
        else:
            seen_nsyr = np.ones((count, c, c, c))
        total_nsyt = np.einsum("nsytr,nsyr->nsyt", total_nsyt[..., shift], seen_nsyr)
        total_nsyt /= total_nsyt.max(axis=(1, 2, 3), keepdims=True)
    shared_sy, target_ty = channel(model.shared, c), channel(model.synergy, c)
    joint_ny = np.einsum("nsyt,sy,ty->ny", total_nsyt, shared_sy, target_ty)
    posterior_ny: np.ndarray = joint_ny / joint_ny.sum(1, keepdims=True)
    return posterior_ny


def accuracies(
    model: Model, values_MNF: np.ndarray, labels_N: np.ndarray, coalitions_SM: np.ndarray
) -> np.ndarray:
    """Return the ideal accuracy float64 [S] of each coalition on these samples."""
    return np.array(
        [
            (posterior(model, values_MNF, coalition_M).argmax(1) == labels_N).mean()
            for coalition_M in coalitions_SM
        ]
    )


def channel(reliability: float, classes: int) -> np.ndarray:
    """Return P(code | y) float64 [C, C] of "y with probability ρ, else uniform".

    Examples:
        >>> channel(0.5, 2)
        array([[0.75, 0.25],
               [0.25, 0.75]])
    """
    return np.asarray(reliability * np.eye(classes) + (1 - reliability) / classes)


def _likelihood(model: Model, values_NF: np.ndarray, m: int) -> np.ndarray:
    """g_m [N, S, Y, R], up to a factor of each sample.

    Directions are orthonormal, so |x - μ|² splits into one term a code, and the likelihood is
    exp(snr · ⟨x, a[s]⟩) · exp(snr · ⟨x, b[u]⟩) · exp(snr · ⟨x, c[r]⟩).
    """
    scores = model.snr[m] * np.einsum("nf,kcf->knc", values_NF, model.codes[m])
    shown = np.exp(scores - scores.max(axis=2, keepdims=True))
    unique_ny = shown[1] @ channel(model.unique[m], shown.shape[2])
    product_nsyr: np.ndarray = np.einsum("ns,ny,nr->nsyr", shown[0], unique_ny, shown[2])
    return product_nsyr
