"""Scores of modalities: against probabilities written out, with gaps, over ranks."""

from types import SimpleNamespace

import pytest
import torch

from mmeq.methods.base import Features
from mmeq.methods.dominance import ratios, scores

ALONE = SimpleNamespace(mean=lambda value: value)
INF = float("inf")


def logits(chances):
    """[M, B, 2] whose softmax gives these chances to class 1."""
    chance_MB = torch.tensor(chances)
    return torch.stack([(1 - chance_MB).log(), chance_MB.log()], -1)


def features(present=None):
    present_BM = None if present is None else torch.tensor(present, dtype=torch.bool)
    return Features((torch.zeros(2, 4),), present_BM)


LABEL = torch.tensor([1, 0])


def test_scores_and_rivals_by_hand():
    out = logits([[0.9, 0.3], [0.5, 0.5], [0.2, 0.4]])  # of label 0: 0.7, 0.5, 0.6
    score, rival = scores(ALONE, features(), out, LABEL)
    torch.testing.assert_close(score, torch.tensor([0.8, 0.5, 0.4]))
    torch.testing.assert_close(rival, torch.tensor([0.4, 0.4, 0.5]))
    torch.testing.assert_close(ratios(score, rival), torch.tensor([2.0, 1.25, 0.8]))
    score, rival = scores(ALONE, features(), out[:2], LABEL)
    torch.testing.assert_close(ratios(score, rival), torch.tensor([1.6, 0.625]))


def test_who_lacks_a_modality_has_no_part_in_its_score():
    out = logits([[0.9, 0.3], [0.5, 0.5], [0.2, 0.4]])
    score, rival = scores(ALONE, features([[1, 1, 0], [0, 1, 0]]), out, LABEL)
    torch.testing.assert_close(score, torch.tensor([0.9, 0.5, 0.0]))
    torch.testing.assert_close(rival, torch.tensor([0.5, 0.9, 0.5]))  # c is nobody's rival
    score, rival = scores(ALONE, features([[1, 0, 0], [1, 0, 0]]), out, LABEL)
    torch.testing.assert_close(score, torch.tensor([0.8, 0.0, 0.0]))
    assert rival[0] == INF
    assert not (ratios(score, rival) > 1).any()


def test_no_score_is_nan_where_probabilities_vanish():
    out = torch.tensor([[[300.0, 0.0]], [[400.0, 0.0]]])
    row = Features((torch.zeros(1, 4),), None)
    score, rival = scores(ALONE, row, out, torch.tensor([1]))
    assert torch.equal(ratios(score, rival), torch.zeros(2))


@pytest.mark.parametrize("present", [None, [[1, 1, 0], [0, 1, 1]]])
def test_two_ranks_of_one_sample_score_as_one_of_two(present):
    """What all ranks share are sums and counts, not means of means."""
    out = logits([[0.9, 0.3], [0.5, 0.5], [0.2, 0.4]])
    whole = scores(ALONE, features(present), out, LABEL)
    sent = []
    for rank in range(2):
        part = None if present is None else present[rank : rank + 1]
        scores(
            SimpleNamespace(mean=lambda value: sent.append(value) or value),
            features(part),
            out[:, rank : rank + 1],
            LABEL[rank : rank + 1],
        )
    mean = SimpleNamespace(mean=lambda value: torch.stack(sent).mean(0))
    part = None if present is None else present[:1]
    shared = scores(mean, features(part), out[:, :1], LABEL[:1])
    for a, b in zip(shared, whole, strict=True):
        torch.testing.assert_close(a, b)
