"""Every sample's own game: which modality speaks for a class in this very sample.

Legend: N samples, S = 2^M - 1 non-empty coalitions, M modalities, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.game.shapley import shapley_values
from mmeq.game.values import check_frequencies


def sample_shapley(
    logits_NSC: Tensor, class_N: Tensor, class_frequencies: Tensor
) -> Tensor:  # fmt: skip
    r"""Exact Shapley values of each sample's own game [ours].

    :math:`v_b(S) = p(c_b \mid x_b, S)`, the probability of one class of sample b under coalition
    S, and :math:`v_b(\emptyset)` the frequency of that class in training. So the values of a
    sample add up to the fused probability of its class minus that frequency; a modality that a
    sample lacks gets 0.

    Args:
        logits_NSC: real [N, S, C], coalitions in binary order.
        class_N: c, integer [N]: the label, or what is predicted where there is none.
        class_frequencies: counts or shares of the training labels, [C].

    Returns:
        float64 [N, M].

    Raises:
        MmeqError: if the shapes do not fit, a class is outside 0..C-1, or a logit is not finite.

    Examples:
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]])
        >>> phi = sample_shapley(logits, torch.tensor([0]), torch.tensor([0.5, 0.5]))
        >>> [round(value, 4) for value in phi[0].tolist()]
        [0.3808, 0.0]
    """
    share_C = check_frequencies(class_frequencies)
    count, _, classes = logits_NSC.shape
    if tuple(class_N.shape) != (count,) or len(share_C) != classes:
        raise MmeqError(
            f"expected a class for each of {count} samples and {classes} class frequencies, got "
            f"{tuple(class_N.shape)} and {len(share_C)}"
        )
    if bool(((class_N < 0) | (class_N >= classes)).any()):
        raise MmeqError(f"a class is outside 0..{classes - 1}")
    place_NS1 = class_N.long()[:, None, None].expand(-1, logits_NSC.shape[1], 1)
    chance_NS = logits_NSC.double().softmax(-1).gather(-1, place_NS1).squeeze(-1)
    return shapley_values(torch.cat([share_C[class_N.long()][:, None], chance_NS], 1))
