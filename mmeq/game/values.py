"""Values of coalitions: accuracy, negative log-likelihood and macro-F1, per coalition.

Legend: B batch, N samples, S coalitions (any list of them), C classes; leading dots are free axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmeq.errors import MmeqError, did_you_mean

METRICS = ("accuracy", "nll", "macro_f1")
"""Metrics that a game can be played for."""

NLL_STEP = 2.0**-24
"""Grid of losses: sums below 2^29 are exact in float64, so neither the order of samples nor the
number of threads changes a bit of a report."""


def check_metric(value: str) -> str:
    """Return the name of a metric if there is one of this name.

    Args:
        value: ``accuracy``, ``nll`` or ``macro_f1``.

    Raises:
        MmeqError: for another name.
    """
    if value not in METRICS:
        raise MmeqError(f"unknown value {value!r}{did_you_mean(str(value), METRICS)}")
    return value


def utility(metric: Tensor, higher_is_better: bool) -> Tensor:
    """Turn a metric into the value of the game, where higher is better.

    Args:
        metric: real, any shape.
        higher_is_better: of the metric; nll, where less is better, changes its sign.
    """
    return metric if higher_is_better else -metric


def sample_scores(logits_SBC: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
    """Prediction and loss of every sample under every coalition; never waits for the device.

    Labels outside 0..C-1 are not looked at here, since that would stop the device's queue: they
    get the loss of the nearest class, and `check_labels` refuses them later.

    Args:
        logits_SBC: real [S, B, C].
        label_B: integer [B].

    Returns:
        Predicted class, uint8 (int32 for more than 256 classes) [B, S]; negative log-likelihood
        in nats, float32 [B, S].

    Raises:
        MmeqError: if the shapes do not fit.
    """
    if logits_SBC.ndim != 3 or label_B.shape != logits_SBC.shape[1:2]:
        raise MmeqError(
            "expected logits [S, B, C] and labels [B], "
            f"got {tuple(logits_SBC.shape)} and {tuple(label_B.shape)}"
        )
    classes = logits_SBC.shape[2]
    # uint8 and int32, not int16: neither gloo nor NCCL can gather int16.
    kind = torch.uint8 if classes <= 256 else torch.int32
    logits_SBC = logits_SBC.detach().float()
    target_SB1 = label_B.long().clamp(0, classes - 1).expand(len(logits_SBC), -1)[..., None]
    nll_SB = -logits_SBC.log_softmax(-1).gather(-1, target_SB1).squeeze(-1)
    return logits_SBC.argmax(-1).T.to(kind).contiguous(), nll_SB.T.contiguous()


def check_labels(label_N: Tensor, classes: int) -> Tensor:
    """Return the labels as int64, if there are any and all of them are classes.

    Args:
        label_N: integer [N].
        classes: number of classes C.

    Raises:
        MmeqError: if there is no label, or one is outside 0..C-1.
    """
    if label_N.ndim != 1 or len(label_N) == 0:
        raise MmeqError("a game needs at least one labelled sample")
    if label_N.is_floating_point() or label_N.is_complex():
        raise MmeqError(f"labels must be whole numbers, got {label_N.dtype}")
    label_N = label_N.long()
    low, high = int(label_N.min()), int(label_N.max())
    if low < 0 or high >= classes:
        raise MmeqError(f"label {low if low < 0 else high} is outside the classes 0..{classes - 1}")
    return label_N


def accuracy(prediction_NS: Tensor, label_N: Tensor) -> Tensor:
    """Share of samples whose class is predicted, per coalition.

    Args:
        prediction_NS: integer [N, S].
        label_N: integer [N].

    Returns:
        float64 [S], in [0, 1].
    """
    return (prediction_NS == label_N[:, None]).double().mean(0)


def exact_nll(nll: Tensor) -> Tensor:
    """Round losses to the grid on which their sums are exact (see `NLL_STEP`).

    Args:
        nll: real, any shape, in nats.

    Returns:
        float64, the same shape.
    """
    return (nll.double() / NLL_STEP).round() * NLL_STEP


def mean_nll(nll_NS: Tensor) -> Tensor:
    """Mean negative log-likelihood, per coalition.

    Args:
        nll_NS: real [N, S], in nats.

    Returns:
        float64 [S], in nats; lower is better.
    """
    return exact_nll(nll_NS).mean(0)


def f1_from_counts(hit: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    r"""Macro-F1 from counts per class.

    :math:`F_c = 2 h_c / (p_c + a_c)`, averaged over the classes with p_c + a_c > 0, those that
    occur among labels or predictions: sklearn's ``f1_score(y, p, average="macro")``.

    Args:
        hit: samples of class c predicted as c, real [..., C].
        predicted: samples predicted as c, real [..., C].
        actual: samples of class c, real [..., C].

    Returns:
        float64 [...], in [0, 1].
    """
    support = (predicted + actual).double()
    f1 = 2 * hit.double() / support.clamp(min=1)
    return f1.sum(-1) / (support > 0).sum(-1)


def macro_f1(prediction_NS: Tensor, label_N: Tensor, classes: int) -> Tensor:
    """Macro-F1 per coalition, over the classes among its predictions or the labels.

    Equal to sklearn's ``f1_score(label, prediction, average="macro")``. Classes that occur in
    neither do not count (with ``labels=range(C)`` sklearn would count them as 0).

    Args:
        prediction_NS: integer [N, S], in 0..C-1.
        label_N: integer [N], in 0..C-1.
        classes: number of classes C.

    Returns:
        float64 [S], in [0, 1].
    """
    actual_C = torch.bincount(label_N, minlength=classes)
    rows = []
    for prediction_N in prediction_NS.long().unbind(1):
        hit_C = torch.bincount(label_N[prediction_N == label_N], minlength=classes)
        predicted_C = torch.bincount(prediction_N, minlength=classes)
        rows.append(f1_from_counts(hit_C, predicted_C, actual_C))
    return torch.stack(rows) if rows else torch.zeros(0, dtype=torch.float64)


def check_frequencies(class_frequencies: Tensor) -> Tensor:
    """Return the class frequencies of the training part as shares that add up to 1.

    Args:
        class_frequencies: counts or shares, real [C], >= 0.

    Returns:
        float64 [C].

    Raises:
        MmeqError: if they are not such numbers, or all are 0.
    """
    given_C = torch.as_tensor(class_frequencies).detach().double()
    if given_C.ndim != 1 or not bool(torch.isfinite(given_C).all()) or bool((given_C < 0).any()):
        raise MmeqError(f"class frequencies must be finite numbers >= 0, got {given_C.tolist()}")
    if not bool(given_C.sum() > 0):
        raise MmeqError("class frequencies are all 0: there is no training label")
    return given_C / given_C.sum()


def constant_scores(class_frequencies: Tensor, label_N: Tensor) -> tuple[Tensor, Tensor]:
    r"""Prediction and loss of the best constant predictor: the empty coalition [ours].

    It knows the training labels only: it predicts their majority class (the first of equals;
    best for accuracy and for macro-F1) with the training frequencies p as probabilities (best
    for nll: their entropy). So v(empty) on labels y is their share of the majority class k,
    :math:`-\frac1N \sum_n \log p_{y_n}`, and :math:`2 q_k / ((1+q_k) \cdot \text{classes})`
    with q the frequencies among y.

    Args:
        class_frequencies: counts or shares of the training labels, real [C].
        label_N: integer [N], in 0..C-1.

    Returns:
        Predicted class, int64 [N]; negative log-likelihood in nats, float64 [N].

    Raises:
        MmeqError: if a label never occurs in training (its loss would be infinite).
    """
    share_C = check_frequencies(class_frequencies).to(label_N.device)
    check_labels(label_N, len(share_C))
    nll_N = -share_C.log()[label_N]
    if bool(torch.isinf(nll_N).any()):
        unseen = int(label_N[torch.isinf(nll_N)][0])
        raise MmeqError(f"class {unseen} is among the evaluated labels, but not in training")
    return share_C.argmax().expand(len(label_N)), nll_N


def empty_values(class_frequencies: Tensor, label_N: Tensor) -> dict[str, float]:
    """Every metric of the empty coalition: the best constant predictor, on these labels.

    Args:
        class_frequencies: counts or shares of the training labels, real [C].
        label_N: integer [N], in 0..C-1.

    Returns:
        Metric to number; nll in nats.

    Raises:
        MmeqError: as `constant_scores`.

    Examples:
        >>> values = empty_values(torch.tensor([3, 1]), torch.tensor([0, 0, 1, 0]))
        >>> values["accuracy"], round(values["macro_f1"], 4), round(values["nll"], 4)
        (0.75, 0.4286, 0.5623)
    """
    prediction_N, nll_N = constant_scores(class_frequencies, label_N)
    return {
        "accuracy": accuracy(prediction_N[:, None], label_N).item(),
        "nll": mean_nll(nll_N[:, None]).item(),
        "macro_f1": macro_f1(prediction_N[:, None], label_N, len(class_frequencies)).item(),
    }
