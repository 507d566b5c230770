"""Torchmetrics shells: they collect what coalitions predict, over batches and processes.

Legend: B batch, S = 2^M - 1 non-empty coalitions in binary order, C classes, n samples so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mmeq.errors import MmeqError
from mmeq.game.bootstrap import check_draws
from mmeq.game.coalitions import all_coalitions, check_names
from mmeq.game.custom import CustomValue
from mmeq.game.measure import measure_game
from mmeq.game.report import GameReport
from mmeq.game.values import check_frequencies, check_metric, sample_scores


class _Sealed:
    """Hides a result from torchmetrics."""

    def __init__(self, result: Any) -> None:  # noqa: ANN401  a report or a tensor
        self.result = result


class Shell(Metric):
    """A metric whose result reaches the caller as it is.

    Torchmetrics rebuilds collections (it refuses frozen dataclasses) and turns [1] into a scalar.
    """

    full_state_update = False
    is_differentiable = False

    def _wrap_compute(self, compute: Callable[[], Any]) -> Callable[[], Any]:
        sealed = super()._wrap_compute(lambda: _Sealed(compute()))
        return lambda: sealed().result


def distinct_rows(index_n: Tensor) -> Tensor:
    """Return where each index stands first, in ascending order of the indices: integer [N].

    Examples:
        >>> distinct_rows(torch.tensor([7, 3, 7, 5])).tolist()
        [1, 3, 0]
    """
    sorted_n, place_n = index_n.sort(stable=True)
    first_n = torch.ones_like(sorted_n, dtype=torch.bool)
    first_n[1:] = sorted_n[1:] != sorted_n[:-1]
    return place_n[first_n]


class CoalitionGame(Shell):
    """Collects the predictions of all coalitions and plays the game over them.

    The state stays on the device, sample by sample: 5 bytes a coalition. `update` never waits for
    the device. `compute` gathers the samples of all processes, sorts them by index and drops
    repeated ones, so its report does not depend on batches, processes or padding, to the last
    bit.

    Args:
        modalities: M names, at most 12.
        class_frequencies: counts or shares of the training labels, [C].
        value: metric that the game is played for: ``accuracy``, ``nll``, ``macro_f1``, or any
            torchmetrics metric of class probabilities (see `CustomValue`), for which the state
            holds the probabilities too: 4C bytes more a coalition and sample.
        draws: bootstrap resamples.
        level: coverage of the intervals.
        seed: seed of the resampling.
        **kwargs: options of `torchmetrics.Metric`.

    Raises:
        MmeqError: for wrong names, frequencies or options.

    Examples:
        >>> metric = CoalitionGame(["image", "text"], torch.tensor([0.5, 0.5]))
        >>> logits_SBC = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]).repeat(3, 1, 1)
        >>> metric.update(logits_SBC, torch.tensor([0, 1]), torch.tensor([0, 1]))
        >>> metric.compute().phi.tolist()
        [0.25, 0.25]
    """

    _STATES = ("prediction", "nll", "label", "index", "probability")

    prediction: list[Tensor]
    nll: list[Tensor]
    label: list[Tensor]
    index: list[Tensor]
    probability: list[Tensor]

    def __init__(
        self,
        modalities: Sequence[str],
        class_frequencies: Tensor,
        value: str | Metric = "accuracy",
        draws: int = 1000,
        level: float = 0.95,
        seed: int = 0,
        **kwargs: Any,  # noqa: ANN401  torchmetrics' own options
    ) -> None:
        super().__init__(**kwargs)
        self.modalities = check_names(modalities)
        check_draws(draws, level)
        self.draws, self.level, self.seed = draws, level, seed
        self.class_frequencies = check_frequencies(class_frequencies).cpu().tolist()
        self.custom: CustomValue | None = None
        if isinstance(value, Metric):
            self.custom = CustomValue(value, len(self.class_frequencies))
        self.value = check_metric(value) if isinstance(value, str) else "accuracy"
        for name in self._STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._add_no_samples()
        self._played: dict[str, Tensor] = {}

    def _add_no_samples(self) -> None:
        # A process without samples must gather tensors of the same type and rank as the others.
        coalitions = 2 ** len(self.modalities) - 1
        kind = torch.uint8 if len(self.class_frequencies) <= 256 else torch.int32
        self.prediction.append(torch.zeros(0, coalitions, dtype=kind, device=self.device))
        self.nll.append(torch.zeros(0, coalitions, device=self.device))
        self.label.append(torch.zeros(0, dtype=torch.int64, device=self.device))
        self.index.append(torch.zeros(0, dtype=torch.int64, device=self.device))
        classes = len(self.class_frequencies) if self.custom is not None else 0
        self.probability.append(torch.zeros(0, coalitions, classes, device=self.device))

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self._add_no_samples()

    def update(self, logits_SBC: Tensor, label_B: Tensor, index_B: Tensor) -> None:
        """Add a batch.

        Args:
            logits_SBC: real [S, B, C], the non-empty coalitions in binary order.
            label_B: integer [B]. Labels outside the classes are refused by `compute`.
            index_B: integer [B], which sample it is; equal numbers count once.

        Raises:
            MmeqError: if the shapes do not fit.
        """
        expected = (2 ** len(self.modalities) - 1, len(label_B), len(self.class_frequencies))
        if tuple(logits_SBC.shape) != expected or index_B.shape != label_B.shape:
            raise MmeqError(
                f"expected logits {expected} (coalitions, samples, classes) and an index for each "
                f"label, got logits {tuple(logits_SBC.shape)}, index {tuple(index_B.shape)}"
            )
        prediction_BS, nll_BS = sample_scores(logits_SBC, label_B)
        self.prediction.append(prediction_BS)
        self.nll.append(nll_BS)
        self.label.append(label_B.detach().long())
        self.index.append(index_B.detach().long())
        kept_BSC = logits_SBC.detach().transpose(0, 1)[..., : None if self.custom else 0]
        self.probability.append(kept_BSC.float().softmax(-1))

    @property
    def coalitions_SM(self) -> Tensor:
        """The coalitions that `update` takes, bool [S, M]: all non-empty ones."""
        return all_coalitions(len(self.modalities))[1:]

    def collect(
        self,
        logits_SBC: Tensor,
        features: Sequence[Tensor],
        present_BM: Tensor,
        label_B: Tensor,
        index_B: Tensor,
    ) -> None:
        """`update` under the signature that all games share."""
        self.update(logits_SBC, label_B, index_B)

    def report(self, scorer: Any = None) -> GameReport:  # noqa: ANN401  what only others need
        """`compute` under the name that all games share."""
        report: GameReport = self.compute()
        return report

    def compute(self) -> GameReport:
        """Play the game over all samples of all processes.

        Raises:
            MmeqError: if there is no sample, a label is outside the classes, or a loss is NaN or
                infinite.
        """
        prediction_nS, nll_nS, label_n, index_n, probability_nSC = (
            dim_zero_cat(getattr(self, name)).cpu() for name in self._STATES
        )
        row_N = distinct_rows(index_n)
        self._played = {
            "prediction_NS": prediction_nS[row_N],
            "nll_NS": nll_nS[row_N],
            "label_N": label_n[row_N],
            "probability_NSC": probability_nSC[row_N],
        }
        return self._measure(self._played)

    @property
    def labels(self) -> Tensor:
        """Labels [N] of the samples of the last `compute`, in the order of their index."""
        return self._played["label_N"]

    def replay(self, row_n: Tensor) -> GameReport:
        """Play the game of the last `compute` again over some of its samples.

        Args:
            row_n: integer [n], places in `labels`.
        """
        return self._measure({name: data[row_n] for name, data in self._played.items()})

    def _measure(self, samples: dict[str, Tensor]) -> GameReport:
        return measure_game(
            self.modalities,
            class_frequencies=torch.tensor(self.class_frequencies, dtype=torch.float64),
            value=self.value,
            draws=self.draws,
            level=self.level,
            seed=self.seed,
            custom=self.custom,
            **samples,
        )


class CoalitionAccuracy(Shell):
    """Accuracy of every coalition from sums alone: no intervals, memory independent of samples.

    Repeated samples count as often as they come.

    Args:
        coalitions: number of coalitions S, in whatever order the logits have.
        **kwargs: options of `torchmetrics.Metric`.

    Raises:
        MmeqError: if there is no coalition.

    Examples:
        >>> metric = CoalitionAccuracy(1)
        >>> metric(torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]), torch.tensor([0, 0]))
        tensor([0.5000])
    """

    higher_is_better = True

    hits: Tensor
    total: Tensor

    def __init__(self, coalitions: int, **kwargs: Any) -> None:  # noqa: ANN401  torchmetrics' own
        super().__init__(**kwargs)
        if coalitions < 1:
            raise MmeqError(f"coalitions must be at least 1, got {coalitions}")
        self.coalitions = coalitions
        zeros = torch.zeros(coalitions, dtype=torch.int64)
        self.add_state("hits", default=zeros, dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits_SBC: Tensor, label_B: Tensor) -> None:
        """Add a batch.

        Args:
            logits_SBC: real [S, B, C].
            label_B: integer [B].

        Raises:
            MmeqError: if the shapes do not fit.
        """
        if logits_SBC.ndim != 3 or logits_SBC.shape[:2] != (self.coalitions, len(label_B)):
            raise MmeqError(
                f"expected logits ({self.coalitions}, {len(label_B)}, classes), "
                f"got {tuple(logits_SBC.shape)}"
            )
        self.hits += (logits_SBC.argmax(-1) == label_B).sum(1)
        self.total += len(label_B)

    def compute(self) -> Tensor:
        """Return the accuracy of every coalition, float32 [S]; NaN without samples."""
        return self.hits / self.total
