"""LFM: its steps against InfoNCE written out, the schedule's numbers, gaps."""

import copy
import math
from functools import partial
from itertools import combinations, pairwise

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.base import Features
from mmeq.methods.lfm import Lfm, info_nce


def with_gaps(batches, rate=0.3):
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        present = torch.rand(batch["present"].shape, generator=generator) > rate
        present[~present.any(1), 0] = True
        batch["present"] = present
        for m, name in enumerate(batch["inputs"]):
            batch["inputs"][name][~present[:, m]] = 0.0
    return batches


def reference_alignment(graph, present, temperature):
    """−log of the positive's share among the candidates, both ways, sample by sample."""
    pairs = []
    for a, b in combinations(range(len(graph)), 2):
        both = [i for i in range(len(present)) if present[i, a] and present[i, b]]
        terms = []
        for one, other in ((a, b), (b, a)):
            for i in both:
                near = {
                    j: torch.exp(
                        F.cosine_similarity(graph[one][i], graph[other][j], dim=0) / temperature
                    )
                    for j in both
                }
                terms.append(-torch.log(near[i] / sum(near.values())))
        pairs.append(torch.stack(terms).mean() if len(both) > 1 else torch.zeros(()))
    return torch.stack(pairs).mean()


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_two_epochs_equal_plain_pytorch(count, complete):
    spec = toy_spec(count, complete=complete)
    module = toy_module(spec, method=partial(Lfm, temperature=0.5), fusion=Concat)
    batches = toy_batches(spec, batch=8, count=2)
    if not complete:
        batches = with_gaps(batches)
    encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
    fit(module, batches, epochs=2)

    fusion.train()
    for share in (0.95, 1 - math.exp(-1)):
        for batch in batches:
            graph = [encoders[n](batch["inputs"][n]) for n in spec.names]
            present = None if complete else batch["present"]
            fusion.observe(graph, present)
            every = torch.ones(1, count, dtype=torch.bool)
            joint = F.cross_entropy(fusion(graph, every, None, present)[0], batch["label"])
            alignment = reference_alignment(graph, batch["present"], 0.5)
            loss = 2 * (1 - share) * joint + 2 * share * alignment
            parameters = [*encoders.parameters(), *fusion.parameters()]
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.1 * gradient
    for ours, theirs in ((module.encoders, encoders), (module.fusion, fusion)):
        for (name, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)


def test_schedules_by_hand():
    reciprocal = [Lfm("ab").alignment_share(t) for t in range(100)]
    assert reciprocal[:4] == pytest.approx([0.95, 0.632121, 0.393469, 0.283469], abs=1e-6)
    exponential = [Lfm("ab", schedule="exponential").alignment_share(t) for t in range(100)]
    assert exponential[:4] == pytest.approx([0.95, 0.740818, 0.548812, 0.406570], abs=1e-6)
    for shares in (reciprocal, exponential):
        assert all(late <= early for early, late in pairwise(shares))
        assert shares[-1] == 0.05
    assert Lfm("ab", least=0.0).alignment_share(1000) == pytest.approx(1e-3, rel=1e-3)
    assert Lfm("ab", most=0.5).alignment_share(0) == 0.5


def test_the_epoch_alone_sets_the_weight():
    """Nothing to restore: a resumed epoch has the weight of its number."""
    spec = toy_spec(2)
    module = toy_module(spec, method=Lfm, fusion=Concat)
    fit(module, toy_batches(spec), epochs=3)
    assert module.method.describe() == {"alignment_share": pytest.approx(1 - math.exp(-1 / 2))}
    fresh = Lfm("ab")
    fresh.load_state_dict(module.method.state_dict())
    fresh.on_epoch_start(type("At", (), {"epoch": 3}))
    assert fresh.describe() == {"alignment_share": pytest.approx(1 - math.exp(-1 / 3))}


def test_negatives_count():
    """Features that are all alike agree and say nothing: ln B, not 0 as for a mere divergence."""
    same = F.normalize(torch.ones(8, 4), dim=-1)
    assert float(info_nce(same, same, 0.07)) == pytest.approx(math.log(8), rel=1e-5)
    apart = torch.eye(8)
    assert float(info_nce(apart, apart, 0.07)) < 1e-4
    assert float(info_nce(apart, apart.roll(1, 0), 0.07)) > 10


def test_samples_without_both_are_no_candidates():
    generator = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(6, 5, generator=generator), dim=-1) for _ in range(2))
    both = torch.tensor([True, False, True, True, False, True])
    torch.testing.assert_close(info_nce(a, b, 0.1, both), info_nce(a[both], b[both], 0.1))


@pytest.mark.parametrize("having", [0, 1])
def test_fewer_than_two_samples_are_no_loss(having):
    rows = tuple(torch.randn(4, 3, requires_grad=True) for _ in range(2))
    present = torch.ones(4, 2, dtype=torch.bool)
    present[having:, 1] = False
    loss = Lfm("ab").alignment(Features(rows, present))
    assert float(loss.detach()) == 0
    for gradient in torch.autograd.grad(loss, rows):
        assert not gradient.any()  # NaN neither


def test_learns_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=8))
    module = toy_module(spec, method=Lfm, fusion=Concat)
    fit(module, batches, batches, epochs=6)
    assert float(module.report.full) > 1.5 / CLASSES
    assert set(module.train_losses) == {"joint", "alignment"}
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_one_modality_is_refused():
    with pytest.raises(MmeqError, match="at least 2"):
        toy_module(toy_spec(1), method=Lfm)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("schedule", "reciprocl"),
        ("rate", -0.1),
        ("most", 1.1),
        ("least", 0.96),
        ("temperature", 0.0),
        ("temperature", float("nan")),
    ],
)
def test_wrong_option_is_named(option, value):
    with pytest.raises(MmeqError, match=f"method.{option}"):
        Lfm("ab", **{option: value})
