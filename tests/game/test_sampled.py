"""The sampled game: equal to the exact one where the budget allows, near it where not."""

import pytest
import torch
from toy import fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.game import CoalitionGame, all_coalitions
from mmeq.game.choice import check_estimator, make_game
from mmeq.game.sampled import SampledGame

N, D, C = 150, 4, 3


def played(modalities, value="accuracy", estimator="auto", budget=None, parts=3):
    """Features, and logits that are a sum over members; the game over them."""
    generator = torch.Generator().manual_seed(modalities)
    label = torch.randint(C, (N,), generator=generator)
    weight = torch.randn(modalities, D, C, generator=generator)
    signal = torch.nn.functional.one_hot(label, C).float()
    rows = [
        signal @ weight[m].T * (0.1 + 0.05 * m) + torch.randn(N, D, generator=generator)
        for m in range(modalities)
    ]

    def scorer(rows, present, coalitions):
        terms = torch.stack([row @ w for row, w in zip(rows, weight, strict=True)])
        members = coalitions.float()[:, None, :] * present.float()
        return torch.einsum("snm,mnc->snc", members, terms)

    names = [f"m{k}" for k in range(modalities)]
    prior = torch.bincount(label, minlength=C).float()
    game = SampledGame(names, prior, D, value=value, estimator=estimator, budget=budget)
    present = torch.ones(N, modalities, dtype=torch.bool)
    for part in torch.arange(N).chunk(parts):
        game.update([row[part] for row in rows], present[part], label[part], part)
    exact = None
    if modalities <= 8:
        whole = CoalitionGame(names, prior, value=value)
        whole.update(scorer(rows, present, all_coalitions(modalities)[1:]), label, torch.arange(N))
        exact = whole.compute()
    return game, scorer, exact


@pytest.mark.parametrize("value", ["accuracy", "nll", "macro_f1"])
def test_equals_the_exact_game_when_all_coalitions_fit(value):
    game, scorer, exact = played(4, value)
    report = game.report(scorer)
    torch.testing.assert_close(report.phi, exact.phi, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(report.alone, exact.alone, atol=1e-6, rtol=1e-6)
    assert report.full == pytest.approx(exact.full)
    assert report.edm == pytest.approx(exact.edm, nan_ok=True)
    assert report.banzhaf_gap_se.isnan().all()
    off = ~torch.eye(4, dtype=torch.bool)
    ratio = report.alone_gap_se[off] / exact.alone_gap_se[off]
    assert 0.8 < float(ratio.min()) <= float(ratio.max()) < 1.25
    ratio = report.phi_se / exact.phi_se
    assert 0.6 < float(ratio.min()) <= float(ratio.max()) < 1.6


@pytest.mark.parametrize(
    "estimator", ["permutation", "antithetic", "kernel", "regression_adjusted"]
)
def test_estimates_lie_within_their_errors(estimator):
    game, scorer, exact = played(8, estimator=estimator, budget=150)
    report = game.report(scorer)
    assert report.estimator == estimator
    assert report.evaluations <= 150
    assert float(((report.phi - exact.phi) / report.phi_se).abs().max()) < 4
    assert float(report.phi.sum()) == pytest.approx(float(report.game[-1] - report.game[0]))


def test_batches_do_not_matter_and_part_of_the_samples_can_be_replayed():
    one, many = played(6, parts=1), played(6, parts=7)
    reports = [game.report(scorer) for game, scorer, _ in (one, many)]
    assert torch.equal(reports[0].phi, reports[1].phi)
    some = one[0].replay(torch.arange(0, N, 2))
    assert some.samples == N // 2
    assert not torch.equal(some.phi, reports[0].phi)


def test_many_modalities_train_end_to_end():
    """Fourteen modalities: alternation, memory, estimated values, an order."""
    spec = toy_spec(14)
    module = toy_module(spec, budget=200)
    batches = toy_batches(spec)
    fit(module, batches, batches, epochs=2)
    report = module.report
    assert report.estimator == "regression_adjusted"
    assert report.evaluations <= 200
    assert len(report.coalitions) == 30
    assert float(report.phi.sum()) == pytest.approx(float(report.game[-1] - report.game[0]))
    assert sorted(module.method.order) == list(range(14))
    assert report.as_dict()["alone"]["a"] == pytest.approx(float(report.alone[0]))


def test_the_choice_and_its_refusals():
    prior = torch.ones(C)
    names = [f"m{k}" for k in range(14)]
    assert isinstance(make_game(names[:12], prior, D), CoalitionGame)
    assert isinstance(make_game(names, prior, D), SampledGame)
    assert isinstance(make_game(names[:3], prior, D, estimator="kernel", budget=8), SampledGame)
    for modalities, estimator, budget, message in (
        (14, "exact", None, "at most 12"),
        (3, "auto", 4, "leave the budget out"),
        (14, "antithetic", 5, "raise it"),
        (3, "banzhaf", None, "Banzhaf, not Shapley"),
        (3, "shaply", None, "unknown estimator"),
    ):
        with pytest.raises(MmeqError, match=message):
            check_estimator(modalities, estimator, budget)
