"""A game for any torchmetrics metric: equal to mmeq's own where both exist, refused where unfit."""

import pytest
import torch
from torchmetrics import MeanSquaredError
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from mmeq.errors import MmeqError
from mmeq.game import CoalitionGame
from mmeq.game.custom import CustomValue

NAMES, C, N = ("a", "b"), 3, 40
PRIOR = torch.tensor([0.5, 0.3, 0.2])


def report(value, parts=1):
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(C, (N,), generator=generator)
    logits = torch.randn(3, N, C, generator=generator)
    logits[:, torch.arange(N), label] += torch.tensor([0.5, 1.0, 2.0])[:, None]
    game = CoalitionGame(NAMES, PRIOR, value=value, draws=100)
    for rows in torch.arange(N).chunk(parts):
        game.update(logits[:, rows], label[rows], rows)
    return game.compute()


def test_equals_the_built_in_accuracy():
    own, custom = report("accuracy"), report(MulticlassAccuracy(C, average="micro"))
    assert custom.value == "multiclass_accuracy"
    torch.testing.assert_close(custom.phi, own.phi, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(custom.phi_low, own.phi_low, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(custom.game, own.game, atol=1e-6, rtol=1e-6)
    assert set(custom.values) == {"accuracy", "nll", "macro_f1", "multiclass_accuracy"}


def test_equals_the_built_in_macro_f1():
    own, custom = report("macro_f1"), report(MulticlassF1Score(C, average="macro"))
    torch.testing.assert_close(custom.phi, own.phi, atol=1e-6, rtol=1e-6)


def test_batches_do_not_matter_and_efficiency_holds():
    one, many = report(MulticlassAUROC(C)), report(MulticlassAUROC(C), parts=7)
    assert torch.equal(one.phi, many.phi)
    assert float(one.phi.sum()) == pytest.approx(float(one.game[-1] - one.game[0]))
    assert float(one.game[0]) == pytest.approx(0.5)  # a constant ranks nobody
    assert bool((one.phi_low <= one.phi).all() & (one.phi <= one.phi_high).all())


def test_less_is_better_is_played_for_its_negative():
    custom = report(MulticlassCalibrationError(C))
    assert not custom.higher_is_better
    torch.testing.assert_close(custom.game, -custom.values[custom.value])


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda: MulticlassAccuracy(C + 1), "probabilities"),
        (lambda: MulticlassF1Score(C, average=None), "3 numbers"),
        (lambda: MulticlassConfusionMatrix(C), "more of it is better"),
        (lambda: MeanSquaredError(), "probabilities"),
    ],
)
def test_a_metric_that_cannot_be_a_value_is_refused(metric, message):
    with pytest.raises(MmeqError, match=message):
        CustomValue(metric(), C)
