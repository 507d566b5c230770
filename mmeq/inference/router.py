"""A small model that weights orders per sample, fitted on held-out data and never on itself.

Shape suffixes: N samples, B batch, C classes, S coalitions, K orders, X features, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmeq.errors import MmeqError
from mmeq.fusions.base import Fusion
from mmeq.inference.base import Strategy

FOLDS = 5
LEAST = 10
"""Fewest samples on which orders disagree about the right class that weights are learnt from."""
OWN = 6
"""Features of an order's prediction; as many more as there are orders say which one it is."""


class Router(Strategy):
    """Weights of orders by a logistic model of "this order is right on this sample" [ours].

    logits = Σ_k w_k · logits_k, w = softmax_k(β · x_k). x_k describes the prediction of order k
    (see `describe`) and names the order; β is fitted by `fit_router` on the validation part, on
    the coalition of all modalities, and serves every coalition.

    Cross-fitting: β_0 is fitted on the whole validation part, β_f on all of it but fold f. A
    sample of fold f, known by its id, is answered with β_f, any other with β_0: so no figure,
    that of the validation part included, is told by a model that has seen the sample's label.
    """

    learns: ClassVar[bool] = True
    model: dict[str, Any] | None = None
    """What `fit_router` returned."""

    @property
    def fitted(self) -> bool:
        """Whether there is a β for these orders."""
        return self.model is not None

    def follow(self, order: Sequence[int]) -> None:
        """A model of other orders is dropped."""
        before = self.orders
        super().follow(order)
        if before != self.orders:
            self.model = None

    def answer(
        self,
        fusion: Fusion,
        features: Sequence[Tensor],
        coalitions_SM: Tensor,
        present_BM: Tensor | None = None,
        ids: Sequence[str] | None = None,
    ) -> Tensor:
        """Logits [S, B, C].

        Raises:
            MmeqError: if it was not fitted.
        """
        if not fusion.ordered:
            return super().answer(fusion, features, coalitions_SM, present_BM)
        if self.model is None:
            raise MmeqError(
                "inference=router: no router was fitted for these weights; one is fitted on the "
                "validation part, for the best checkpoint, when a run is trained with "
                "inference=router or callbacks=orders; take another inference, such as per_sample"
            )
        logits_KSBC = fusion.per_order(features, coalitions_SM, self.orders, present_BM)
        row_B = [self.fold_of.get(name, -1) + 1 for name in ids] if ids else [0] * len(features[0])
        beta_BX = self.model["beta"].to(logits_KSBC.device)[row_B]
        return route(logits_KSBC, beta_BX)

    def state(self) -> dict[str, Any] | None:
        """What `fit_router` returned, for the checkpoint."""
        return self.model

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Take a model back if it belongs to these orders."""
        orders = None if state is None else tuple(tuple(order) for order in state["orders"])
        self.model = state if orders == self.orders else None
        self.fold_of: dict[str, int] = {}
        if state is not None:
            self.fold_of = dict(zip(state["ids"], state["folds"], strict=True))


def describe(logits_KSBC: Tensor) -> Tensor:
    """What a router sees of each order's prediction p_k beside the mean one p̄: [K, S, B, X].

    max p_k; p_k's margin of the two top classes; −H(p_k); −KL(p_k ‖ p̄); p̄ at k's class; whether
    k's class is p̄'s; then K indicators of the order itself.
    """
    logp = logits_KSBC.float().log_softmax(-1)
    mean_logp = logits_KSBC.float().mean(0, keepdim=True).log_softmax(-1)
    p = logp.exp()
    own = logp.argmax(-1, keepdim=True)
    ordered = p.topk(min(2, p.shape[-1]), dim=-1).values
    columns = [
        ordered[..., 0],
        ordered[..., 0] - ordered[..., -1],
        (p * logp).sum(-1),
        -(p * (logp - mean_logp)).sum(-1),
        mean_logp.exp().expand_as(p).gather(-1, own)[..., 0],
        (own[..., 0] == mean_logp.argmax(-1)).float(),
    ]
    x_KSBX = torch.stack(columns, -1)
    orders = torch.eye(len(p), device=p.device)[:, None, None].expand(*p.shape[:-1], -1)
    return torch.cat([x_KSBX, orders], -1)


def route(logits_KSBC: Tensor, beta_BX: Tensor) -> Tensor:
    """Mean over orders with weights softmax_k(β_b · x_kb): logits [S, B, C]."""
    score_KSB = torch.einsum("ksbx,bx->ksb", describe(logits_KSBC), beta_BX.float())
    return torch.einsum("ksb,ksbc->sbc", score_KSB.softmax(0).to(logits_KSBC), logits_KSBC)


def fit_router(
    logits_KNC: Tensor,
    label_N: Tensor,
    ids: Sequence[str],
    orders: Sequence[Sequence[int]],
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a router on held-out samples; `Router.load_state` takes what is returned.

    Only samples on which some orders are right and others wrong tell how to choose; with fewer
    than 10 of them β is 0, the plain mean.

    Args:
        logits_KNC: of the coalition of all modalities under each order.
        label_N: true classes.
        ids: of the samples, all different.
        orders: K of them, in the order of the logits.
        seed: of the folds.

    Returns:
        ``beta`` float [1 + F, X], ``orders``, ``ids``, ``folds`` and ``validation``: the
        cross-fitted ``accuracy``, that of the plain mean, and how many samples were ``mixed``.
    """
    x_KNX = describe(logits_KNC[:, None])[:, 0].double().cpu().numpy()
    right_KN = (logits_KNC.argmax(-1) == label_N).cpu().numpy()
    samples = right_KN.shape[1]
    drawn = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    fold_N = (drawn % min(FOLDS, max(samples, 1))).numpy()
    parts = [np.ones(samples, bool), *(fold_N != f for f in range(int(fold_N.max(initial=0)) + 1))]
    fitted = np.stack([_beta(x_KNX[:, part], right_KN[:, part]) for part in parts])
    beta = torch.from_numpy(fitted).float()
    routed_NC = route(logits_KNC[:, None].cpu(), beta[fold_N + 1])[0]
    right = {"accuracy": routed_NC, "mean": logits_KNC.mean(0).cpu()}
    return {
        "orders": [list(order) for order in orders],
        "beta": beta,
        "ids": list(ids),
        "folds": fold_N.tolist(),
        "validation": {
            **{k: float((v.argmax(-1) == label_N.cpu()).double().mean()) for k, v in right.items()},
            "mixed": int((right_KN.any(0) & ~right_KN.all(0)).sum()),
            "samples": samples,
        },
    }


def _beta(x_KNX: np.ndarray, right_KN: np.ndarray) -> np.ndarray:
    """β [X] of one part."""
    from sklearn.linear_model import LogisticRegression

    mixed_N = right_KN.any(0) & ~right_KN.all(0)
    if mixed_N.sum() < LEAST:
        return np.zeros(x_KNX.shape[-1])
    x = x_KNX[:, mixed_N].reshape(-1, x_KNX.shape[-1])
    scale = np.where(np.arange(x.shape[1]) < OWN, x.std(0), 1.0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    model = LogisticRegression(max_iter=1000).fit(x / scale, right_KN[:, mixed_N].reshape(-1))
    return np.asarray(model.coef_[0] / scale)
