"""Against shapiq, which only the tests install: its numba and llvmlite weigh 200 MB."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmeq.game.estimators import estimate
from tests.game.estimators.games import saturating, table_game, voting

GAMES = {
    "random": table_game(8, 0)[0],
    "voting": voting([1, 2, 3, 4, 5, 6, 7, 8], quota=19)[0],
    "saturating": saturating(8, 0),
}


def numpy_game(value):
    return lambda rows: value(torch.from_numpy(np.atleast_2d(rows).astype(bool))).numpy()


def theirs(values):
    return torch.tensor([values[(m,)] for m in range(8)], dtype=torch.float64)


@pytest.mark.parametrize("game", GAMES)
def test_exact_computer(game):
    from shapiq.game_theory.exact import ExactComputer

    computer = ExactComputer(numpy_game(GAMES[game]), n_players=8)
    torch.testing.assert_close(
        estimate(GAMES[game], 8).phi, theirs(computer("SV")), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        estimate(GAMES[game], 8, "banzhaf").phi, theirs(computer("BV")), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(
    ("estimator", "name"), [("kernel", "KernelSHAP"), ("permutation", "PermutationSamplingSV")]
)
def test_their_estimators_within_the_errors(game, estimator, name):
    import shapiq.approximator

    kind, options = getattr(shapiq.approximator, name), {}
    if name == "KernelSHAP":
        options = {"pairing_trick": True}
    play = numpy_game(GAMES[game])
    found = [
        theirs(kind(8, random_state=seed, **options).approximate(120, play)) for seed in range(10)
    ]
    ours = [estimate(GAMES[game], 8, estimator, 120, seed) for seed in range(10)]
    se = torch.stack([run.se.square() for run in ours]).mean(0).sqrt()
    gap = torch.stack(found).mean(0) - torch.stack([run.phi for run in ours]).mean(0)
    assert (gap.abs() < 5 * se * (2 / 10) ** 0.5 + 1e-9).all()
