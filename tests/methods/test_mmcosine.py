"""Cosine logits: against torch's cosine similarity, one step by hand, what they ignore."""

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from toy import CLASSES, DIM, SGD, fit, toy_batches, toy_module, toy_spec

from mmeq.errors import MmeqError
from mmeq.fusions.concat import Concat
from mmeq.methods.base import Features
from mmeq.methods.mmcosine import MmCosine

PRIOR = torch.full((CLASSES,), 1 / CLASSES).log()


def module_of(spec, scale=15.0, optimizer=SGD):
    return toy_module(
        spec, method=partial(MmCosine, scale=scale), fusion=Concat, optimizer=optimizer
    )


def cosine_sum(weight_MCD, rows, scale, present_BM=None):
    """Σ_m scale · cos(W_m, h_m), sample by sample and class by class."""
    batch = len(rows[0])
    logits = torch.zeros(batch, weight_MCD.shape[1])
    for m, h in enumerate(rows):
        cos = F.cosine_similarity(h[:, None], weight_MCD[m][None], dim=-1)
        here = torch.ones(batch) if present_BM is None else present_BM[:, m].float()
        logits = logits + scale * cos * here[:, None]
    return logits


def with_gaps(batches, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        batch["present"] = torch.rand(batch["present"].shape, generator=generator) > 0.4
    batches[0]["present"][0] = False
    return batches


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("modalities", [2, 3])
def test_training_equals_plain_pytorch(modalities, complete):
    spec = toy_spec(modalities, complete)
    batches = toy_batches(spec, count=2)
    if not complete:
        batches = with_gaps(batches)
    module = module_of(spec, scale=4.0)
    encoders = copy.deepcopy(module.encoders)
    weight = module.method.weight_MCD.detach().clone().requires_grad_()
    fit(module, batches)

    optimizer = torch.optim.SGD([*encoders.parameters(), weight], lr=0.1)
    for batch in batches:
        rows = [encoders[n](batch["inputs"][n]) for n in spec.names]
        present = batch["present"]
        logits = cosine_sum(weight, rows, 4.0, present)
        logits = torch.where(present.any(1, keepdim=True), logits, PRIOR)
        optimizer.zero_grad()
        F.cross_entropy(logits, batch["label"]).backward()
        optimizer.step()
    torch.testing.assert_close(module.method.weight_MCD, weight, atol=1e-5, rtol=1e-5)
    for (name, ours), theirs in zip(
        module.encoders.named_parameters(), encoders.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("modalities", [2, 3])
def test_every_coalition_is_the_sum_of_its_own_cosines(modalities):
    """The fused answer too: not the linear layer with bias that the released code validates by."""
    spec = toy_spec(modalities)
    module = module_of(spec).eval()
    torch.nn.init.normal_(module.fusion.bias_C, std=50.0)  # nobody asks the fusion
    rows = [torch.randn(7, DIM) for _ in spec.names]
    masks = torch.cartesian_prod(*[torch.tensor([False, True])] * modalities)
    found = module.method.logits(module, Features(tuple(rows), None), masks)
    weight = module.method.weight_MCD
    for mask, logits in zip(masks, found, strict=True):
        expected = cosine_sum(weight, rows, 15.0, mask.expand(7, -1))
        expected = expected if mask.any() else PRIOR.expand(7, -1)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_norms_do_not_matter_and_samples_are_on_their_own():
    spec = toy_spec(2, complete=False)
    module = module_of(spec).eval()
    rows = [torch.randn(6, DIM) for _ in spec.names]
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1], [1, 1]], dtype=torch.bool)
    masks = torch.tensor([[True, True], [True, False]])
    method = module.method
    found = method.logits(module, Features(tuple(rows), present), masks)
    torch.testing.assert_close(found[1, 2], PRIOR)
    torch.testing.assert_close(found[0, 1], found[1, 1])
    alone = [
        method.logits(
            module, Features(tuple(h[i : i + 1] for h in rows), present[i : i + 1]), masks
        )
        for i in range(6)
    ]
    torch.testing.assert_close(torch.cat(alone, 1), found)
    with torch.no_grad():
        method.weight_MCD[0] *= 30
    louder = Features((rows[0] * 100, rows[1] * 0.01), present)
    torch.testing.assert_close(method.logits(module, louder, masks), found, atol=1e-4, rtol=1e-4)
    zero = method.logits(module, Features((rows[0] * 0, rows[1]), present), masks)
    assert torch.isfinite(zero).all()


def test_fusion_is_left_alone_and_the_classes_are_learnt_with_gaps():
    spec = toy_spec(3, complete=False)
    batches = with_gaps(toy_batches(spec, count=8))
    adam = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    module = module_of(spec, optimizer=adam)
    before = [p.detach().clone() for p in module.fusion.parameters()]
    trainer = fit(module, batches, batches, epochs=5)
    assert all(torch.equal(a, b) for a, b in zip(before, module.fusion.parameters(), strict=True))
    state = trainer.optimizers[0].state
    assert not any(p in state for p in module.fusion.parameters())
    assert module.method.weight_MCD in state
    assert float(module.report.full) > 1.5 / CLASSES
    assert set(module.train_losses) == {"joint"}
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_weights_survive_a_checkpoint_and_wrong_options_are_named():
    one, two = (MmCosine("ab", dim=DIM, classes=CLASSES) for _ in range(2))
    assert one.scale == 15
    assert not torch.equal(one.weight_MCD, two.weight_MCD)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.weight_MCD, two.weight_MCD)
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(MmeqError, match=r"method.scale"):
            MmCosine("ab", scale=scale, dim=DIM, classes=CLASSES)
