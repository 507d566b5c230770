"""Contract of every estimator, and the front door's choice and errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.game import coalition_index
from mmeq.game.estimators import DEFAULT_BUDGET, ESTIMATORS, choose, estimate, minimum_budget
from tests.game.estimators.games import (
    SAMPLED,
    SHAPLEY,
    Counted,
    additive,
    index,
    pairwise,
    saturating,
    solved,
    table_game,
    unanimity,
    voting,
)

axioms = settings(max_examples=25, deadline=None)
every_shapley = pytest.mark.parametrize("estimator", [*SHAPLEY, "auto"])
every_sampled = pytest.mark.parametrize("estimator", SAMPLED)
games = st.tuples(st.integers(1, 7), st.integers(0, 2**31))


@every_shapley
@axioms
@given(games, st.integers(0, 3))
def test_whole_budget_is_exact(estimator, game, seed):
    value, phi, _ = table_game(*game)
    found = estimate(value, game[0], estimator, budget=2 ** game[0], seed=seed)
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-8)
    assert found.se.max() < 1e-8
    assert found.evaluations <= 2 ** game[0]


@every_shapley
@axioms
@given(st.integers(2, 7), st.integers(0, 2**31), st.data())
def test_symmetry(estimator, modalities, seed, data):
    i, j = data.draw(st.permutations(range(modalities)))[:2]
    swapped = list(range(modalities))
    swapped[i], swapped[j] = j, i
    base, _, _ = table_game(modalities, seed)
    found = estimate(lambda c: base(c) + base(c[:, swapped]), modalities, estimator)
    assert found.phi[i].item() == pytest.approx(found.phi[j].item(), abs=1e-8)


@every_shapley
@axioms
@given(games, st.data())
def test_dummy(estimator, game, data):
    m = data.draw(st.integers(0, game[0] - 1))
    base, _, _ = table_game(*game)

    def value(c):
        without = c.clone()
        without[:, m] = False
        return base(without) + 0.7 * c[:, m].double()

    assert estimate(value, game[0], estimator).phi[m].item() == pytest.approx(0.7, abs=1e-8)


@every_shapley
@axioms
@given(games, st.integers(0, 2**31), st.floats(-3, 3))
def test_linearity(estimator, game, other, factor):
    (first, phi, _), (second, psi, _) = table_game(*game), table_game(game[0], other)
    found = estimate(lambda c: first(c) + factor * second(c), game[0], estimator)
    torch.testing.assert_close(found.phi, phi + factor * psi, rtol=0, atol=1e-7)


@every_sampled
@axioms
@given(st.integers(5, 9), st.integers(0, 2**31), st.integers(0, 400), st.integers(0, 3))
def test_efficiency_and_count_within_any_budget(estimator, modalities, seed, more, draw):
    value, _, _ = table_game(modalities, seed)
    counted = Counted(value)
    budget = minimum_budget(estimator, modalities) + more
    found = estimate(counted, modalities, estimator, budget, draw)
    gain = found.full - found.empty
    assert found.phi.sum().item() == pytest.approx(gain, abs=1e-8)
    ends = torch.tensor([[False], [True]]).expand(-1, modalities)
    assert [found.empty, found.full] == value(ends).tolist()
    assert found.evaluations == len(counted.asked) == len(set(counted.asked)) <= budget
    assert counted.calls <= 2
    assert bool(torch.isfinite(found.se).all())


KNOWN = {
    "additive": lambda M: additive(M, 1),
    "pairwise": lambda M: pairwise(M, 2),
    "unanimity": lambda M: unanimity(M, range(1, M, 3)),
    "voting": lambda M: voting([1 + (7 * m) % 5 for m in range(M)], quota=M + 3),
}


@every_sampled
@pytest.mark.parametrize("modalities", [5, 10, 16, 24])
@pytest.mark.parametrize("game", KNOWN)
def test_unbiased_within_its_errors_on_known_games(estimator, modalities, game):
    """The mean over 12 seeds lies within its own reported error (5 of them) of the truth."""
    value, phi = KNOWN[game](modalities)
    budget = max(20 * modalities, 30) if modalities > 5 else 26
    runs = [estimate(value, modalities, estimator, budget, seed) for seed in range(12)]
    error = torch.stack([run.phi for run in runs]).mean(0) - phi
    se = torch.stack([run.se.square() for run in runs]).mean(0).sqrt() / math.sqrt(12)
    assert bool((error.abs() <= 5 * se + 1e-9).all()), (error / se).abs().max()


@every_sampled
@pytest.mark.parametrize("modalities", [5, 10, 12])
def test_unbiased_within_its_errors_on_a_random_game(estimator, modalities):
    value, phi, _ = table_game(modalities, 3)
    budget = 20 * modalities if modalities > 5 else 26
    runs = [estimate(value, modalities, estimator, budget, seed) for seed in range(20)]
    error = torch.stack([run.phi for run in runs]).mean(0) - phi
    se = torch.stack([run.se.square() for run in runs]).mean(0).sqrt() / math.sqrt(20)
    assert bool((error.abs() <= 5 * se).all())


@every_sampled
@pytest.mark.parametrize(("modalities", "budget"), [(8, 90), (10, 300), (12, 400)])
@pytest.mark.parametrize("kind", ["random", "saturating"])
def test_errors_are_calibrated(estimator, modalities, budget, kind):
    value = saturating(modalities, 1) if kind == "saturating" else table_game(modalities, 1)[0]
    phi = solved(value, modalities)
    runs = [estimate(value, modalities, estimator, budget, seed) for seed in range(30)]
    z = torch.stack([(run.phi - phi) / run.se for run in runs])
    assert 0.6 < z.square().mean() < 1.7
    gap = torch.stack(
        [(run.phi[0] - run.phi[1] - phi[0] + phi[1]) / run.gap_se[0, 1] for run in runs]
    )
    assert 0.4 < gap.square().mean() < 2.3


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_seeds_agree_and_others_differ(estimator):
    value, _, _ = table_game(9, 0)
    budget = 512 if estimator == "exact" else 120
    first, again, other = (estimate(value, 9, estimator, budget, seed) for seed in (4, 4, 5))
    assert torch.equal(first.phi, again.phi)
    assert torch.equal(first.cov, again.cov)
    assert estimator == "exact" or not torch.equal(first.phi, other.phi)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("modalities", [1, 2, 3, 4, 5, 9])
def test_smallest_budget_serves_and_one_less_does_not(estimator, modalities):
    value, _, _ = table_game(modalities, 0)
    least = minimum_budget(estimator, modalities)
    found = estimate(value, modalities, estimator, least)
    assert bool(torch.isfinite(found.phi).all() and torch.isfinite(found.se).all())
    assert found.evaluations <= least
    with pytest.raises(
        MmeqError, match=rf"{estimator} needs .* at least {least} .* got budget={least - 1}"
    ):
        estimate(value, modalities, estimator, least - 1)


def test_message_says_what_would_work():
    value, _, _ = table_game(12, 0)
    with pytest.raises(MmeqError, match="raise it to 50, or use one of: permutation, antithetic"):
        estimate(value, 12, "kernel", 46)
    with pytest.raises(MmeqError, match=r"serves at most 12 modalities, got 13: use one of: perm"):
        estimate(value, 13, "exact")
    with pytest.raises(MmeqError, match="serves at most 62 modalities, got 63: merge"):
        estimate(value, 63, "kernel")
    with pytest.raises(MmeqError, match="did you mean 'kernel'"):
        estimate(value, 12, "kernal")


@pytest.mark.parametrize("modalities", [0, -1, []])
def test_refuses_no_modality(modalities):
    with pytest.raises(MmeqError, match="at least one modality"):
        estimate(lambda c: c.sum(1), modalities)


@pytest.mark.parametrize("modalities", [True, "ab", ["a", "a"]])
def test_refuses_what_names_no_modalities(modalities):
    with pytest.raises(MmeqError, match="modalit"):
        estimate(lambda c: c.sum(1), modalities)


@pytest.mark.parametrize("budget", [True, 8.0, "8"])
def test_refuses_a_budget_that_is_no_number(budget):
    with pytest.raises(MmeqError, match="budget must be a whole number"):
        estimate(lambda c: c.sum(1), 3, budget=budget)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_names_the_coalition_whose_value_is_not_finite(estimator, bad):
    row = coalition_index([0, 2])

    def value(c):
        return torch.where(index(c) == row, bad, 1.0)

    with pytest.raises(MmeqError, match=r"coalition audio\+text is (nan|inf)"):
        estimate(value, ["audio", "video", "text"], estimator, 8)


@pytest.mark.parametrize("result", [torch.zeros(2), torch.zeros(8, 1), torch.zeros(8).cfloat()])
def test_refuses_values_of_a_wrong_shape(result):
    with pytest.raises(MmeqError, match="must return 8 real numbers"):
        estimate(lambda c: result, 3)


def test_auto_chooses_and_says_why():
    value = saturating(16, 0)
    cases = [(16, None, "regression_adjusted"), (16, 80, "regression_adjusted")]
    cases += [(16, 79, "antithetic"), (16, 40, "permutation"), (12, None, "exact")]
    cases += [(5, 32, "exact"), (5, 31, "regression_adjusted"), (1, None, "exact")]
    for modalities, budget, name in cases:
        found = estimate(lambda c: saturating(c.shape[1], 0)(c), modalities, budget=budget)
        assert found.estimator == name
        assert found.reason.startswith(f"{name}: ")
        assert f"2^{modalities}" in found.reason
    assert estimate(value, 16).budget == DEFAULT_BUDGET
    assert estimate(value, 16, "kernel", 100).reason == "kernel was asked for"
    assert choose(13, 8192)[0] == "kernel"


def test_auto_refuses_what_nothing_serves():
    with pytest.raises(MmeqError, match="16 modalities need a budget of at least 32, got 31"):
        choose(16, 31)


def test_all_coalitions_beyond_the_exact_game():
    value, phi = voting([1 + (3 * m) % 4 for m in range(13)], quota=17)
    found = estimate(value, 13, budget=2**13)
    assert "exact" in found.reason
    torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-8)
    assert found.se.max() < 1e-8


def test_many_modalities():
    value, phi = additive(62, 0)
    for estimator in (*SAMPLED, "banzhaf"):
        found = estimate(value, 62, estimator, 600)
        torch.testing.assert_close(found.phi, phi, rtol=0, atol=1e-6)
